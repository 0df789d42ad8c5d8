//! One build of the BPF object, the same bytes wherever it is done.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::toolchain::Toolchain;
use crate::{process, workspace};

pub const TARGET: &str = "bpfel-unknown-none";
/// What to build, with the library that it needs.
pub const SELECTION: &[&str] = &[
    "--release",
    "--locked",
    "-Zbuild-std=core",
    "--target",
    TARGET,
    "--package",
    "raindrops-ebpf",
    "--bin",
    "raindrops-ebpf",
];
/// Flags of every build; paths are remapped in addition.
pub const RUSTFLAGS: &[&str] = &[
    "--cfg=bpf_target_arch=\"x86_64\"",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    // Otherwise every memset of a few bytes is a call of a function that sets one at a time.
    "-Clink-arg=--disable-expand-memcpy-in-order",
];
/// The release profile is for the host's binary. More than one codegen unit, or unwinding,
/// overflows the 512 bytes of BPF stack.
pub const PROFILE: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
    ("CARGO_PROFILE_RELEASE_LTO", "false"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "none"),
    ("CARGO_INCREMENTAL", "0"),
];

/// Builds into `target` and returns the object's bytes.
pub fn build(toolchain: &Toolchain, target: &Path) -> Result<Vec<u8>> {
    let mut flags: Vec<String> = RUSTFLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    flags.extend(remaps(toolchain));
    process::run(
        toolchain
            .cargo("build", &flags)
            .args(SELECTION)
            .arg("--target-dir")
            .arg(target)
            .envs(PROFILE.iter().copied()),
    )?;
    let built = target.join(TARGET).join("release/raindrops-ebpf");
    let object = target.join("raindrops-ebpf.bpf.o");
    // The daemon carries the object: types for the kernel (.BTF) stay, five times as much debug
    // information for debuggers goes.
    process::run(
        Command::new(&toolchain.strip)
            .arg("--strip-debug")
            .arg("-o")
            .args([&object, &built]),
    )?;
    fs::read(&object).with_context(|| format!("reading {}", object.display()))
}

/// Debug information names source files: without remapping, the object would depend on where the
/// repository, the registry and the library sources are.
fn remaps(toolchain: &Toolchain) -> Vec<String> {
    let mut places: Vec<(PathBuf, &str)> = vec![
        (workspace::root(), "/raindrops"),
        (toolchain.sysroot.join("lib/rustlib/src/rust"), "/rust"),
    ];
    let registries = workspace::cargo_home().map(|home| home.join("registry/src"));
    let registries = registries.and_then(|directory| fs::read_dir(directory).ok());
    let registries = registries.into_iter().flatten().flatten();
    places.extend(registries.map(|entry| (entry.path(), "/registry")));
    places.sort();
    let mut flags = Vec::new();
    for (from, to) in places {
        // Some names in debug information are of the path as given, some of what it resolves to.
        let resolved = fs::canonicalize(&from).ok().filter(|path| *path != from);
        for from in [Some(from), resolved].into_iter().flatten() {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        }
    }
    flags
}
