//! Accepted connections one by one, as each source saw them when it was asked.
//!
//! Apart from the other snapshots, because nobody takes these at every tick: there can be very many.

use serde::{Deserialize, Serialize};

use super::ListenerKey;
use crate::{
    address::Endpoint,
    ids::{Cookie, Inode, Monotonic, NetnsId, Pid, StartTicks},
};

/// What the BPF programs know of the accepted connections of some listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfConnections {
    pub connections: Vec<BpfConnection>,
    /// All there were are among them.
    pub complete: bool,
}

/// One accepted connection, as the programs have followed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfConnection {
    pub listener: ListenerKey,
    /// Of a TCP socket; `None` while nobody has asked for it, which a dump of sock_diag does.
    pub cookie: Option<Cookie>,
    /// Of a unix socket.
    pub inode: Option<Inode>,
    /// Who reads it; who accepted it, while nobody has read it.
    pub worker: Option<(Pid, StartTicks)>,
    pub established: Option<Monotonic>,
    /// When `accept()` returned it.
    pub accepted: Option<Monotonic>,
    /// The client has closed, the server has not. Not told of unix connections.
    pub half_closed: bool,
    /// `None` where turns are not shown, and for an answer whose end is not seen.
    pub turn: Option<TurnState>,
}

/// How far a connection is in its turn, and what it has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnState {
    pub phase: Phase,
    /// Part of [`Phase::Writing`]: the client does not take what is written.
    pub blocked: bool,
    /// When the phase began.
    pub since: Option<Monotonic>,
    /// Turns begun.
    pub turns: u64,
    /// Bytes that the server has read, and written.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// The threads that read last, and wrote last.
    pub reader_thread: Option<u32>,
    pub writer_thread: Option<u32>,
}

/// What is being done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Between turns, or nothing has been sent yet.
    Idle,
    /// The client's data is there and no thread works on it.
    Waiting,
    /// The server waits for the rest of the request.
    Reading,
    /// Read and not yet answered.
    Calling,
    /// Between the first write of an answer and its end.
    Writing,
}

/// Accepted TCP connections of one network namespace, from sock_diag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelConnections {
    pub netns: NetnsId,
    pub connections: Vec<KernelConnection>,
    /// The bounds did not cut it short.
    pub complete: bool,
    /// Nothing was left out because it could not be read, or because sockets changed meanwhile.
    pub consistent: bool,
}

/// One accepted TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelConnection {
    pub cookie: Cookie,
    pub inode: Inode,
    /// CLOSE_WAIT; else ESTABLISHED.
    pub half_closed: bool,
    /// As the socket has it: an IPv4 client of a dual-stack listener shows as `::ffff:a.b.c.d`.
    pub local: Endpoint,
    pub remote: Endpoint,
    /// One of the paths of an MPTCP connection, as far as we may know.
    pub is_path: bool,
    /// Bytes that have arrived and that the server has not read.
    pub unread_bytes: u32,
    /// Bytes that the server has written and that the client has not acknowledged, sent or not.
    pub unacked_bytes: u32,
    /// `None` where the kernel did not give it.
    pub info: Option<TcpInfo>,
}

/// The part of `struct tcp_info` that explains a slow connection. Older kernels give less of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Retransmission timeouts in a row, without an answer.
    pub retransmits: Option<u8>,
    /// Segments sent and not acknowledged.
    pub unacked: Option<u32>,
    pub last_data_sent_ms: Option<u32>,
    pub last_data_received_ms: Option<u32>,
    pub rtt_us: Option<u32>,
    pub rttvar_us: Option<u32>,
    /// Segments.
    pub snd_cwnd: Option<u32>,
    /// Segments sent again since the connection began.
    pub total_retransmits: Option<u32>,
    pub bytes_acked: Option<u64>,
    pub bytes_received: Option<u64>,
    /// Bytes written and not sent yet.
    pub notsent_bytes: Option<u32>,
}
