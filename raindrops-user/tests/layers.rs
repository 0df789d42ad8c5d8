//! Which part of the library may name what: the rules of docs/architecture.md.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is named, and the only places that may name it. A place is a file or a directory under
/// `src`, without its `.rs`.
const RULES: [(&str, &[&str]); 9] = [
    ("aya", &["source/bpf"]),
    ("aya_log", &["source/bpf"]),
    ("netlink_packet_core", &["source/diag"]),
    ("netlink_packet_sock_diag", &["source/diag"]),
    ("netlink_sys", &["source/diag"]),
    ("syscalls", &["source/proc"]),
    ("ratatui", &["cli/top", "top"]),
    ("tokio", &["cli", "daemon", "publish", "server"]),
    ("anyhow", &["cli", "main"]),
];

/// What does no I/O and reads no clock.
const PURE: [&str; 10] = [
    "diagnose",
    "fact",
    "plan",
    "queue",
    "render",
    "select",
    "snapshot",
    "top",
    "view",
    "view/merge",
];
const IMPURE: [&str; 6] = [
    "std::fs",
    "fs::read",
    "std::net",
    "SystemTime::now",
    "Instant::now",
    "Monotonic::now",
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Path under `src` without the extension, and the code in it that is not a test.
fn modules() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    found
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            let text = fs::read_to_string(path).unwrap();
            let code = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap()
                .to_owned();
            (name.to_str().unwrap().to_owned(), code)
        })
        .filter(|(name, _)| !name.ends_with("tests") && !name.contains("tests/"))
        .collect()
}

fn lies_in(module: &str, place: &str) -> bool {
    module == place || module.starts_with(&format!("{place}/"))
}

/// Whether a line of code, not of comment, names a crate's path.
fn names(code: &str, krate: &str) -> bool {
    let path = format!("{krate}::");
    code.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .any(|line| {
            line.match_indices(&path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            })
        })
}

#[test]
fn crates_are_named_only_where_they_belong() {
    let modules = modules();
    assert!(modules.len() > 30, "the sources were found");
    for (krate, places) in RULES {
        let users: Vec<&str> = modules
            .iter()
            .filter(|(_, code)| names(code, krate))
            .map(|(name, _)| name.as_str())
            .collect();
        assert!(
            !users.is_empty(),
            "nothing names {krate}: a rule that cannot fail"
        );
        for user in users {
            assert!(
                places.iter().any(|place| lies_in(user, place)),
                "{user} names {krate}, which only {places:?} may"
            );
        }
    }
}

#[test]
fn what_is_pure_does_no_io_and_reads_no_clock() {
    for (module, code) in modules() {
        if !PURE.iter().any(|place| lies_in(&module, place)) {
            continue;
        }
        for word in IMPURE {
            assert!(!code.contains(word), "{module} uses {word}");
        }
    }
}
