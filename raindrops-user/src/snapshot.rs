//! What one source saw at one instant. Plain data: sources fill it, [`crate::view`] merges it.
//!
//! A group that a source could not see is `None`, never zero.

pub mod connections;
pub mod puma;
pub mod slabs;
mod threads;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, SystemTime},
};

use raindrops_ebpf::{histogram::Histogram, miss::Miss};

pub use self::threads::{Place, Stall, Thread, Threads, cannot_run};
use crate::{
    address::Address,
    ids::{Cookie, Inode, Monotonic, NetnsId, Pid, StartTicks, Tid},
    turns::{self, Found},
};

/// Which listener: joins the sources. Inodes of sockets are unique on a host at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerKey {
    pub netns: NetnsId,
    pub inode: Inode,
}

/// Where the queue figures came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueSource {
    SockDiag,
    /// `/proc/net/{tcp,tcp6,unix}`, where the diag modules are not loaded.
    ProcNet,
}

/// Listening sockets and their queues: one LISTEN dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// Before anything was read.
    pub began: Monotonic,
    /// When all was read.
    pub taken: Monotonic,
    pub source: QueueSource,
    /// The kernel said that the dump may be inconsistent, also after retries.
    pub interrupted: bool,
    pub listeners: BTreeMap<ListenerKey, ListenSocket>,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSocket {
    pub address: Address,
    pub cookie: Option<Cookie>,
    pub queued: Option<u32>,
    pub limit: Option<u32>,
    /// `sk_drops`, which wraps; `None` for unix.
    pub drops: Option<u32>,
    /// Device and inode of the bound path of a unix socket; told from a path that was replaced.
    pub bound_path: Option<(u32, u32)>,
}

/// Accepted unix connections of each listener: one walk over all unix sockets, at most once a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixActiveSnapshot {
    pub taken: Monotonic,
    pub active: BTreeMap<ListenerKey, Vec<Inode>>,
}

/// Processes that hold listeners, and their relatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcSnapshot {
    pub taken: Monotonic,
    /// Time since boot at `taken`, as `StartTicks` count it: the time that the host slept included.
    pub since_boot: Duration,
    pub processes: BTreeMap<Pid, Process>,
    /// Processes whose descriptors we may not read: holders may be missing.
    pub unreadable: usize,
    /// Processes that took over a second to read and are left alone for a while.
    pub quarantined: BTreeSet<Pid>,
    /// Ticks of `StartTicks` in a second.
    pub ticks_per_second: u64,
    /// Boot time in seconds since the epoch.
    pub boot_time: u64,
    /// Holders of listeners that have ended in the last minute, in the order in which that was
    /// noticed.
    pub ended: Vec<Ended>,
    /// What threads are at: those that were asked about, and of each process one that is stalled.
    pub places: BTreeMap<(Pid, Tid), Place>,
}

/// A process that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub pid: Pid,
    pub started: StartTicks,
    pub parent: Pid,
    /// The look that did not find it any more.
    pub noticed: Monotonic,
    /// From its start to that look.
    pub lived: Duration,
}

impl ProcSnapshot {
    /// Start of a process, since boot.
    #[must_use]
    pub fn start_after_boot(&self, started: StartTicks) -> Duration {
        let per_second = self.ticks_per_second.max(1);
        let rest = started.0 % per_second;
        Duration::from_secs(started.0 / per_second)
            + Duration::from_millis(rest * 1000 / per_second)
    }

    /// Start of a process by the clock, up to a second early: the kernel tells the boot's in whole
    /// seconds. `None` where that is not known.
    #[must_use]
    pub fn started_at(&self, process: &Process) -> Option<SystemTime> {
        let booted = SystemTime::UNIX_EPOCH + Duration::from_secs(self.boot_time);
        (self.boot_time != 0).then(|| booted + self.start_after_boot(process.started))
    }

