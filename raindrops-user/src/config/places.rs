//! Where figures come from and go to, besides the kernel and the socket.

use std::{net::SocketAddr, path::PathBuf};

use super::SLAB_DIRECTORY;
use crate::render::openmetrics::USUAL_LISTENERS;

/// Where Prometheus finds the figures, besides the socket, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsPlaces {
    pub tcp: Option<SocketAddr>,
    /// From other hosts, too.
    pub allow_remote: bool,
    /// Directory of node_exporter's collector.
    pub textfile: Option<PathBuf>,
    /// How many listeners have series.
    pub listeners: u32,
}

impl Default for MetricsPlaces {
    fn default() -> Self {
        Self {
            tcp: None,
            allow_remote: false,
            textfile: None,
            listeners: USUAL_LISTENERS,
        }
    }
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
