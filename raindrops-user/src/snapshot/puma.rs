//! What the control servers of puma said.

use std::time::SystemTime;

use crate::{
    address::Address,
    ids::{Monotonic, Pid},
    plan::Off,
};

/// Every control server that is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PumaSnapshot {
    pub controls: Vec<ControlSeen>,
}

/// One control server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlSeen {
    pub address: Address,
    /// The last answer; `None` before the first, and where it cannot be right any more.
    pub answer: Option<ControlAnswer>,
    /// Why the last question was not answered.
    pub failure: Option<Off>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlAnswer {
    /// When it was asked for: the figures are no older.
    pub asked: Monotonic,
    /// Who made the listening socket, in our pid namespace; `None` for TCP, and where it is not seen
    /// from here.
    pub peer: Option<Pid>,
    pub stats: PumaStats,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PumaStats {
    Single(PumaSingle),
    Cluster(PumaCluster),
}

/// A server without workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PumaSingle {
    pub started_at: Option<SystemTime>,
    pub pool: PumaPool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PumaCluster {
    pub started_at: Option<SystemTime>,
    pub phase: Option<u64>,
    pub booted_workers: Option<u64>,
    pub old_workers: Option<u64>,
    pub workers: Vec<PumaClusterWorker>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PumaClusterWorker {
    /// In the pid namespace of its master.
    pub pid: Option<Pid>,
    pub index: Option<u32>,
    pub phase: Option<u64>,
    pub booted: Option<bool>,
    pub started_at: Option<SystemTime>,
    /// RFC 3339.
    pub last_checkin: Option<String>,
    /// As the worker last told its master.
    pub pool: PumaPool,
}

/// One pool of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PumaPool {
    pub backlog: Option<u64>,
    pub running: Option<u64>,
    pub busy_threads: Option<u64>,
    pub pool_capacity: Option<u64>,
    pub max_threads: Option<u64>,
    pub requests_count: Option<u64>,
}
