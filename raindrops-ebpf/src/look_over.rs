//! Goes over the table of connections and tells what each is doing: the gauges of turns, and lists of
//! connections. User space runs these programs.
//!
//! The kernel leads over the table, so that no event is kept from the other programs meanwhile, as
//! reading it in batches would do.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_ktime_get_ns, generated::bpf_for_each_map_elem};
use raindrops_ebpf::{
    connection::{Connection, Turn, event, phase, since},
    globals::HAS_DATA_READY,
    turns::{ANY_SLOT, Gauges, LISTED, class, state},
};

use crate::{
    count::Listener,
    listen,
    maps::{
        CONNECTIONS, LISTED_CONNECTIONS, LISTENER_GAUGES, LOOK_OVER, THREADS, WORKER_GAUGES,
        WORKER_ROWS, WORKER_TURNS,
    },
    sock::{Sock, state as socket},
    turn,
};

/// A writer whose client takes nothing for so long is blocked by it.
const BLOCKED_NS: u64 = 200_000_000;
/// Data that nobody has read and that is gone for so long was read without being seen.
const UNSEEN_NS: u64 = 100_000_000;

const CONTINUE: i64 = 0;
const STOP: i64 = 1;

/// Of one look.
#[repr(C)]
struct Look {
    number: u64,
    now: u64,
    most: u64,
    seen: u64,
}

/// Counts what the connections are doing.
#[inline(always)]
pub fn count() {
    go_over(count_one as *mut c_void);
}

/// Lists the connections of one listener.
#[inline(always)]
pub fn list() {
    go_over(list_one as *mut c_void);
}

#[inline(always)]
fn go_over(each: *mut c_void) {
    let Some(order) = LOOK_OVER.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a pointer to a whole map value.
    let order = unsafe { &mut *order };
    let mut look = Look {
        number: order.look,
        // SAFETY: the helper has no preconditions.
        now: unsafe { bpf_ktime_get_ns() },
        most: order.most,
        // User space has put nothing but 0 there, which the verifier does not know: from a number that
        // it knows it would check each turn of the loop for itself.
        seen: order.seen,
    };
    let table = (&raw const CONNECTIONS).cast_mut().cast::<c_void>();
    // SAFETY: `each` is a function of this file of the kind that the helper calls.
    unsafe { bpf_for_each_map_elem(table, each, (&raw mut look).cast(), 0) };
    order.seen = look.seen;
}

#[inline(never)]
extern "C" fn count_one(
    _table: *mut c_void,
    key: *const u64,
    connection: *mut Connection,
    look: *mut Look,
) -> i64 {
    // SAFETY: the kernel hands over an entry of the table, and what `go_over` has given it.
    let (key, connection, look) = unsafe { (*key, &mut *connection, &mut *look) };
    if look.seen >= look.most {
        return STOP;
    }
    look.seen += 1;
    let sock = Sock::new(key);
    // Also of a listener that is gone: nothing else takes these out.
    if connection.events & event::UNIX != 0 && !is_still(sock, connection) {
        if let Ok(listener) = Listener::at(connection.listener) {
            turn::ended(listener, &mut connection.turn);
        }
        let _ = CONNECTIONS.remove(key);
        return CONTINUE;
    }
    if !is_open(connection) {
        return CONTINUE;
    }
    let gauges = match gauges_of_worker(connection) {
        Some(gauges) => gauges,
        None => match LISTENER_GAUGES.get_ptr_mut(connection.listener.slot) {
            Some(gauges) => gauges,
            None => return CONTINUE,
        },
    };
    // SAFETY: a pointer to a whole map value, which only this program writes.
    let gauges = unsafe { &mut *gauges };
    if gauges.look != look.number {
        *gauges = Gauges::of(look.number);
    }
    gauges.connections += 1;
    let turn = &connection.turn;
    let (is, thread) = doing(sock, connection, look.now);
    if turn.phase != phase::CALL && turn.since & since::POLLED != 0 {
        gauges.parked += 1;
    }
    match is {
        state::UNREAD => gauges.unread += 1,
        state::READING => gauges.reading += 1,
        state::CALLING => gauges.calling += 1,
        state::WRITING => gauges.writing += 1,
        state::BLOCKED => {
            gauges.writing += 1;
            gauges.blocked += 1;
        }
        _ => {
            // Data came, and is gone without having been seen to be read.
            if turn.data_ns != 0
                && turn.data_ns + UNSEEN_NS < look.now
                && connection.events & event::HALF_CLOSED == 0
            {
                gauges.unseen += 1;
            }
        }
    }
    let is_older = gauges.oldest_ns == 0 || turn.read_ns < gauges.oldest_ns;
    if is >= state::CALLING && is_older {
        gauges.oldest_ns = turn.read_ns;
        gauges.oldest_thread = u64::from(thread);
    }
    let is_older = gauges.oldest_call_ns == 0 || turn.read_ns < gauges.oldest_call_ns;
    if is == state::CALLING && is_older {
        gauges.oldest_call_ns = turn.read_ns;
        gauges.oldest_call_thread = u64::from(thread);
    }
    CONTINUE
}

