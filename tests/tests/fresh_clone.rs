//! A clone of this repository holds all that a build needs: what is only in somebody's working
//! tree, or is ignored, would be missing for everybody else.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::skip::{self, Need, can_run};

/// Files that are built in or tie the build together, and that are not compiled from anything.
const NEEDED: [&str; 5] = [
    "raindrops-ebpf/prebuilt/raindrops-ebpf.bpf.o",
    "raindrops-ebpf/prebuilt/PROVENANCE",
    "Cargo.lock",
    // The alias `cargo xtask`.
    ".cargo/config.toml",
    ".ci/run",
];

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn git(directory: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(arguments);
    // Set where a hook of git's runs the tests; they would name another repository.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    output(&mut command)
}

fn cargo(directory: &Path, arguments: &[&str]) -> Result<String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    output(Command::new(cargo).current_dir(directory).args(arguments))
}

/// The workspace, if it is the top of a repository that git will read.
fn checkout() -> Option<PathBuf> {
    if !can_run(&[Need::Program("git")]) {
        return None;
    }
    let root = root();
    match git(&root, &["rev-parse", "--show-prefix"]) {
        Ok(prefix) if prefix.is_empty() => Some(root),
        Ok(_) => {
            skip::report("this host cannot: the workspace is only a part of a repository");
            None
        }
        Err(error) => {
            skip::report(&format!("this host cannot: no git checkout: {error:#}"));
            None
        }
    }
}

/// Check that the clone has every file that is built in, as it was committed, and that cargo finds
/// the same packages in it with the same locked dependencies.
#[test]
fn a_clone_is_complete() -> Result<()> {
    let Some(root) = checkout() else {
        return Ok(());
    };
    let directory = tempfile::Builder::new().prefix("raindrops-").tempdir()?;
    let clone = directory.path().join("clone");
    git(&root, &["clone", "--quiet", ".", &clone.to_string_lossy()])?;
    let head = git(&root, &["rev-parse", "HEAD"])?;
    assert_eq!(git(&clone, &["rev-parse", "HEAD"])?, head);

    for path in NEEDED {
        let committed = git(&root, &["rev-parse", &format!("HEAD:{path}")])?;
        // Without filters, because what counts is what the compiler reads.
        let cloned = git(&clone, &["hash-object", "--no-filters", path])?;
        assert_eq!(cloned, committed, "{path}");
    }

    let metadata = [
        "metadata",
        "--locked",
        "--offline",
        "--no-deps",
        "--format-version=1",
    ];
    let metadata: serde_json::Value = serde_json::from_str(&cargo(&clone, &metadata)?)?;
    let mut targets = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        targets.extend(package["targets"].as_array().into_iter().flatten());
    }
    assert!(!targets.is_empty(), "{metadata}");
    for target in targets {
        let source = target["src_path"].as_str().context("a target's source")?;
        assert!(Path::new(source).is_file(), "{source}");
    }
    // Unlike `metadata --no-deps`, this reads Cargo.lock and fails where a manifest needs another.
    for package in ["raindrops-user", "xtask", "raindrops-tests"] {
        cargo(
            &clone,
            &[
                "tree",
                "--quiet",
                "--locked",
                "--offline",
                "--package",
                package,
            ],
        )?;
    }
    Ok(())
}

/// Check that no source is ignored or was forgotten, with which the build works here only.
#[test]
fn every_source_is_in_the_repository() -> Result<()> {
    let Some(root) = checkout() else {
        return Ok(());
    };
    // Without --exclude-standard, this lists what is ignored as well.
    let others = git(&root, &["ls-files", "--others", "--exclude=/target/"])?;
    let sources: Vec<&str> = others
        .lines()
        .filter(|path| {
            let extension = Path::new(path).extension().and_then(|it| it.to_str());
            matches!(extension, Some("rs" | "toml" | "o" | "json"))
        })
        .collect();
    assert_eq!(sources, [""; 0], "git add them, or take them away");
    Ok(())
}
