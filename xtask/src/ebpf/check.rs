//! `ebpf --check`: does the committed object come from the committed sources?

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{
    build,
    provenance::{self, Provenance},
    toolchain::Toolchain,
};
use crate::{process, test, workspace};

pub fn run(toolchains: &[Toolchain]) -> Result<()> {
    let root = workspace::root();
    let provenance = Provenance::read(&root)?;
    if provenance.sources != provenance::hash_of_sources(&root)? {
        bail!("the BPF sources have changed since the object was built: run `cargo xtask ebpf`");
    }
    let named = toolchains
        .iter()
        .find(|toolchain| provenance.is_by(toolchain));
    let directory = tempfile::tempdir().context("creating a temporary directory")?;
    let toolchain = named.unwrap_or(&toolchains[0]);
    let rebuilt = build::build(toolchain, directory.path())?;
    if named.is_none() {
        println!(
            "the committed object was built by {} with {}; here are {} with {}, so that bytes \
             may differ: running the agreement tests with the rebuilt object",
            provenance.rustc, provenance.linker, toolchain.rustc, toolchain.linker
        );
        let object = directory.path().join("rebuilt.bpf.o");
        fs::write(&object, rebuilt).with_context(|| format!("writing {}", object.display()))?;
        let binary = test::build_binary(true)?;
        return process::run(
            Command::new(workspace::cargo())
                .current_dir(&root)
                .args(["test", "--package", "raindrops-tests", "agreement"])
                .env("RAINDROPS_BIN", binary)
                .env("RAINDROPS_BPF_OBJECT", object)
                .env("RAINDROPS_EXPECT_BPF", "1"),
        );
    }
    let (path, _) = provenance::paths(&root);
    let committed = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    if committed != rebuilt {
        let at = committed
            .iter()
            .zip(&rebuilt)
            .position(|(left, right)| left != right);
        bail!(
            "{} ({} bytes) differs from what its sources give ({} bytes), first at byte {}: run \
             `cargo xtask ebpf`",
            path.display(),
            committed.len(),
            rebuilt.len(),
            at.unwrap_or(committed.len().min(rebuilt.len()))
        );
    }
    println!(
        "{}: same bytes as a rebuild by {}",
        path.display(),
        toolchain.rustc
    );
    Ok(())
}
