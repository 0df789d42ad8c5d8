//! Where the committed object comes from: PROVENANCE, and the hash that ties it to its sources.

use std::{
    fmt::{self, Write as _},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::{build, toolchain::Toolchain};

const HEADER: &str =
    "Written by `cargo xtask ebpf`; `cargo xtask ebpf --check` rebuilds and compares.";

/// Paths of the object and of its PROVENANCE.
pub fn paths(root: &Path) -> (PathBuf, PathBuf) {
    let directory = root.join("raindrops-ebpf/prebuilt");
    (
        directory.join("raindrops-ebpf.bpf.o"),
        directory.join("PROVENANCE"),
    )
}

/// What PROVENANCE says.
#[derive(Debug, PartialEq, Eq)]
pub struct Provenance {
    pub rustc: String,
    pub llvm: String,
    pub linker: String,
    pub target: String,
    pub flags: String,
    pub sources: String,
    pub object: String,
}

impl Provenance {
    /// Of an object that `toolchain` has just built.
    pub fn of(toolchain: &Toolchain, root: &Path, object: &[u8]) -> Result<Self> {
        let profile = build::PROFILE.iter().map(|(name, value)| {
            let name = name.trim_start_matches("CARGO_PROFILE_RELEASE_");
            format!("{}={value}", name.to_lowercase().replace('_', "-"))
        });
        let flags: Vec<String> = build::RUSTFLAGS
            .iter()
            .map(|flag| (*flag).to_owned())
            .chain(profile)
            .collect();
        Ok(Self {
            rustc: toolchain.rustc.clone(),
            llvm: toolchain.llvm.clone(),
            linker: toolchain.linker.clone(),
            target: build::TARGET.to_owned(),
            flags: flags.join(" "),
            sources: hash_of_sources(root)?,
            object: hex(&Sha256::digest(object)),
        })
    }

    pub fn read(root: &Path) -> Result<Self> {
        let (_, path) = paths(root);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("reading {}; run `cargo xtask ebpf`", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .map(str::to_owned)
                .with_context(|| format!("no line `{name}: …`"))
        };
        Ok(Self {
            rustc: field("rustc")?,
            llvm: field("llvm")?,
            linker: field("linker")?,
            target: field("target")?,
            flags: field("flags")?,
            sources: field("sources-sha256")?,
            object: field("object-sha256")?,
        })
    }

    /// Whether this toolchain should give the same bytes.
    pub fn is_by(&self, toolchain: &Toolchain) -> bool {
        self.rustc == toolchain.rustc
            && self.llvm == toolchain.llvm
            && self.linker == toolchain.linker
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rustc,
            llvm,
            linker,
            target,
            flags,
            sources,
            object,
        } = self;
        writeln!(f, "{HEADER}")?;
        writeln!(f, "rustc: {rustc}")?;
        writeln!(f, "llvm: {llvm}")?;
        writeln!(f, "linker: {linker}")?;
        writeln!(f, "target: {target}")?;
        writeln!(f, "flags: {flags}")?;
        writeln!(f, "sources-sha256: {sources}")?;
        writeln!(f, "object-sha256: {object}")
    }
}

/// Hash over everything of this repository that the object is made of: the crate's manifest and
/// sources, and the locked versions of the crates that run in the kernel.
pub fn hash_of_sources(root: &Path) -> Result<String> {
    let crate_root = root.join("raindrops-ebpf");
    let mut files = vec![crate_root.join("Cargo.toml")];
    collect_sources(&crate_root.join("src"), &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    let mut add = |name: &str, content: &[u8]| {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    };
    for file in files {
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.strip_prefix(&crate_root).unwrap_or(&file);
        add(&name.to_string_lossy(), &content);
    }
    let lock = root.join("Cargo.lock");
    let lock = fs::read_to_string(&lock).with_context(|| format!("reading {}", lock.display()))?;
    add("Cargo.lock", locked_versions(&lock).as_bytes());
    Ok(hex(&hash.finalize()))
}

fn collect_sources(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect_sources(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn locked_versions(lock: &str) -> String {
    let is_for_kernel = |name: &str| name.starts_with("aya-ebpf") || name.starts_with("aya-log-");
    let mut versions: Vec<String> = lock
        .split("[[package]]")
        .filter_map(|package| {
            let field = |name: &str| {
                package
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
                    .map(|value| value.trim_matches('"'))
            };
            let (name, version) = (field("name")?, field("version")?);
            is_for_kernel(name).then(|| format!("{name} {version}\n"))
        })
        .collect();
    versions.sort();
    versions.concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    /// Check that the committed object was built from the committed sources.
    #[test]
    fn object_is_not_older_than_its_sources() {
        let root = workspace::root();
        let provenance = Provenance::read(&root).unwrap();
        let object = fs::read(paths(&root).0).unwrap();
        assert_eq!(
            provenance.object,
            hex(&Sha256::digest(&object)),
            "raindrops-ebpf.bpf.o is not the object that PROVENANCE describes: \
             run `cargo xtask ebpf`"
        );
        assert_eq!(
            provenance.sources,
            hash_of_sources(&root).unwrap(),
            "the BPF sources have changed since the object was built: run `cargo xtask ebpf`"
        );
    }

    /// Check that only the versions of crates that run in the kernel count.
    #[test]
    fn locked_versions_are_those_of_the_kernel_half() {
        let lock = "version = 4\n\n[[package]]\nname = \"aya\"\nversion = \"0.14.0\"\n\n\
                    [[package]]\nname = \"aya-log-ebpf\"\nversion = \"0.2.0\"\n\n\
                    [[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n";
        assert_eq!(
            locked_versions(lock),
            "aya-ebpf 0.2.1\naya-log-ebpf 0.2.0\n"
        );
    }

    /// Check that PROVENANCE says again what was written.
    #[test]
    fn provenance_is_read_as_written() {
        let written = Provenance {
            rustc: "rustc 1.96.0 (ac68faa20 2026-05-25)".into(),
            llvm: "22.1.8".into(),
            linker: "bpf-linker 0.10.3".into(),
            target: "bpfel-unknown-none".into(),
            flags: "-Cdebuginfo=2 opt-level=3".into(),
            sources: "ab".into(),
            object: "cd".into(),
        };
        assert_eq!(Provenance::parse(&written.to_string()).unwrap(), written);
    }
}
