//! What shared memory with counters said.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use raindrops_slab::{Kind as FieldKind, read::Value};

use crate::{
    ids::{Monotonic, Pid, StartTicks},
    view::servers::Member,
};

/// Which shared memory: as `/proc/PID/maps` and `fstat` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory {
    pub major: u32,
    pub minor: u32,
    pub inode: u64,
}

/// A process whose memory is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub started: StartTicks,
    pub ns_pid: Option<Pid>,
    pub parent: Pid,
    pub member: Member,
}

/// All that could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct SlabSnapshot {
    pub taken: Monotonic,
    /// By kind and place.
    pub slabs: Vec<Slab>,
    /// What was pointed out as a slab, or lies where slabs are, and is not read.
    pub refused: Vec<Refusal>,
    /// There are more slabs than are read.
    pub beyond: bool,
    /// Processes whose memory may not be read.
    pub unreadable: BTreeSet<Pid>,
    /// Processes that took over a second to read and are left alone for a while.
    pub quarantined: BTreeSet<Pid>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub place: Place,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    File(PathBuf),
    /// Memory without a file, read from this process.
    Process(Pid),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlabKind {
    /// In the format of `raindrops-slab`, which says what it is.
    Declared,
    /// Of the Ruby library raindrops.
    RaindropsRb,
    /// Where workers of unicorn and Rainbows! leave their signs of life.
    UnicornTick,
    /// The figures of nginx's `stub_status`.
    NginxStub,
    /// How many clients a worker of Rainbows! has.
    RainbowsN,
}

/// One slab.
#[derive(Clone, Debug, PartialEq)]
pub struct Slab {
    pub memory: Memory,
    pub kind: SlabKind,
    /// What it calls itself.
    pub name: Option<String>,
    pub place: Place,
    /// The server whose processes have it mapped.
    pub server: Option<String>,
    /// Of the processes that were looked at, those that have it mapped.
    pub pids: BTreeSet<Pid>,
    pub fields: Vec<SlabField>,
    /// In the order of the fields; `None` where that is not known.
    pub totals: Vec<Option<Value>>,
    /// The figures of each worker, likewise.
    pub workers: BTreeMap<(Pid, StartTicks), Vec<Option<Value>>>,
    /// Of declared slabs.
    pub slots: Option<Slots>,
    pub read: Monotonic,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlabField {
    pub name: String,
    pub kind: FieldKind,
    pub unit: Option<String>,
}

/// The slots of a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    pub count: u32,
    /// That somebody says are his.
    pub claimed: u32,
    /// Those of them whose owner does not exist, or does not have the slab mapped.
    pub ownerless: u32,
    /// Those of which that cannot be told. While there are any, no gauge has a total.
    pub unknown: u32,
}
