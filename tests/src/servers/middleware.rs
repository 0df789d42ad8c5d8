//! What Raindrops::Middleware counts in the workers of a server, read where it counts.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::Server;

/// In the run directory.
pub(super) const FILE: &str = "stats";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    pub calling: u64,
    pub writing: u64,
}

impl Server {
    /// What its workers are doing, by their own count.
    pub fn middleware(&self) -> Result<Counted> {
        read(&self.path(FILE)).context("reading Raindrops' counters")
    }
}

fn read(path: &Path) -> Result<Counted> {
    let stride = fs::read_to_string(path.with_extension("stride"))?;
    let stride: usize = stride.parse()?;
    let bytes = fs::read(path)?;
    let counter = |index: usize| {
        let bytes = bytes.get(index * stride..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    };
    Ok(Counted {
        calling: counter(0).context("no calling")?,
        writing: counter(1).context("no writing")?,
    })
}
