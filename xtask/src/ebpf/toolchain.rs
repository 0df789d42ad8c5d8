//! Finding what can build BPF programs: rustup's nightly with the library sources, or Debian's
//! rustc-web; and bpf-linker in both cases.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{debian, process, workspace};

const LINKER: &str = "bpf-linker";
const LINKER_VERSION: &str = "0.10.3";
const LLVM_BIN: &str = "/usr/lib/llvm-22/bin";
const DEBIAN_PACKAGES: &[&str] = &[
    "rustc-web",
    "rust-web-src",
    "rust-web-clippy",
    "cargo-web",
    "llvm-22",
    "llvm-22-dev",
    "libpolly-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
    "g++",
];

/// Variables of the host's build, and of the `cargo run` that runs this xtask, that would change
/// the object.
const FOREIGN: &[&str] = &[
    "RUSTFLAGS",
    "RUSTC",
    "RUSTDOC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTUP_TOOLCHAIN",
    "LD_LIBRARY_PATH",
    "SYSROOT",
    "CLIPPY_ARGS",
    "CARGO_INCREMENTAL",
];
const FOREIGN_PREFIXES: &[&str] = &[
    "CARGO_BUILD_",
    "CARGO_TARGET_",
    "CARGO_PROFILE_",
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_UNSTABLE_",
];

#[derive(Debug)]
enum Kind {
    Rustup,
    /// In /usr/bin, behind rustup's proxies on PATH.
    Debian,
}

/// What can build BPF programs.
#[derive(Debug)]
pub struct Toolchain {
    kind: Kind,
    /// First line of `rustc -vV`.
    pub rustc: String,
    pub llvm: String,
    /// `bpf-linker --version`.
    pub linker: String,
    linker_path: PathBuf,
    pub sysroot: PathBuf,
    /// `llvm-strip`.
    pub strip: PathBuf,
}

impl Toolchain {
    /// `cargo SUBCOMMAND` of this toolchain, in an environment where only `rustflags` count.
    pub fn cargo(&self, subcommand: &str, rustflags: &[String]) -> Command {
        let mut command = match (&self.kind, subcommand) {
            (Kind::Rustup, _) => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo"]);
                command
            }
            // Cargo prefers a `cargo-clippy` in its home, which is rustup's.
            (Kind::Debian, "clippy") => Command::new("/usr/bin/cargo-clippy"),
            (Kind::Debian, _) => Command::new("/usr/bin/cargo"),
        };
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if FOREIGN.contains(&&*text)
                || FOREIGN_PREFIXES
                    .iter()
                    .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        command
            .arg(subcommand)
            .current_dir(workspace::root())
            .env_remove("CARGO")
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"))
            .env("PATH", self.path());
        if matches!(self.kind, Kind::Debian) {
            command
                .env("CARGO", "/usr/bin/cargo")
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    /// rustc looks for bpf-linker on PATH.
    fn path(&self) -> OsString {
        let path = env::var_os("PATH").unwrap_or_default();
        let linker = self.linker_path.parent().map(Path::to_path_buf);
        let directories = env::split_paths(&path).chain(linker);
        env::join_paths(directories).unwrap_or(path)
    }

    /// Whether it has clippy for the compiler that builds the object.
    pub fn has_clippy(&self) -> bool {
        match self.kind {
            Kind::Rustup => self.sysroot.join("bin/cargo-clippy").exists(),
            Kind::Debian => Path::new("/usr/bin/clippy-driver").exists(),
        }
    }
}

/// All that this machine has, rustup's first; an error that says what to install if none.
pub fn find() -> Result<Vec<Toolchain>> {
    let linker_path = workspace::program(LINKER);
    let candidates = [
        (Kind::Rustup, rustup_rustc as fn() -> Option<Command>),
        (Kind::Debian, debian_rustc),
    ];
    let mut found = Vec::new();
    for (kind, rustc) in candidates {
        let (Some(linker_path), Some(sysroot)) = (&linker_path, sysroot_with_sources(rustc)) else {
            continue;
        };
        let (Some(mut version), Some(strip)) = (rustc(), strip(&sysroot)) else {
            continue;
        };
        let version = process::output(version.arg("-vV"))?;
        let line = |prefix: &str| version.lines().find_map(|line| line.strip_prefix(prefix));
        found.push(Toolchain {
            kind,
            rustc: version.lines().next().unwrap_or_default().to_owned(),
            llvm: line("LLVM version: ").unwrap_or_default().to_owned(),
            linker: process::output(Command::new(linker_path).arg("--version"))?,
            linker_path: linker_path.clone(),
            sysroot,
            strip,
        });
    }
    if found.is_empty() {
        bail!("{}", advice(linker_path.is_some()));
    }
    Ok(found)
}

fn rustup_rustc() -> Option<Command> {
    workspace::program("rustup")?;
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "rustc"]);
    Some(command)
}

