//! Slabs under what finds other mistakes than tests: Miri, valgrind, and a fuzzer.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{debian, process, provide, workspace};

const PACKAGE: &str = "raindrops-slab";
const NIGHTLY: &str = "nightly";

/// Format, reading and claiming, in an interpreter that knows which memory is whose. Where the
/// toolchain has none this is said.
pub fn miri() -> Result<()> {
    if let Err(error) = component("miri").and_then(|()| component("rust-src")) {
        println!("SKIPPED Miri: {error:#}");
        return Ok(());
    }
    // Who asks the system who lives is not for an interpreter.
    process::run(nightly("miri").args([
        "test",
        "--package",
        PACKAGE,
        "--lib",
        "--test",
        "slots",
        "--",
        "--skip",
        "process::",
    ]))
}

fn component(name: &str) -> Result<()> {
    let mut add = Command::new("rustup");
    add.args(["component", "add", name, "--toolchain", NIGHTLY]);
    process::output(&mut add).map(drop)
}

/// What maps memory, claims and counts, as a process.
pub fn valgrind() -> Result<()> {
    if workspace::program("valgrind").is_none() {
        if !debian::is_debian() || !workspace::is_root() {
            println!("SKIPPED valgrind: not installed");
            return Ok(());
        }
        debian::install(&["valgrind"])?;
    }
    let test = built("slab")?;
    process::run(
        Command::new("valgrind")
            .args([
                "--quiet",
                "--error-exitcode=1",
                "--leak-check=full",
                "--errors-for-leak-kinds=definite",
                "--show-leak-kinds=definite",
            ])
            .arg(test)
            .args(["--test-threads", "1"]),
    )
}

/// The binary of one of the package's tests.
fn built(test: &str) -> Result<PathBuf> {
    let messages = process::output(
        Command::new(workspace::cargo())
            .current_dir(workspace::root())
            .args(["test", "--quiet", "--package", PACKAGE, "--test", test])
            .args(["--no-run", "--message-format", "json"]),
    )?;
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    };
    let found = messages.lines().find_map(executable);
    found.with_context(|| format!("cargo has not built the test {test}"))
}

/// Bytes of strangers, for so many seconds. What is found beyond the corpus stays under `target`.
pub fn fuzz(seconds: u32) -> Result<()> {
    if workspace::program("rustup").is_none() {
        bail!("fuzzing needs rustup and its nightly toolchain");
    }
    provide::cargo_program("cargo-fuzz")?;
    let directory = workspace::root().join("fuzz");
    let found = workspace::target_directory().join("fuzz-corpus/slab");
    fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
    process::run(
        nightly("fuzz")
            .current_dir(&directory)
            .args(["run", "slab"])
            .args([&found, &directory.join("corpus/slab")])
            .args(["--", "-max_len=8192", "-rss_limit_mb=512", "-timeout=5"])
            .args(["-print_final_stats=1", "-verbosity=0"])
            .arg(format!("-max_total_time={seconds}")),
    )
}

/// A subcommand of nightly's cargo, whichever has started this.
fn nightly(subcommand: &str) -> Command {
    let mut command = Command::new("rustup");
    command
        .current_dir(workspace::root())
        .args(["run", NIGHTLY, "cargo", subcommand])
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env_remove("RUSTC");
    command
}
