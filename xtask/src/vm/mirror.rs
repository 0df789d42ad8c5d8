//! The archive that this machine's own apt uses, for another suite.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

const CONFIGURATION: &str = "/etc/apt";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A line of a source list for `suite` of Debian, on the host that this machine's apt asks.
pub fn source_line(suite: &str) -> Result<String> {
    let uri = uri(suite)?.context(
        "apt's sources on this machine name no archive of Debian, which has the kernels: fetch \
         one elsewhere and give it as `--kernel PATH`",
    )?;
    Ok(format!(
        "deb [arch=amd64 signed-by={KEYRING} target=Packages] {uri} {suite} main\n"
    ))
}

/// Where that host has `suite`.
pub fn uri(suite: &str) -> Result<Option<String>> {
    let archives = archives(&sources(Path::new(CONFIGURATION))?);
    Ok(archive(&archives, suite.ends_with("-security")))
}

/// The text of all source lists.
fn sources(directory: &Path) -> Result<Vec<String>> {
    let parts = directory.join("sources.list.d");
    let parts = fs::read_dir(&parts).into_iter().flatten().flatten();
    let parts = parts.map(|entry| entry.path()).filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "list" || extension == "sources")
    });
    let mut files: Vec<_> = parts.collect();
    files.sort();
    files.insert(0, directory.join("sources.list"));
    let files = files.iter().filter(|path| path.exists());
    files
        .map(|path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display())))
        .collect()
}

/// URIs of archives, of either format of source lists.
fn archives(sources: &[String]) -> Vec<String> {
    let lines = sources.iter().flat_map(|text| text.lines().map(str::trim));
    let uris = lines.filter_map(|line| {
        let value = match line.split_once(char::is_whitespace) {
            Some(("deb", rest)) => without_options(rest)?,
            Some(("URIs:", rest)) => rest,
            _ => return None,
        };
        value.split_whitespace().next()
    });
    uris.map(|uri| uri.trim_end_matches('/').to_owned())
        .collect()
}

/// What follows `[...]` in a line of the older format.
fn without_options(rest: &str) -> Option<&str> {
    let rest = rest.trim_start();
    match rest.strip_prefix('[') {
        Some(options) => options.split_once(']').map(|(_, rest)| rest),
        None => Some(rest),
    }
}

/// Debian's archive or its archive of security updates, which lie side by side.
fn archive(archives: &[String], security: bool) -> Option<String> {
    let ends = |end: &str| archives.iter().find(|uri| uri.ends_with(end)).cloned();
    let other = |from: &str, to: &str| {
        let uri = ends(from)?;
        Some(format!("{}{to}", uri.strip_suffix(from)?))
    };
    if security {
        ends("/debian-security").or_else(|| other("/debian", "/debian-security"))
    } else {
        ends("/debian").or_else(|| other("/debian-security", "/debian"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that both formats of source lists name the archives, and that one is derived from
    /// the other where only one is named.
    #[test]
    fn archives_are_found() {
        let older = "# deb http://a.example/debian sid main\n\
                     deb [arch=amd64 signed-by=/k] http://b.example/debian/ bookworm main\n\
                     deb-src http://c.example/debian bookworm main\n";
        let newer = "Types: deb\nURIs: http://d.example/debian-security\nSuites: x-security\n";
        let table = [
            (older, false, Some("http://b.example/debian")),
            (older, true, Some("http://b.example/debian-security")),
            (newer, true, Some("http://d.example/debian-security")),
            (newer, false, Some("http://d.example/debian")),
            ("deb http://e.example/other stable main", false, None),
        ];
        for (text, security, expected) in table {
            let archives = archives(&[text.to_owned()]);
            assert_eq!(
                archive(&archives, security).as_deref(),
                expected,
                "{text}, {security}"
            );
        }
    }
}