    /// Whether another look found the same processes in the same relations, whatever they do.
    #[must_use]
    pub fn tells_the_same(&self, other: &Self) -> bool {
        let Self {
            taken: _,
            since_boot: _,
            processes,
            unreadable,
            quarantined,
            ticks_per_second: _,
            boot_time: _,
            ended: _,
            places: _,
        } = self;
        let pairs = processes.iter().zip(&other.processes);
        processes.len() == other.processes.len()
            && pairs
                .into_iter()
                .all(|((pid, process), (other_pid, other))| {
                    pid == other_pid && process.is_placed_as(other)
                })
            && *unreadable == other.unreadable
            && *quarantined == other.quarantined
    }
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub parent: Pid,
    pub started: StartTicks,
    /// Pid inside its innermost pid namespace.
    pub ns_pid: Option<Pid>,
    pub comm: Vec<u8>,
    /// Command line with NUL bytes as spaces, trimmed, at most 4 KiB; `None` when it could not be
    /// read.
    pub title: Option<Vec<u8>>,
    pub uid: Option<u32>,
    pub threads: Option<u32>,
    /// State letter of `/proc/PID/stat`.
    pub state: char,
    /// systemd unit (`app.service`), from the cgroup.
    pub unit: Option<String>,
    /// Container id, from the cgroup.
    pub container: Option<String>,
    /// Inodes of the listeners that it holds; `None` when its descriptors could not be read.
    pub listeners: Option<BTreeSet<Inode>>,
    /// Its threads one by one; `None` for processes that hold no listener, and where they could
    /// not be read.
    pub each_thread: Option<Threads>,
    /// Open descriptors, of processes that hold a listener.
    pub fds: Option<u64>,
    /// How many descriptors it may have; likewise.
    pub fd_limit: Option<u64>,
}

impl Process {
    /// Whether it may hold a listener: its descriptors tell so, or could not be read.
    #[must_use]
    pub fn may_serve(&self) -> bool {
        self.listeners.as_ref().is_none_or(|held| !held.is_empty())
    }

    /// The same process with the same parent, names and listeners.
    fn is_placed_as(&self, other: &Self) -> bool {
        let Self {
            parent,
            started,
            ns_pid: _,
            comm,
            title,
            uid: _,
            threads: _,
            state: _,
            unit: _,
            container: _,
            listeners,
            each_thread: _,
            fds: _,
            fd_limit: _,
        } = self;
        *parent == other.parent
            && *started == other.started
            && *comm == other.comm
            && *title == other.title
            && *listeners == other.listeners
    }
}

/// What the BPF programs have counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfSnapshot {
    pub taken: Monotonic,
    pub listeners: BTreeMap<ListenerKey, ListenerCounts>,
    pub workers: BTreeMap<WorkerKey, WorkerCounts>,
    /// `None` where turns are not followed.
    pub turns: Option<TurnsSnapshot>,
    /// The queue of every listener in `listeners` is looked at whenever a connection arrives.
    pub sees_arrivals: bool,
    pub misses: BTreeMap<Miss, u64>,
    /// Accepts that the kernel did not hand to the programs. A TCP one is found out at the end of
    /// the connection, a unix one never.
    pub skipped_accepts: u64,
}

/// Totals of one listener since the daemon began. For unix listeners only accepts and wait mean
/// anything: nothing tells the programs of their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerCounts {
    /// Where it listens; `None` for unix.
    pub tcp_address: Option<(IpAddr, u16)>,
    /// Rises with every change of what follows.
    pub changes: u64,
    pub late_accepts: u64,
    pub wait_unknown: u64,
    pub lifetime_unknown: u64,
    pub half_closed: u64,
    pub seeded: u64,
    pub aborted: u64,
    /// Active connections whose worker is not known.
    pub unattributed: u64,
    /// Connections that have joined a unix listener's queue; `None` where the kernel does not tell
    /// of arrivals.
    pub unix_arrivals: Option<u64>,
    pub wait: Histogram,
    pub lifetime: Histogram,
    /// Longest queue that an arriving connection has found itself in since the last snapshot;
    /// `None` when none arrived, and where the kernel does not tell of arrivals.
    pub longest_queue: Option<QueuePeak>,
    /// All connections that were open when the daemon began are known, and to be this listener's.
    pub complete: bool,
    /// All connections that were open when the daemon began are known.
    pub seeding_complete: bool,
    /// Connections are told apart by listener; false where only their address was known and
    /// several listeners share it.
    pub attributed: bool,
}

/// How long a queue was at its longest, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePeak {
    pub length: u32,
    pub at: Monotonic,
}

impl BpfSnapshot {
    /// The longest queue at an arrival of each listener whose arrivals were all seen.
    #[must_use]
    pub fn arrivals(&self) -> BTreeMap<ListenerKey, Option<QueuePeak>> {
        self.listeners
            .iter()
            .filter(|_| self.sees_arrivals)
            .map(|(key, counts)| (*key, counts.longest_queue))
            .collect()
    }
}