fn debian_rustc() -> Option<Command> {
    let is_there = Path::new("/usr/bin/rustc").exists() && Path::new("/usr/bin/cargo").exists();
    is_there.then(|| {
        let mut command = Command::new("/usr/bin/rustc");
        command.env_remove("LD_LIBRARY_PATH");
        command
    })
}

/// The sysroot, where it holds the sources of the library that `-Z build-std` compiles.
fn sysroot_with_sources(rustc: fn() -> Option<Command>) -> Option<PathBuf> {
    let sysroot = process::output(rustc()?.args(["--print", "sysroot"])).ok()?;
    let sysroot = PathBuf::from(sysroot);
    let sources = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    sources.exists().then_some(sysroot)
}

/// `llvm-strip`: of Debian's LLVM, of rustup's component llvm-tools, or on PATH.
fn strip(sysroot: &Path) -> Option<PathBuf> {
    const STRIP: &str = "llvm-strip";
    let tools = sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin");
    [Path::new(LLVM_BIN).join(STRIP), tools.join(STRIP)]
        .into_iter()
        .find(|path| path.exists())
        .or_else(|| workspace::program(STRIP))
}

fn advice(has_linker: bool) -> String {
    let linker = format!(
        "cargo install {LINKER}@{LINKER_VERSION} --locked --no-default-features --features llvm-22"
    );
    let mut text = String::from("no BPF toolchain here. Install one of these:\n");
    text.push_str(
        "  rustup:  rustup toolchain install nightly --component rust-src --component llvm-tools\n",
    );
    text.push_str(&format!(
        "  Debian:  apt-get install --no-install-recommends {}\n",
        DEBIAN_PACKAGES.join(" ")
    ));
    if !has_linker {
        text.push_str(&format!(
            "and {LINKER}:\n  PATH={LLVM_BIN}:$PATH {linker}\n"
        ));
    }
    text.push_str("As root on Debian, `cargo xtask ebpf --install` does the second for you.");
    text
}

/// Installs Debian's toolchain and bpf-linker, where no toolchain is there.
pub fn install() -> Result<()> {
    if find().is_ok_and(|found| found.iter().any(Toolchain::has_clippy)) {
        return Ok(());
    }
    if !debian::is_debian() || !workspace::is_root() {
        bail!(
            "--install needs Debian or Ubuntu, and root.\n{}",
            advice(false)
        );
    }
    debian::install(&debian::missing(DEBIAN_PACKAGES))?;
    if workspace::program(LINKER).is_some() {
        return Ok(());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = [PathBuf::from(LLVM_BIN)]
        .into_iter()
        .chain(env::split_paths(&path));
    process::run(
        Command::new(workspace::cargo())
            .args(["install", &format!("{LINKER}@{LINKER_VERSION}"), "--locked"])
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("PATH", env::join_paths(directories).context("PATH")?),
    )
}
