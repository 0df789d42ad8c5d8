//! A worker: a process that accepts on a listener.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{Class, WorkerTurns, rfc3339_option, slabs::Number};
use crate::fact::Fact;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_pid: Option<u32>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub started_at: Option<SystemTime>,
    pub comm: String,
    /// Process title where it has a known server's form, else the comm.
    pub title: String,
    /// The whole command line, of which the end may be cut off. For root and the daemon's user only: it
    /// can hold secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// Effective user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Fact::is_unknown")]
    pub server: Fact<String>,
    /// The server's own number of this worker.
    pub index: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    pub state: String,
    #[serde(default, skip_serializing_if = "Fact::is_unknown")]
    pub unit: Fact<String>,
    #[serde(default, skip_serializing_if = "Fact::is_unknown")]
    pub container: Fact<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepts: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_accept_age_us: Option<u64>,
    pub listeners: Vec<WorkerListener>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WorkerWait>,
    /// How it works, as learnt from which threads read and answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Threads that have answered and are in a turn now; absent for event loops, and while not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads_busy: Option<u32>,
    /// Living threads that have answered, and of a pool those that are called alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads_seen: Option<u32>,
    /// Connections that it has accepted and not closed, on all its listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<WorkerTurns>,
    /// Open descriptors, and how many it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd_limit: Option<u64>,
    /// A thread that sits in one place; absent where none is seen to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled: Option<Stalled>,
    /// What the thread at its oldest turn is at, once that turn is old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_place: Option<Place>,
    /// What it says of itself in slabs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slab: Option<BTreeMap<String, Number>>,
}

/// A thread of a worker that is stopped (T) or cannot be interrupted (D).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    pub thread: u32,
    pub thread_name: String,
    /// State letter of `/proc/PID/task/TID/stat`.
    pub state: String,
    /// How long every look has found it so, and that it has not run.
    pub for_ms: u64,
    /// The system call that it is in, where it may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall: Option<String>,
    /// The kernel function that it waits in, where it may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wchan: Option<String>,
}

/// What a thread is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// State letter of `/proc/PID/task/TID/stat`.
    pub state: String,
    /// The system call that it is in, where it may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall: Option<String>,
    /// The kernel function that it waits in, where it may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wchan: Option<String>,
}

/// A worker's part of one listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerListener {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepts: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<u64>,
    /// Part of the listener's accepts; absent while there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerWait {
    pub count: u64,
    pub sum_us: u64,
    pub max_us: u64,
}
