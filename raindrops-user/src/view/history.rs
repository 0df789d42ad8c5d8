//! What was, as it is published: figures of each listener at equal steps of time.
//!
//! Apart from the view because it is kept by the daemon, not merged of sources. Data only; what is
//! kept, and how long, is decided in [`crate::history`].

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub const SCHEMA: &str = "raindrops.history/1";

/// Past figures, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    pub schema: String,
    #[serde(with = "super::rfc3339")]
    pub taken_at: SystemTime,
    /// Time between two figures, as it was asked for.
    pub step_ms: u64,
    /// Ends of the steps, in milliseconds since 1970. Where nothing was recorded, there is no step.
    pub times_ms: Vec<u64>,
    /// How long each step was: more than `step_ms` where the daemon was held up, and less where
    /// coarser steps begin and end; null where it is the first that the daemon recorded.
    pub lasted_ms: Vec<Option<u64>>,
    pub listeners: Vec<ListenerHistory>,
}

/// One listener; each list has a figure for each time, null where it is not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerHistory {
    pub id: String,
    pub address: String,
    pub protocol: String,
    /// Connections in the accept queue at the end of the step.
    pub queued: Vec<Option<u32>>,
    /// The most that were seen in the queue during the step.
    pub peak: Vec<Option<u32>>,
    /// Accepted connections at the end of the step.
    pub active: Vec<Option<u32>>,
    /// Connections accepted during the step.
    pub accepts: Vec<Option<u32>>,
    /// Handshake segments dropped because the queue was full, during the step.
    pub overflows: Vec<Option<u32>>,
    /// Of the connections accepted during the step; null too where there were none.
    pub wait_p99_us: Vec<Option<u32>>,
    /// Turns whose data no thread works on, and those that the application works on.
    pub waiting: Vec<Option<u32>>,
    pub calling: Vec<Option<u32>>,
}
