//! Where figures come from and go to, besides the kernel and the socket.

use std::{net::SocketAddr, path::PathBuf};

use super::SLAB_DIRECTORY;

/// Where Prometheus finds the figures, besides the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsPlaces {
    pub tcp: Option<SocketAddr>,
    /// From other hosts, too.
    pub allow_remote: bool,
    /// Directory of node_exporter's collector.
    pub textfile: Option<PathBuf>,
}

/// Where slabs are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlabPlaces {
    pub files: Vec<PathBuf>,
    /// In which every user has a part of his own.
    pub directory: Option<PathBuf>,
    /// Also shared memory that does not say what it is, in servers that are known to keep some.
    pub inferred: bool,
}

impl Default for SlabPlaces {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            directory: Some(SLAB_DIRECTORY.into()),
            inferred: true,
        }
    }
}
