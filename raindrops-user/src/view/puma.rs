//! What is known of a puma server's own figures: from its control server, else estimated from what
//! the kernel shows.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::rfc3339_option;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Puma {
    pub source: PumaSource,
    /// How long ago the control server was asked. A cluster's workers tell their master every few
    /// seconds only: see `last_checkin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// When it began, by its own clock; after a restart in the same process that is later than the
    /// process.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub started_at: Option<SystemTime>,
    /// Restart generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted_workers: Option<u64>,
    /// Workers of an earlier phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_workers: Option<u64>,
    /// By index and pid.
    pub workers: Vec<PumaWorker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PumaSource {
    /// Puma's control server said so.
    Control,
    /// From its threads and connections.
    Estimate,
}

/// One process of a cluster, or the only one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PumaWorker {
    /// Absent where puma names a process of another pid namespace that is not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted: Option<bool>,
    /// When its master started it, by the master's clock.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub started_at: Option<SystemTime>,
    /// When it last reported to its master, as puma writes it: what follows is of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkin: Option<String>,
    /// Requests waiting for a thread of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u64>,
    /// Threads of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u64>,
    /// Threads at work. Puma's own count includes the backlog; an estimate does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_threads: Option<u64>,
    /// Requests that could be taken at once: by threads that wait, and by those that the pool may
    /// still make, which only puma knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_capacity: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_threads: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_count: Option<u64>,
}
