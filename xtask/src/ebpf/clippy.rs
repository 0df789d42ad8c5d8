//! `ebpf --clippy`: lints of the BPF programs for their own target, which clippy of the
//! workspace cannot see.

use anyhow::Result;

use super::{build, toolchain::Toolchain};
use crate::{process, workspace};

pub fn run(toolchains: &[Toolchain]) -> Result<()> {
    let with_clippy = toolchains.iter().find(|toolchain| toolchain.has_clippy());
    let (toolchain, subcommand) = match with_clippy {
        Some(toolchain) => (toolchain, "clippy"),
        None => (&toolchains[0], "rustc"),
    };
    if with_clippy.is_none() {
        println!(
            "{} has no clippy (Debian: rust-web-clippy; rustup: component clippy of nightly): \
             only the compiler's warnings are checked",
            toolchain.rustc
        );
    }
    let flags: Vec<String> = build::RUSTFLAGS
        .iter()
        .map(|flag| (*flag).to_owned())
        .collect();
    process::run(
        toolchain
            .cargo(subcommand, &flags)
            .args(build::SELECTION)
            .arg("--target-dir")
            .arg(workspace::target_directory().join("bpf"))
            .args(["--", "-D", "warnings"])
            .envs(build::PROFILE.iter().copied()),
    )
}
