//! What Raindrops::Middleware counts in the workers of a server, read where it counts.

use std::{ffi::OsString, fs, path::Path};

use anyhow::{Context as _, Result};

use super::Server;
use crate::client::{Address, Client};

/// In the run directory.
pub(super) const FILE: &str = "stats";

/// Leaves the counters where the library puts them: in memory without a name.
pub(super) fn without_file() -> (&'static str, OsString) {
    ("STATS_FILE", OsString::new())
}

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

    /// The same as it answers itself, which takes a free worker. This request is not among them.
    pub fn middleware_says(&self) -> Result<Counted> {
        let mut client = Client::connect(&Address::Tcp(self.tcp[0]))?;
        client.ask_and_close("/_raindrops")?;
        let answer = String::from_utf8(client.answered()?)?;
        let value = |name: &str| {
            let value = answer.lines().find_map(|line| line.strip_prefix(name));
            let value = value.with_context(|| format!("no {name}in {answer}"))?;
            value.parse().with_context(|| answer.clone())
        };
        Ok(Counted {
            calling: value("calling: ")?,
            writing: value("writing: ")?,
        })
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