/// `None` where the worker is not known, or its row has gone to another.
#[inline(always)]
fn gauges_of_worker(connection: &Connection) -> Option<*mut Gauges> {
    let row = connection.turn.worker;
    let worker = WORKER_ROWS.get_ptr(row)?;
    // SAFETY: a pointer to a whole map value.
    let key = unsafe { (*worker).key };
    if key.pid == connection.turn.process && key.slot == connection.listener.slot {
        WORKER_GAUGES.get_ptr_mut(row)
    } else {
        None
    }
}

#[inline(never)]
extern "C" fn list_one(
    _table: *mut c_void,
    key: *const u64,
    connection: *mut Connection,
    look: *mut Look,
) -> i64 {
    // SAFETY: the kernel hands over an entry of the table, and what `go_over` has given it.
    let (key, connection, look) = unsafe { (*key, &mut *connection, &mut *look) };
    // In the map, not on the stack: the verifier would follow the program for each value of a counter
    // that it knows.
    let Some(order) = LOOK_OVER.get_ptr_mut(0) else {
        return STOP;
    };
    // SAFETY: a pointer to a whole map value.
    let order = unsafe { &mut *order };
    if order.listed >= u64::from(LISTED) || look.seen >= look.most {
        return STOP;
    }
    look.seen += 1;
    let is_wanted =
        order.slot == u64::from(ANY_SLOT) || order.slot == u64::from(connection.listener.slot);
    if !is_wanted || !is_open(connection) {
        return CONTINUE;
    }
    let sock = Sock::new(key);
    let is_unix = connection.events & event::UNIX != 0;
    if is_unix && !is_still(sock, connection) {
        return CONTINUE;
    }
    if order.skip > 0 {
        order.skip -= 1;
        return CONTINUE;
    }
    let Some(place) = LISTED_CONNECTIONS.get_ptr_mut(order.listed as u32) else {
        return STOP;
    };
    let (is, _) = doing(sock, connection, look.now);
    let turn = &connection.turn;
    // SAFETY: a pointer to a whole map value, which only this program writes.
    let place = unsafe { &mut *place };
    place.cookie = match sock.cookie() {
        Ok(Some(cookie)) if !is_unix => cookie.get(),
        _ => 0,
    };
    place.inode = turn.inode;
    place.events = connection.events;
    place.established_ns = connection.established_ns;
    place.accepted_ns = turn.accepted_ns;
    place.state = is;
    place.data_ns = turn.data_ns;
    place.read_ns = turn.read_ns;
    place.first_write_ns = turn.first_write_ns;
    place.last_write_ns = turn.last_write_ns;
    place.bytes_in = turn.bytes_in;
    place.bytes_out = turn.bytes_out;
    place.turns = turn.turns;
    place.slot = connection.listener.slot;
    place.worker = turn.worker;
    place.reader = turn.reader;
    place.writer = turn.writer;
    order.listed += 1;
    CONTINUE
}

/// Accepted, as far as can be told, and not closed by the server, and its listener's row still is that
/// listener's: unix connections outlive it.
#[inline(always)]
fn is_open(connection: &Connection) -> bool {
    let is_accepted =
        connection.events & event::ACCEPTED != 0 || connection.turn.phase != phase::NONE;
    is_accepted && connection.events & event::CLOSED == 0 && listen::is_current(connection.listener)
}

