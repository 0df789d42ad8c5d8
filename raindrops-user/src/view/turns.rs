//! What is done with accepted connections, as it is published.
//!
//! Apart from the other groups because listeners, groups and workers share it. Data only; what the
//! figures are is decided in [`crate::turns`].

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Durations, WorkerWait};

/// What is done with the accepted connections of one listener. A turn goes from the first read of
/// fresh data to the end of its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turns {
    /// The client's data is there and no thread works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// Begun, and the server waits for the rest of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<u64>,
    /// Read and not yet answered: the application works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calling: Option<u64>,
    /// Between the first write of an answer and its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writing: Option<u64>,
    /// Part of `writing`: the client does not take what is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<u64>,
    /// Open connections in none of these: keep-alive between turns, or nothing sent yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<u64>,
    /// Since when every look found `waiting` above 0; absent while it is 0.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "super::rfc3339_option"
    )]
    pub waiting_since: Option<SystemTime>,
    /// Turns begun since `since`.
    pub total: u64,
    /// Turns that ended without an answer.
    pub unanswered: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// From the later of data and accept to the first read; absent where the kernel does not tell when
    /// data comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_wait: Option<Durations>,
    /// From the first read to the first write.
    pub answer: Durations,
    /// From the first write to the last.
    pub write: Durations,
    /// Age of the oldest turn now; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_us: Option<u64>,
    /// All open connections are looked at: none is older than the daemon and still unread.
    pub complete: bool,
    pub write_end: WriteEnd,
    /// Age of the gauges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    pub source: String,
}

/// How the end of an answer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteEnd {
    /// By what the server does next.
    Seen,
    /// Only by the next read or the close: `writing` includes idle keep-alive connections.
    NextRead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The thread that reads is the one that answers.
    Direct,
    /// A thread reads for a pool that answers.
    Handoff,
    /// A thread that answers waits for events of many connections.
    Loop,
    /// Not known yet.
    Learning,
}

/// A worker's turns on all its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerTurns {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calling: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writing: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<u64>,
    /// Since when every look found `waiting` above 0; absent while it is 0.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "super::rfc3339_option"
    )]
    pub waiting_since: Option<SystemTime>,
    pub total: u64,
    pub answer: WorkerWait,
    /// Time since it began an answer (a first write); absent when it has begun none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_answer_age_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_us: Option<u64>,
    /// Who is at the oldest turn: the thread that read it, or that writes its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_thread: Option<u32>,
    /// The same of turns that are wholly read and not yet answered: neither a slow upload nor a
    /// slow download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_calling_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_calling_thread: Option<u32>,
    /// All open connections are looked at, on all listeners that it serves.
    #[serde(default)]
    pub complete: bool,
}
