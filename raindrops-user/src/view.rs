//! The view: all of it, at one instant, in the shape that is published.
//!
//! Field names are public. A field whose value is unknown is absent; `null` says that there is
//! none. This module holds the data only; [`merge`] makes it.

pub mod connections;
pub mod durations;
pub mod history;
mod label;
pub mod losses;
pub mod merge;
mod netns;
pub mod puma;
pub mod recent;
pub(crate) mod rfc3339;
pub mod servers;
pub mod skew;
pub mod slabs;
mod turns;
pub mod waiting;
mod worker;

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};

pub(crate) use self::rfc3339::option as rfc3339_option;
pub use self::turns::{Class, Turns, WorkerTurns, WriteEnd};
pub use self::worker::{Place, Stalled, Worker, WorkerListener, WorkerWait};
use self::{puma::Puma, slabs::Slab};
use crate::fact::Fact;

/// Name and version of the shape.
pub const SCHEMA: &str = "raindrops.view/1";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub schema: String,
    pub host: Host,
    #[serde(with = "rfc3339")]
    pub taken_at: SystemTime,
    /// `CLOCK_MONOTONIC` at `taken_at`.
    pub monotonic_ns: u64,
    /// Since when totals count.
    #[serde(with = "rfc3339")]
    pub since: SystemTime,
    pub sources: Vec<Source>,
    pub listeners: Vec<Listener>,
    pub groups: Vec<Group>,
    pub workers: Vec<Worker>,
    pub servers: Vec<Server>,
    #[serde(default)]
    pub slabs: Vec<Slab>,
    pub gaps: Vec<Gap>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    pub kernel: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    pub cpus: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    On,
    /// Works, but not fully: the reason says what is missing.
    Degraded,
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `bpf`, `sock_diag`, `netns`, `proc`, `slab`, and of puma.
    pub name: String,
    pub state: SourceState,
    /// Which hook or way serves which part.
    pub detail: BTreeMap<String, String>,
    /// Why it is not on; `null` when it is.
    pub reason: Option<String>,
    /// What would turn it on, where something would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// Age of its figures; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// `NETNS:COOKIE`; lives as long as the socket.
    pub id: String,
    pub protocol: String,
    pub address: String,
    pub netns: Netns,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    pub inode: u64,
    /// Id of the group of SO_REUSEPORT listeners that it belongs to.
    pub group: Option<String>,
    #[serde(default, skip_serializing_if = "Fact::is_unknown")]
    pub server: Fact<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Vec<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders: Option<Vec<u32>>,
    pub queue: Queue,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<Turns>,
    /// How unevenly its accepts are spread; absent while there are too few to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew: Option<Skew>,
    pub recent: Recent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netns {
    pub inode: u32,
    #[serde(default, skip_serializing_if = "Fact::is_unknown")]
    pub name: Fact<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitFrom {
    /// The application's `listen()` backlog, below somaxconn.
    App,
    /// The limit equals net.core.somaxconn, which cuts off larger backlogs.
    AtSomaxconn,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    pub limit_from: LimitFrom,
    /// Longest queue seen since the start or the last reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<u32>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub peak_at: Option<SystemTime>,
    /// `peak` is of every arrival of a connection, not only of samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_exact: Option<bool>,
    /// Since when every sample found it longer than its limit; absent while it is not.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub full_since: Option<SystemTime>,
    /// Since when every sample found connections in it; absent while it is empty.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub waiting_since: Option<SystemTime>,
    /// Handshake segments dropped because this queue was full, since `since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflows_exact: Option<bool>,
    /// All of sk_drops since the listener was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<u64>,
    /// TCP_DEFER_ACCEPT: `true` where drops rise without overflows.
    pub defer_accept: Option<bool>,
    pub source: String,
    /// Age of `queued` and `limit` where it is not that of the source: of another network namespace
    /// than the daemon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_closed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeded: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepts: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_accepts: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes: Option<u64>,
    /// Connections that ended in the queue, before anybody accepted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Durations>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_unknown: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Durations>,
    /// Nothing is missing: connections older than the daemon were all learnt.
    pub complete: bool,
    /// `bpf`, or `sock_diag` where only `active` is known.
    pub source: String,
    /// Age of `active` of a unix listener, which is read at most once a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_age_ms: Option<u64>,
}

/// Durations in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    pub count: u64,
    pub sum_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_us: Option<u64>,
    /// Upper bound in microseconds (`null`: above the last) and count; only when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Vec<(Option<f64>, u64)>>,
}

/// What happened in the last seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    pub over_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepts_per_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_per_s: Option<f64>,
    /// The fewest half-closed connections in any look of this time; there is one a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_closed_least: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflows_per_s: Option<f64>,
    /// In the last `overflows_over_ms`: they are counted apart from accepts, so the window is not
    /// `over_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflows: Option<u64>,
    #[serde(default)]
    pub overflows_over_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<RecentDurations>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<RecentDurations>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentDurations {
    pub count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// Middle of the longest's bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_us: Option<u64>,
}

/// SO_REUSEPORT listeners on one address, summed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub id: String,
    pub address: String,
    pub members: Vec<String>,
    pub queue: Queue,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<Turns>,
}

/// How unevenly accepts are spread over workers: 0 evenly, 1 all by one of them.
/// `(largest share - 1/n) / (1 - 1/n)` for n workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skew {
    pub ratio: f64,
    /// Accepts that it was taken of, by how many workers, in how long.
    pub accepts: u64,
    pub workers: u32,
    pub over_ms: u64,
    /// Who had the largest share.
    pub pid: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// `KIND:PID` of the master, or of the only process.
    pub id: String,
    pub kind: String,
    pub master: Option<u32>,
    /// Start of the process in `id`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub started_at: Option<SystemTime>,
    pub title: String,
    pub workers: Vec<u32>,
    /// [`Skew`] over all its listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew: Option<f64>,
    /// Accepts that `skew` was taken of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_accepts: Option<u64>,
    /// Workers that ended lately; absent where none was seen to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exits: Option<Exits>,
    /// What puma says or seems to do; `null` for other servers.
    #[serde(default, skip_serializing_if = "Fact::is_unknown")]
    pub puma: Fact<Puma>,
}

/// Workers of a server that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exits {
    /// Those that a look had found: of workers that live shorter than the time between looks there
    /// were more.
    pub count: u32,
    pub over_ms: u64,
    /// How long they had lived at most, in the middle: to the look that missed them, or to the
    /// start of who took their number.
    pub median_life_ms: u64,
}

/// A number that is missing or cannot be trusted, and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub what: String,
    pub text: String,
    pub count: u64,
    pub hint: String,
    /// The view that was the first to have it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub first_at: Option<SystemTime>,
    /// The last view in which `count` was more than in the one before.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub last_at: Option<SystemTime>,
    /// When a comparison began that found no connection of the kernel's missing from `active`; the
    /// last since `last_at`, and absent before there is one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub compared_at: Option<SystemTime>,
}
