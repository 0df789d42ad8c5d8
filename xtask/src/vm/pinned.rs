//! The kernels that are known by name: `xtask/kernels`.

use std::fs;

use anyhow::{Context as _, Result};

use crate::workspace;

/// A kernel of Debian, at the version that the tests were last run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub name: String,
    pub suite: String,
    pub package: String,
    pub version: String,
    /// Arguments of QEMU: processors.
    pub machine: Vec<String>,
}

/// All of them, oldest first.
pub fn all() -> Result<Vec<Pinned>> {
    let path = workspace::root().join("xtask/kernels");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let lines = text.lines().filter(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    lines
        .map(|line| {
            parse(line).with_context(|| format!("{}: unexpected line: {line}", path.display()))
        })
        .collect()
}

fn parse(line: &str) -> Option<Pinned> {
    let mut fields = line.split_whitespace().map(str::to_owned);
    Some(Pinned {
        name: fields.next()?,
        suite: fields.next()?,
        package: fields.next()?,
        version: fields.next()?,
        machine: fields.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the file is understood and begins with the oldest kernel, which the smoke test takes.
    #[test]
    fn the_file_is_understood() {
        let kernels = all().expect("xtask/kernels");
        let names: Vec<&str> = kernels.iter().map(|kernel| kernel.name.as_str()).collect();
        assert_eq!(names.first(), Some(&"5.10"));
        assert!(kernels.iter().all(|kernel| !kernel.machine.is_empty()));
        assert_eq!(parse("6.1 bookworm linux-image"), None);
    }
}
