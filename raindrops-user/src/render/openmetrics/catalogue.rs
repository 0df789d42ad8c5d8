//! What is exported: each family once, with the words of docs/metrics.md and where its figures are.
//!
//! Data only. What the figures of a series are is decided in [`super::listeners`] and its
//! neighbours.

mod listeners;
mod others;
mod workers;

use super::{
    listeners::Series,
    sample::Sample,
    workers::{Process, Servers},
};
use crate::view::{View, slabs::Field};

/// What kind of figures a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Counter,
    Gauge,
    Histogram,
    Info,
}

#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Without `_total` and the like.
    pub name: &'static str,
    pub kind: Type,
    /// The name's last word, where that is one.
    pub unit: Option<&'static str>,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    /// Where the figure comes from.
    pub source: &'static str,
    /// When there is no line.
    pub absent: &'static str,
    pub(super) of: Of,
}

/// Whose figures they are, and which.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Listener(fn(&Series<'_>) -> Option<Sample>),
    /// Of every member of a listener that is several sockets.
    Member,
    ListenerPhase,
    Worker(fn(&Process<'_>) -> Option<Sample>),
    WorkerPhase,
    WorkerInfo,
    Server(fn(&Servers) -> Option<Sample>),
    Slab(fn(&Field) -> bool),
    Source,
    Gap,
    /// What has no series, because there is too much.
    LeftOut,
    View(fn(&View) -> Option<Sample>),
    Build,
}

pub const LISTENER: &[&str] = &["address", "protocol", "netns", "container", "service"];
const MEMBER: &[&str] = &[
    "address",
    "protocol",
    "netns",
    "container",
    "service",
    "member",
];
const LISTENER_PHASE: &[&str] = &[
    "address",
    "protocol",
    "netns",
    "container",
    "service",
    "phase",
];
const WORKER: &[&str] = &["pid", "index", "container", "service"];
const WORKER_PHASE: &[&str] = &["pid", "index", "container", "service", "phase"];
const WORKER_INFO: &[&str] = &["pid", "index", "container", "service", "server"];
const SERVER: &[&str] = &["kind", "container", "service"];
const SLAB: &[&str] = &["slab", "field", "service"];

/// Families of one kind of thing.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub title: &'static str,
    pub families: &'static [Family],
}

/// All there are, in the order in which they are written.
pub const PARTS: [Part; 5] = [
    Part {
        title: "Listeners",
        families: &listeners::FAMILIES,
    },
    Part {
        title: "Workers",
        families: &workers::WORKERS,
    },
    Part {
        title: "Servers",
        families: &workers::SERVERS,
    },
    Part {
        title: "Slabs",
        families: &others::SLABS,
    },
    Part {
        title: "raindrops itself",
        families: &others::ITSELF,
    },
];

pub fn families() -> impl Iterator<Item = &'static Family> {
    PARTS.iter().flat_map(|part| part.families)
}

impl Family {
    /// Names of its lines, without those of its labels.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let endings: &[&str] = match self.kind {
            Type::Counter => &["_total"],
            Type::Gauge => &[""],
            Type::Histogram => &["_bucket", "_count", "_sum"],
            Type::Info => &["_info"],
        };
        endings
            .iter()
            .map(|ending| format!("{}{ending}", self.name))
            .collect()
    }
}
