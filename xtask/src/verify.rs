//! `verify`: what is too slow for every run.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{process, vm, workspace};

/// Checks that are too slow for every run: licences, sources and bans of all dependencies, and the
/// tests on other kernels
#[derive(Debug, clap::Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<ExitCode> {
    dependencies()?;
    vm::run(&vm::Arguments::whole_matrix())
}

fn dependencies() -> Result<()> {
    if workspace::program("cargo-deny").is_none() {
        process::run(Command::new(workspace::cargo()).args(["install", "--locked", "cargo-deny"]))?;
    }
    process::run(
        Command::new(workspace::cargo())
            .current_dir(workspace::root())
            .args([
                "deny",
                "--workspace",
                "check",
                "bans",
                "licenses",
                "sources",
            ]),
    )
}
