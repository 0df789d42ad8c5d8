//! What is counted of turns: totals per listener and per worker, what threads do, and what one look
//! over all connections has found.
//!
//! Totals are only ever added to with atomic instructions. Gauges are not kept up by events: a
//! program that user space runs goes over the table of connections and counts anew, so that a
//! missed event is not wrong for longer than its connection.

use crate::histogram::Histogram;

/// How turns are followed.
pub mod mode {
    pub const OFF: u32 = 0;
    /// Without the hooks that tell the end of an answer.
    pub const LIGHT: u32 = 1;
    pub const ON: u32 = 2;
}

/// Totals of one listener, in shards like its other counters.
///
/// Turns are `read_wait.count + read_wait_unknown`. Those that were answered are `answer.count`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerTurns {
    /// Changes whenever anything else here does that comes without bytes.
    pub changes: u64,
    /// Turns of which is not known since when their data was there.
    pub read_wait_unknown: u64,
    /// Turns that ended without an answer.
    pub unanswered: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Connections older than the programs that are followed now, or have ended.
    pub seeds_settled: u64,
    /// From the later of data and accept to the first read.
    pub read_wait: Histogram,
    /// From the first read to the first write.
    pub answer: Histogram,
    /// From the first write to the last.
    pub write: Histogram,
}

/// Totals of one worker on one listener, at the place of its row.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerTurns {
    pub turns: u64,
    pub answers: u64,
    pub answer_sum_ns: u64,
    pub answer_max_ns: u64,
    /// When it last began an answer; 0 never.
    pub last_answer_ns: u64,
    /// A value of [`class`]. Written by user space, read by the program that looks at connections.
    pub class: u64,
}

/// How a worker works.
pub mod class {
    /// Not known, or the thread that reads is the one that answers.
    pub const DIRECT: u64 = 0;
    /// A thread reads for others that answer.
    pub const HANDOFF: u64 = 1;
    /// The thread that answers waits for events when it has done so.
    pub const LOOP: u64 = 2;
}

/// A thread that has read or answered a turn.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The process that it belongs to: numbers of threads are used again.
    pub process: u32,
    /// Turns whose first read was its own.
    pub reads: u32,
    /// Turns whose first write was its own.
    pub answers: u32,
    /// The part of `answers` that another thread had read.
    pub handed: u32,
    /// When it last began to wait in epoll; 0 never.
    pub waited_ns: u64,
    /// When it was first seen to read or to answer.
    pub known_ns: u64,
    /// Times that it had epoll watch a connection.
    pub registered: u32,
    /// Connections that it began to read and that were accepted after `known_ns`: what it does with
    /// these was seen from the beginning.
    pub fresh: u32,
}

/// Connections of one worker on one listener, or those of a listener that no worker is known of, as
/// one look found them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// The look that these are of; of any other they are void.
    pub look: u64,
    /// Accepted and not closed by the server.
    pub connections: u64,
    /// Not in a turn, with data that nobody has read.
    pub unread: u64,
    /// In a turn, and the server waits for more of the request.
    pub reading: u64,
    /// In a turn that is neither of those nor answered.
    pub calling: u64,
    /// Being answered.
    pub writing: u64,
    /// Part of `writing`: the client does not take what is written.
    pub blocked: u64,
    /// Not in a turn, and a thread waits for its data in `poll()`.
    pub parked: u64,
    /// Data came that nobody was seen to read, and that is no longer there.
    pub unseen: u64,
    /// Beginning of the oldest turn that is calling or writing; 0 when there is none.
    pub oldest_ns: u64,
    /// Thread that read the oldest turn, or that writes its answer.
    pub oldest_thread: u64,
    /// The same of those that are calling.
    pub oldest_call_ns: u64,
    pub oldest_call_thread: u64,
}

/// What a look over the connections is told, and what it tells. One element.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookOver {
    /// Number of this look, never 0.
    pub look: u64,
    /// Entries to go over at most.
    pub most: u64,
    /// Entries gone over.
    pub seen: u64,
    /// Listener whose connections are to be listed, and how many of them to pass over first; only
    /// there where connections are listed.
    pub slot: u64,
    pub skip: u64,
    /// Connections listed.
    pub listed: u64,
}

/// Stands for every listener where connections are listed.
pub const ANY_SLOT: u32 = u32::MAX;

/// Connections in one list; more are listed by several looks.
pub const LISTED: u32 = 512;

/// One accepted connection, as one look found it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedConnection {
    /// 0 when nobody has asked for it yet, and for unix.
    pub cookie: u64,
    /// Of a unix socket.
    pub inode: u64,
    pub events: u64,
    pub established_ns: u64,
    pub accepted_ns: u64,
    /// A value of [`state`].
    pub state: u64,
    pub data_ns: u64,
    pub read_ns: u64,
    pub first_write_ns: u64,
    pub last_write_ns: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub turns: u64,
    pub slot: u32,
    pub worker: u32,
    pub reader: u32,
    pub writer: u32,
}

/// What a connection is doing.
pub mod state {
    pub const IDLE: u64 = 0;
    pub const UNREAD: u64 = 1;
    pub const READING: u64 = 2;
    pub const CALLING: u64 = 3;
    pub const WRITING: u64 = 4;
    pub const BLOCKED: u64 = 5;
}

const _: () = assert!(size_of::<ListenerTurns>() == 48 + 3 * size_of::<Histogram>());
const _: () = assert!(size_of::<WorkerTurns>() == 48);
const _: () = assert!(size_of::<Thread>() == 40);
const _: () = assert!(size_of::<Gauges>() == 104);
const _: () = assert!(size_of::<LookOver>() == 48);
const _: () = assert!(size_of::<ListedConnection>() == 120);

impl ListenerTurns {
    pub const EMPTY: Self = Self {
        changes: 0,
        read_wait_unknown: 0,
        unanswered: 0,
        bytes_in: 0,
        bytes_out: 0,
        seeds_settled: 0,
        read_wait: Histogram::EMPTY,
        answer: Histogram::EMPTY,
        write: Histogram::EMPTY,
    };
}

impl WorkerTurns {
    pub const EMPTY: Self = Self {
        turns: 0,
        answers: 0,
        answer_sum_ns: 0,
        answer_max_ns: 0,
        last_answer_ns: 0,
        class: class::DIRECT,
    };
}

impl Gauges {
    /// Of a look that has found nothing yet.
    #[must_use]
    pub const fn of(look: u64) -> Self {
        Self {
            look,
            connections: 0,
            unread: 0,
            reading: 0,
            calling: 0,
            writing: 0,
            blocked: 0,
            parked: 0,
            unseen: 0,
            oldest_ns: 0,
            oldest_thread: 0,
            oldest_call_ns: 0,
            oldest_call_thread: 0,
        }
    }
}
