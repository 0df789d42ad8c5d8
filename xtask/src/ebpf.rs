//! `ebpf`: rebuilds, checks and lints the committed BPF object.
//!
//! A default build embeds the committed object and needs no BPF toolchain; only this command
//! does.

mod build;
mod check;
mod clippy;
pub mod provenance;
pub mod toolchain;

use std::fs;

use anyhow::{Context as _, Result};

use crate::workspace;
use provenance::Provenance;
use toolchain::Toolchain;

/// Rebuilds the committed BPF object and its PROVENANCE
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Rebuild into a temporary directory and compare with the committed object
    #[arg(long, conflicts_with = "clippy")]
    check: bool,
    /// Run clippy on the BPF programs, for their own target
    #[arg(long)]
    clippy: bool,
    /// First install what is missing of the BPF toolchain (Debian or Ubuntu, as root)
    #[arg(long)]
    install: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.install {
        toolchain::install()?;
    }
    let toolchains = toolchain::find()?;
    if arguments.clippy {
        return clippy::run(&toolchains);
    }
    if arguments.check {
        return check::run(&toolchains);
    }
    rebuild(&toolchains[0])
}

fn rebuild(toolchain: &Toolchain) -> Result<()> {
    let root = workspace::root();
    let target = workspace::target_directory().join("bpf");
    let object = build::build(toolchain, &target)?;
    let provenance = Provenance::of(toolchain, &root, &object)?;
    let (object_path, provenance_path) = provenance::paths(&root);
    if let Some(directory) = object_path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
    }
    fs::write(&object_path, &object)
        .with_context(|| format!("writing {}", object_path.display()))?;
    fs::write(&provenance_path, provenance.to_string())
        .with_context(|| format!("writing {}", provenance_path.display()))?;
    println!(
        "{}: {} bytes, built by {}",
        object_path.display(),
        object.len(),
        provenance.rustc
    );
    Ok(())
}
