//! The BPF programs from user space: loads and attaches them, reads what they have counted.
//!
//! The only place that names aya. Everything is detached when a [`Bpf`] is dropped, and by the
//! kernel when the process dies: nothing is pinned.

mod connections;
mod info;
mod load;
mod read;
mod reconcile;
mod rows;
mod seed;
mod shared;
mod sizes;
mod tracefs;
mod turns;

pub use load::{object, trim_heap};
pub use seed::OpenConnection;
pub use sizes::Host;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError, Queue},
};
use raindrops_ebpf::{
    connection::{Connection, FlowKey},
    counters::{ListenerCounters, WorkerKey, WorkerRow},
    listener::{AddressKey, ListenerRow, RowRef},
    turns::Thread,
};

use self::{read::Cached, reconcile::Reconciler, shared::SharedArray, turns::Turns};
use crate::{
    ids::{Monotonic, NetnsId},
    plan::Off,
    snapshot::{ListenSocket, ListenerKey},
};

/// A type of the ABI, as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Wire<T>(T);

macro_rules! wire {
    ($($abi:ty),+) => {
        $(
            // SAFETY: `repr(C)`, made of integers, without padding, which the ABI asserts.
            unsafe impl aya::Pod for Wire<$abi> {}
        )+
    };
}

wire!(Connection, FlowKey, WorkerKey, AddressKey, RowRef, Thread);

/// Why BPF could not be used although it should work here.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    #[error("cannot load the BPF object: {0}")]
    Object(#[source] aya::EbpfError),
    #[error("the BPF object has no {0}: it does not belong to this version")]
    Missing(&'static str),
    #[error("cannot attach {program}: {reason}")]
    Attach {
        program: &'static str,
        reason: String,
    },
    #[error("no way to observe accept() could be attached: {}", reasons.join("; "))]
    NoAcceptHook { reasons: Vec<String> },
    #[error("map {map}: {source}")]
    Map {
        map: &'static str,
        #[source]
        source: MapError,
    },
    #[error("cannot map {map} into memory: {source}")]
    Memory {
        map: &'static str,
        #[source]
        source: std::io::Error,
    },
}

impl BpfError {
    fn map(map: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { map, source }
    }
}

/// Which hooks are attached, for the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// `raw_tp`, or `raw_tp+tracepoint`.
    pub lifecycle: &'static str,
    /// `fexit` or `syscall`.
    pub accept: &'static str,
    /// How a connection is told its listener: `sk_data_ready` or `address`.
    pub listener: &'static str,
    /// How turns are followed: `raw_tp` or `fexit`, with `+syscalls` where the end of answers is seen; or
    /// why they are not.
    pub turns: Result<&'static str, Off>,
    /// What did not load although it should have, or better ways to observe accepts, and why.
    pub refused: Vec<String>,
    /// Bytes of all maps' memory as the kernel accounts for it.
    pub memory: Option<u64>,
}

/// Programs that are attached, and their maps.
pub struct Bpf {
    /// Holds the programs and links: dropping it detaches them.
    ebpf: Ebpf,
    logger: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
    hooks: Hooks,
    shards: usize,
    ticks_per_second: u64,
    listeners: HashMap<MapData, u64, Wire<RowRef>>,
    by_sock: HashMap<MapData, u64, Wire<RowRef>>,
    by_address: HashMap<MapData, Wire<AddressKey>, Wire<RowRef>>,
    free_rows: Queue<MapData, u32>,
    /// Rows in use when the last snapshot was taken.
    used_rows: Vec<u32>,
    /// The others, in the order in which they will be used.
    unused_rows: VecDeque<u32>,
    rows: SharedArray<ListenerRow>,
    counters: SharedArray<ListenerCounters>,
    workers: HashMap<MapData, Wire<WorkerKey>, u32>,
    free_worker_rows: Queue<MapData, u32>,
    worker_rows: SharedArray<WorkerRow>,
    misses: SharedArray<u64>,
    seeds: HashMap<MapData, u64, Wire<Connection>>,
    born_while_seeding: HashMap<MapData, Wire<FlowKey>, u32>,
    seeding: aya::maps::Array<MapData, u32>,
    seeding_complete: bool,
    has_seeded: bool,
    no_seeds_left: bool,
    /// When each row was first seen here, or seen to have closed.
    known: BTreeMap<u32, Monotonic>,
    /// Rows of listeners that the programs did not see begin: connections that are older than a
    /// row may be missing from it.
    late: BTreeSet<u32>,
    /// When each network namespace was read last.
    read_at: BTreeMap<NetnsId, Monotonic>,
    /// Inodes of listeners for which there was no row.
    rowless: BTreeSet<u64>,
    /// Rows whose listener a dump lacked: when that began. The kernel skips one now and then.
    missing: BTreeMap<u32, Option<Monotonic>>,
    accept_programs: Vec<&'static str>,
    skipped_accepts: u64,
    skipped_arrivals: u64,
    /// What the kernel says of programs and maps: their `fdinfo`.
    infos: BTreeMap<&'static str, File>,
    /// Bytes of the maps that do not grow with the connections.
    fixed_memory: Option<u64>,
    /// Bytes of the table of connections while it is empty; `None` where they do not tell that.
    empty_table: Option<u64>,
    /// `None` where its programs cannot be run.
    reconciler: Option<Reconciler>,
    /// `None` where turns are not followed.
    turns: Option<Turns>,
    cached: Vec<Option<Box<Cached>>>,
}

impl std::fmt::Debug for Bpf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bpf")
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

/// How long a row that nothing refers to is kept: its listener's last connections may be ending.
const GRACE: Duration = Duration::from_millis(250);

/// Listeners, as the latest dumps have them.
#[derive(Clone, Copy, Debug)]
pub struct Dumps<'a> {
    pub listeners: &'a BTreeMap<ListenerKey, ListenSocket>,
    /// Of each network namespace that is read.
    pub listed: &'a BTreeMap<NetnsId, Listed>,
}

/// When the dump of each protocol began; `None` when it may lack some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub tcp: Option<Monotonic>,
    pub unix: Option<Monotonic>,
}

impl Hooks {
    /// Whether connections of listeners that share one address are told apart.
    fn tells_members(&self) -> bool {
        self.accept == "fexit" || self.sees_arrivals()
    }

    /// Whether the programs run when a connection joins a queue.
    fn sees_arrivals(&self) -> bool {
        self.listener == "sk_data_ready"
    }
}

impl Bpf {
    #[must_use]
    pub const fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Writes what the programs logged to the log. They log on rare paths only, and only when the
    /// programs were loaded so.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}
