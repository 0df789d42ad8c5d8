//! Accepted connections one by one, in the shape that is published: `GET /v1/connections`.
//!
//! Not part of the [`View`](super::View): there can be very many, and reading them takes the kernel's
//! time, so they are read for who asks. A field whose value is unknown is absent.

mod list;

use std::{collections::BTreeSet, time::SystemTime};

use serde::{Deserialize, Serialize};

pub use self::list::{Inputs, list};
use super::rfc3339;
use crate::{
    address::Endpoint,
    ids::Pid,
    snapshot::{ListenerKey, connections::Phase},
};

/// Name and version of the shape.
pub const SCHEMA: &str = "raindrops.connections/1";

/// At most this many connections are looked at.
pub const SCANNED: usize = 4096;

/// Connections that are listed where nothing else is asked for.
pub const USUAL_LIMIT: usize = 100;

/// Which connections are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Every listener of the view: those that are not wanted tell which connections may be theirs.
    pub places: Vec<Place>,
    /// Only those that it accepted.
    pub worker: Option<Pid>,
    /// Only those that one of these accepted: who asks may not see others'.
    pub allowed: Option<BTreeSet<Pid>>,
    pub limit: usize,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub key: ListenerKey,
    pub id: String,
    pub address: String,
    /// `None` for unix.
    pub tcp: Option<Endpoint>,
    pub is_wanted: bool,
}

impl Question {
    pub fn wanted(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.is_wanted)
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub schema: String,
    #[serde(with = "rfc3339")]
    pub taken_at: SystemTime,
    /// There are more than `connections`: over the limit, or not looked at.
    pub truncated: bool,
    /// How many were looked at.
    pub scanned: usize,
    /// All there were have been looked at.
    pub scan_complete: bool,
    /// How many of those were asked for.
    pub matched: usize,
    /// Listeners that were asked for.
    pub listeners: Vec<ListenerName>,
    /// Oldest turn first, then oldest connection.
    pub connections: Vec<Connection>,
    /// What could not be read, and why.
    pub notes: Vec<Note>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerName {
    pub id: String,
    pub address: String,
}

/// What a field lacks, or how far the list can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// `tcp`, `turns`, `unix` or `scan`.
    pub what: String,
    pub text: String,
    /// What would help, where something would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Established,
    /// The client has closed, the server has not.
    CloseWait,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Id of its listener; absent where several may be it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The server's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The client's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Process that accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u32>,
    /// Of the server's socket, as `ss -e` shows it in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Of the server's socket, as in `/proc/PID/fd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Since it was established; since its accept where that is all that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_us: Option<u64>,
    /// Since `accept()` returned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_age_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// `writing`, and the client does not take what is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
    /// Since the phase began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase_age_us: Option<u64>,
    /// Turns begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
    /// Read by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// Written by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// Thread that read last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_thread: Option<u32>,
    /// Thread that wrote last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_thread: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
}

/// What the kernel says of the server's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcp {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rttvar_us: Option<u32>,
    /// Timeouts in a row, without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u8>,
    /// Segments sent again, of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_retransmits: Option<u32>,
    /// Segments sent and not acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unacked: Option<u32>,
    /// Arrived from the client, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// Acknowledged by the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_acked: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_data_received_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_data_sent_ms: Option<u32>,
    /// Segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snd_cwnd: Option<u32>,
    /// Written and not sent yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notsent_bytes: Option<u32>,
    /// Arrived and not read by the server.
    pub unread_bytes: u32,
    /// Written and not acknowledged, sent or not.
    pub unacked_bytes: u32,
}
