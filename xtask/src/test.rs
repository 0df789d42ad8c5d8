//! `test`: unit, integration and end-to-end tests, with what they need installed first.

mod count;
mod needs;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{process, workspace};
use count::{Count, Skip};

/// Unit, integration and end-to-end tests
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Install nothing; tests whose programs are missing are listed as skipped
    #[arg(long)]
    no_install: bool,
    /// Test a binary of the dev profile instead of the release profile
    #[arg(long)]
    dev: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Builds `raindrops` and returns where it is.
pub fn build_binary(release: bool) -> Result<PathBuf> {
    let directory = build(release, &["raindrops-user", "--bin", "raindrops"])?;
    Ok(directory.join("raindrops"))
}

/// Builds the library of slabs for other languages and returns where it is.
pub fn build_slab_library(release: bool) -> Result<PathBuf> {
    let directory = build(release, &["raindrops-slab-c"])?;
    Ok(directory.join("libraindrops_slab.so"))
}

/// Builds a package and returns where the results are.
fn build(release: bool, package: &[&str]) -> Result<PathBuf> {
    let mut command = Command::new(workspace::cargo());
    command
        .current_dir(workspace::root())
        .args(["build", "--package"])
        .args(package);
    if release {
        command.arg("--release");
    }
    process::run(&mut command)?;
    let profile = if release { "release" } else { "debug" };
    Ok(workspace::target_directory().join(profile))
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    needs::provide(!arguments.no_install)?;
    let binary = build_binary(!arguments.dev)?;
    let slab_library = build_slab_library(!arguments.dev)?;
    let skips = tempfile::NamedTempFile::new().context("creating the list of skipped tests")?;

    let mut command = Command::new(workspace::cargo());
    command
        .current_dir(workspace::root())
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(&arguments.filter)
        .env("RAINDROPS_BIN", binary)
        .env("RAINDROPS_SLAB_LIB", slab_library)
        .env("RAINDROPS_SKIPPED_TESTS", skips.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if needs::bpf_must_work() {
        command.env("RAINDROPS_EXPECT_BPF", "1");
    }
    eprintln!("+ {}", process::shown(&command));
    let mut child = command.spawn().context("cannot run cargo test")?;
    let mut count = Count::default();
    let stdout = child.stdout.take().context("no output of cargo test")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("reading the output of cargo test")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        count.add_line(&line);
    }
    let status = child.wait().context("waiting for cargo test")?;

    let skips = fs::read_to_string(skips.path()).context("reading the list of skipped tests")?;
    let skips = Skip::parse_all(&skips);
    count.add_skips(&skips);
    if !skips.is_empty() {
        println!("\nskipped:");
    }
    for skip in &skips {
        println!("  {}: {}", skip.test, skip.reason);
    }
    let avoidable = skips.iter().filter(|skip| skip.is_avoidable()).count();
    let fails_ci = workspace::is_ci() && avoidable > 0;
    if fails_ci {
        println!(
            "{avoidable} of the skipped tests could have run here, which CI counts as failure"
        );
    }
    println!("\n{count}");
    if status.success() && !fails_ci {
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}
