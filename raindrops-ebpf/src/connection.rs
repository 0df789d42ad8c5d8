//! One connection between its birth and its end, and what its server is doing with it.

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
    /// It is a unix connection, which is followed for its turns only: no event tells of its end.
    pub const UNIX: u64 = 16;
    /// It was seeded, and its entry has moved to the address of its socket.
    pub const MOVED: u64 = 32;
    /// It is an MPTCP connection, not a path of one.
    pub const WHOLE: u64 = 64;
}

/// The row of a worker that is not known.
pub const NO_WORKER: u32 = u32::MAX;

/// A connection that the programs follow: keyed by the address of its socket when they saw its
/// birth or its data, by its cookie when it is older and nothing was read from it yet.
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
    pub turn: Turn,
}

/// What the server does with a connection. Written by the programs that see data come, reads and
/// writes; two that meet on one connection may lose one of two changes, which the next read mends.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When `accept()` returned; 0 when that was not seen.
    pub accepted_ns: u64,
    /// When data came that nobody has read yet; 0 when there is none.
    pub data_ns: u64,
    /// Beginning of the current or the last turn: the first read of fresh data.
    pub read_ns: u64,
    pub first_write_ns: u64,
    pub last_write_ns: u64,
    /// Read and written in all turns.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Of a unix socket: tells it from a later one at the same address.
    pub inode: u64,
    /// Row of the worker that reads it.
    pub worker: u32,
    /// Process of that worker.
    pub process: u32,
    /// Thread of the last read, and of the last write.
    pub reader: u32,
    pub writer: u32,
    /// A value of [`phase`].
    pub phase: u32,
    /// Bits of [`since`]: what the server has done since the last read or write.
    pub since: u32,
    pub turns: u64,
}

/// How far the current turn is.
pub mod phase {
    /// Nothing was read yet, or the last turn was over when the connection was closed.
    pub const NONE: u32 = 0;
    /// Read, and nothing written since.
    pub const CALL: u32 = 1;
    /// Written.
    pub const WRITE: u32 = 2;
}

/// What a server has done with a connection since the last read or write of data.
pub mod since {
    /// A thread of it waits in `poll()` for this connection's data.
    pub const POLLED: u32 = 1;
    /// It was (re)registered with epoll.
    pub const REGISTERED: u32 = 2;
    /// A read found nothing.
    pub const FOUND_NOTHING: u32 = 4;
    /// A write found no room: the client does not take what is written.
    pub const BLOCKED: u32 = 8;
}

const _: () = assert!(size_of::<Turn>() == 96);
const _: () = assert!(size_of::<Connection>() == 136);

impl Turn {
    pub const NONE: Self = Self {
        accepted_ns: 0,
        data_ns: 0,
        read_ns: 0,
        first_write_ns: 0,
        last_write_ns: 0,
        bytes_in: 0,
        bytes_out: 0,
        inode: 0,
        worker: NO_WORKER,
        process: 0,
        reader: 0,
        writer: 0,
        phase: phase::NONE,
        since: 0,
        turns: 0,
    };
}

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
            turn: Turn::NONE,
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
