//! `verify`: what is too slow for every run.

mod slab;

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{process, vm, workspace};

/// Checks that are too slow for every run: licences, sources and bans of all dependencies, slabs
/// under a fuzzer, Miri and valgrind, and the tests on other kernels
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Seconds for which what reads strangers' bytes is fuzzed
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    fuzz: u32,
    /// Only what is about slabs
    #[arg(long)]
    slab: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !arguments.slab {
        dependencies()?;
    }
    slab::miri()?;
    slab::valgrind()?;
    slab::fuzz(arguments.fuzz)?;
    if arguments.slab {
        return Ok(ExitCode::SUCCESS);
    }
    vm::run(&vm::Arguments::whole_matrix())
}

fn dependencies() -> Result<()> {
    provide("cargo-deny")?;
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

/// Installs a program of cargo's where it is missing.
fn provide(program: &str) -> Result<()> {
    if workspace::program(program).is_none() {
        process::run(Command::new(workspace::cargo()).args(["install", "--locked", program]))?;
    }
    Ok(())
}
