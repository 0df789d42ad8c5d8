//! `verify`: what is too slow for every run.

mod deb;
mod description;
mod slab;

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{process, provide, vm, workspace};

/// Checks that are too slow for every run: licences, sources and bans of all dependencies, slabs
/// under a fuzzer, Miri and valgrind, the Debian package on a clean root, the paths of the
/// socket against their description, and the tests on other kernels
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Seconds for which what reads strangers' bytes is fuzzed
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    fuzz: u32,
    /// Only what is about slabs
    #[arg(long, conflicts_with = "deb")]
    slab: bool,
    /// Only the Debian package
    #[arg(long, conflicts_with = "openapi")]
    deb: bool,
    /// Only the description of the paths
    #[arg(long, conflicts_with = "slab")]
    openapi: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.deb {
        deb::run()?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.openapi {
        description::run()?;
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.slab {
        dependencies()?;
    }
    slab::miri()?;
    slab::valgrind()?;
    slab::fuzz(arguments.fuzz)?;
    if arguments.slab {
        return Ok(ExitCode::SUCCESS);
    }
    deb::run()?;
    description::run()?;
    vm::run(&vm::Arguments::whole_matrix())
}

fn dependencies() -> Result<()> {
    provide::cargo_program("cargo-deny")?;
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
