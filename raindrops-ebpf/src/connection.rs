//! One TCP connection between its birth and its end.

use crate::listener::RowRef;

/// What has happened to a connection. The bits live in one word that is only ever or-ed into, so
/// that the order of an accept and of a change of state, which run on different CPUs without a
/// common lock, is the order in which they reach this word.
pub mod event {
    /// `accept()` returned it.
    pub const ACCEPTED: u64 = 1;
    /// The client has sent its FIN (CLOSE_WAIT).
    pub const HALF_CLOSED: u64 = 2;
    /// The server has closed it, or it was reset: it has left ESTABLISHED and CLOSE_WAIT.
    pub const CLOSED: u64 = 4;
    /// It was open, and its accept unobserved, before the programs were attached.
    pub const SEEDED: u64 = 8;
}

/// The row of a worker that is not known.
pub const NO_WORKER: u32 = u32::MAX;

/// A connection that the programs follow: keyed by the address of its socket when they saw its
/// birth, by its cookie when it is older.
///
/// The older ones are learnt by one dump. While it is under way the programs insert entries too,
/// for sockets whose event comes before the dump reaches them: whoever inserts first has counted
/// the connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// When the kernel made the socket; 0 when that was before the programs were attached.
    pub born_ns: u64,
    /// When it reached ESTABLISHED; 0 until then, or when not known.
    pub established_ns: u64,
    /// Bits of [`event`].
    pub events: u64,
    pub listener: RowRef,
    /// Row of the worker that accepted it.
    pub worker: u32,
    /// 1: not to be followed, only there to say that its cookie has been dealt with.
    pub settled: u32,
}

const _: () = assert!(size_of::<Connection>() == 40);

impl Connection {
    /// A connection that was just born.
    #[must_use]
    pub const fn born(at_ns: u64) -> Self {
        Self {
            born_ns: at_ns,
            established_ns: 0,
            events: 0,
            listener: RowRef::NONE,
            worker: NO_WORKER,
            settled: 0,
        }
    }
}

/// A unix connection between `connect()` and `accept()`, keyed by the address of the socket that
/// `accept()` will return.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedUnix {
    pub queued_ns: u64,
    pub listener: RowRef,
}

/// Both ends of a TCP connection. `remote_port` is in host order, addresses are in network order.
///
/// Noted at birth while older connections are being learnt, so that the dump that learns them can
/// tell which of the connections it sees the programs already follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub netns: u32,
    pub family: u16,
    pub local_port: u16,
    pub remote_port: u16,
    pub reserved: u16,
    pub local: [u8; 16],
    pub remote: [u8; 16],
}

/// Whether connections older than the programs are being learnt.
pub mod seeding {
    /// There are none to take over.
    pub const OFF: u32 = 0;
    /// The dump is under way: unknown connections may be older ones that it has not reached.
    pub const LEARNING: u32 = 1;
    /// The dump is done: every older connection is among the seeds.
    pub const LEARNT: u32 = 2;
}

const _: () = assert!(size_of::<QueuedUnix>() == 16);
const _: () = assert!(size_of::<FlowKey>() == 44);