impl ListenerCounts {
    /// A listener of which everything is known, and to which nothing has happened.
    #[cfg(test)]
    pub const UNTOUCHED: Self = Self {
        tcp_address: None,
        changes: 0,
        late_accepts: 0,
        wait_unknown: 0,
        lifetime_unknown: 0,
        half_closed: 0,
        seeded: 0,
        aborted: 0,
        unattributed: 0,
        unix_arrivals: None,
        wait: Histogram::EMPTY,
        lifetime: Histogram::EMPTY,
        longest_queue: None,
        complete: true,
        seeding_complete: true,
        attributed: true,
    };

    #[must_use]
    pub fn accepts(&self) -> u64 {
        count(&self.wait) + self.late_accepts + self.wait_unknown
    }

    #[must_use]
    pub fn closes(&self) -> u64 {
        count(&self.lifetime) + self.lifetime_unknown
    }

    /// Accepted and ESTABLISHED, by the accounting `seeded + accepts = active + half_closed +
    /// closes`.
    #[must_use]
    pub fn active(&self) -> u64 {
        (self.seeded + self.accepts()).saturating_sub(self.half_closed + self.closes())
    }
}

/// Number of durations in a histogram.
#[must_use]
pub fn count(histogram: &Histogram) -> u64 {
    histogram.buckets.iter().sum()
}

/// Which worker on which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerKey {
    pub pid: Pid,
    pub started: StartTicks,
    pub listener: ListenerKey,
}

/// Totals of one worker on one listener since the daemon began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerCounts {
    pub accepts: u64,
    /// `None` for unix listeners.
    pub active: Option<u64>,
    pub last_accept: Option<Monotonic>,
    pub wait_count: u64,
    pub wait_sum_ns: u64,
    pub wait_max_ns: u64,
}

/// What the programs have counted of turns, and what their last look over all connections has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnsSnapshot {
    /// When connections were looked at.
    pub looked: Monotonic,
    /// All of them were.
    pub is_whole: bool,
    /// What tells the end of an answer is seen; otherwise only the next read or the close ends it.
    pub ends_seen: bool,
    /// When data comes is seen: how long it waits for its read is known.
    pub waits_known: bool,
    pub listeners: BTreeMap<ListenerKey, ListenerTurnCounts>,
    pub workers: BTreeMap<WorkerKey, WorkerTurnCounts>,
    /// Workers that also serve listeners whose turns are not followed.
    pub seen_in_part: BTreeSet<(Pid, StartTicks)>,
    /// Workers that have connections of listeners whose turns are not wanted.
    pub hidden_in_part: BTreeSet<(Pid, StartTicks)>,
    /// Listeners of unix connections that are older than the programs, and may still be unread.
    pub with_older: BTreeSet<ListenerKey>,
    /// Living threads that have read or answered.
    pub threads: BTreeMap<Pid, Vec<turns::Thread>>,
}

/// Totals of one listener's turns since the daemon began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerTurnCounts {
    pub read_wait_unknown: u64,
    pub unanswered: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Connections older than the daemon that are followed now, or have ended.
    pub seeds_settled: u64,
    pub read_wait: Histogram,
    pub answer: Histogram,
    pub write: Histogram,
    /// Its connections whose worker is not known.
    pub of_no_worker: Found,
}

/// Totals of one worker's turns on one listener, and its connections there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerTurnCounts {
    pub turns: u64,
    pub answers: u64,
    pub answer_sum_ns: u64,
    pub answer_max_ns: u64,
    /// When it last began an answer.
    pub last_answer: Option<Monotonic>,
    pub found: Found,
}

impl ListenerTurnCounts {
    pub const NONE: Self = Self {
        read_wait_unknown: 0,
        unanswered: 0,
        bytes_in: 0,
        bytes_out: 0,
        seeds_settled: 0,
        read_wait: Histogram::EMPTY,
        answer: Histogram::EMPTY,
        write: Histogram::EMPTY,
        of_no_worker: Found::NONE,
    };

    /// Turns that have begun.
    #[must_use]
    pub fn total(&self) -> u64 {
        count(&self.read_wait) + self.read_wait_unknown
    }
}

impl WorkerTurnCounts {
    pub const NONE: Self = Self {
        turns: 0,
        answers: 0,
        answer_sum_ns: 0,
        answer_max_ns: 0,
        last_answer: None,
        found: Found::NONE,
    };
}