/// Whether the socket at the address of a unix connection is the one that was accepted: nothing
/// tells of the end of those.
#[inline(always)]
fn is_still(sock: Sock, connection: &Connection) -> bool {
    matches!(sock.state(), Ok(socket::ESTABLISHED)) && turn::is_of(sock, connection)
}

/// What a connection is doing, and which thread does it.
#[inline(always)]
fn doing(sock: Sock, connection: &Connection, now: u64) -> (u64, u32) {
    let turn = &connection.turn;
    match turn.phase {
        phase::CALL => {
            let waits_for = if class_of(turn.worker) == class::HANDOFF {
                since::POLLED | since::REGISTERED
            } else {
                since::POLLED
            };
            if turn.since & waits_for != 0 {
                (state::READING, turn.reader)
            } else if !has_unsent(sock, connection) {
                (state::CALLING, turn.reader)
            } else if now.saturating_sub(turn.read_ns) > BLOCKED_NS {
                // One long write that has not returned yet.
                (state::BLOCKED, turn.reader)
            } else {
                (state::WRITING, turn.reader)
            }
        }
        phase::WRITE if !is_done(sock, connection) => {
            let is_idle = now.saturating_sub(turn.last_write_ns) > BLOCKED_NS;
            if turn.since & since::BLOCKED != 0 || is_idle && has_unsent(sock, connection) {
                (state::BLOCKED, turn.writer)
            } else {
                (state::WRITING, turn.writer)
            }
        }
        _ if may_be_unread(turn) && has_unread(sock, connection) => (state::UNREAD, 0),
        _ => (state::IDLE, 0),
    }
}

/// Whether what the server did after its last write tells that the answer is complete.
#[inline(always)]
fn is_done(sock: Sock, connection: &Connection) -> bool {
    let turn = &connection.turn;
    if turn.since & since::BLOCKED != 0 {
        return false;
    }
    if turn.since & (since::POLLED | since::FOUND_NOTHING) != 0 {
        return true;
    }
    // To wait for events may also be to wait for room.
    let waits = turn.since & since::REGISTERED != 0
        || class_of(turn.worker) == class::LOOP && has_waited(turn);
    waits && !lacks_room(sock, connection)
}

/// Whether the writer has waited for events since its last write.
#[inline(always)]
fn has_waited(turn: &Turn) -> bool {
    match THREADS.get_ptr(turn.writer) {
        // SAFETY: a pointer to a whole map value.
        Some(thread) => unsafe { (*thread).waited_ns > turn.last_write_ns },
        None => false,
    }
}

/// Whether the last write found room for a part only, which its result does not tell.
#[inline(always)]
fn lacks_room(sock: Sock, connection: &Connection) -> bool {
    matches!(sock.has_lacked_room(), Ok(true))
        && (connection.events & event::UNIX == 0 || has_unsent(sock, connection))
}

#[inline(always)]
fn class_of(worker: u32) -> u64 {
    match WORKER_TURNS.get_ptr(worker) {
        // SAFETY: a pointer to a whole map value.
        Some(turns) => unsafe { (*turns).class },
        None => class::DIRECT,
    }
}

/// Whether the client has not taken all that was written. Not told of an MPTCP connection.
#[inline(always)]
fn has_unsent(sock: Sock, connection: &Connection) -> bool {
    if connection.events & event::UNIX != 0 {
        matches!(sock.unix_has_unread_by_peer(), Ok(true))
    } else if connection.events & event::WHOLE != 0 {
        false
    } else {
        matches!(sock.tcp_unacknowledged(), Ok(bytes) if bytes != 0)
    }
}

/// Whether data has come that nobody was seen to read; where the kernel does not tell of arrivals, only
/// the socket knows.
#[inline(always)]
fn may_be_unread(turn: &Turn) -> bool {
    turn.data_ns != 0 || HAS_DATA_READY.load() == 0
}

/// Whether data that came is still there. Of an MPTCP connection only what was seen to be read counts.
#[inline(always)]
fn has_unread(sock: Sock, connection: &Connection) -> bool {
    if connection.events & event::UNIX != 0 {
        matches!(sock.unix_queue_length(), Ok(buffers) if buffers != 0)
    } else if connection.events & event::WHOLE != 0 {
        connection.turn.data_ns != 0
    } else {
        let fin = u32::from(connection.events & event::HALF_CLOSED != 0);
        matches!(sock.tcp_unread(), Ok(bytes) if bytes > fin)
    }
}
