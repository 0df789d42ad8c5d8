//! Data comes, is read, is answered: turns, followed for what their gauges and durations need.
//!
//! Whether a turn is still going on is decided later, by a look at all connections; here is only noted
//! what happens.

use core::ptr::NonNull;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user};
use raindrops_ebpf::{
    connection::{Connection, NO_WORKER, Turn, event, phase, since},
    globals::{SEES_UNIX_TURNS, TURNS},
    listener::{AF_INET, AF_INET6, AF_UNIX},
    miss::Miss,
    turns::{Thread, mode},
};

use crate::{
    count::{self, Listener, Worker},
    lifecycle::elapsed,
    listen,
    maps::{CONNECTIONS, THREADS},
    seed,
    sock::{File, Sock},
};

const BPF_NOEXIST: u64 = 1;

/// What reads and writes return when there is nothing to read, or no room.
const EAGAIN: i32 = -11;
const MSG_PEEK: i32 = 2;

const POLLIN: u16 = 1;
/// More descriptors than this are waited for by a loop, not by a thread for its connection.
const FEW: u64 = 4;

const EPOLL_CTL_DEL: u64 = 2;

/// After so many turns on one connection with the same thread there is nothing new to learn of it.
const LEARNT: u64 = 4;

/// Whether turns are followed.
#[inline(always)]
pub fn are_followed() -> bool {
    TURNS.load() != mode::OFF
}

/// Whether turns of unix connections are followed.
#[inline(always)]
pub fn are_followed_on_unix() -> bool {
    SEES_UNIX_TURNS.load() != 0
}

/// The current process and thread.
#[inline(always)]
fn current() -> (u32, u32) {
    let ids = bpf_get_current_pid_tgid();
    ((ids >> 32) as u32, ids as u32)
}

/// The entry of a socket. Nothing tells of the end of a unix connection, so that the entry at this
/// address may be of an earlier one, which is over then.
#[inline(always)]
fn entry(sock: Sock) -> Option<NonNull<Connection>> {
    let entry = CONNECTIONS.get_ptr_mut(sock.key()).and_then(NonNull::new)?;
    // SAFETY: a pointer to a whole map value.
    let connection = unsafe { &mut *entry.as_ptr() };
    if connection.events & event::UNIX == 0 || is_of(sock, connection) {
        return Some(entry);
    }
    if let Ok(listener) = Listener::at(connection.listener) {
        ended(listener, &mut connection.turn);
    }
    let _ = CONNECTIONS.remove(sock.key());
    None
}

/// Whether the entry of a unix connection is that of the socket at its address.
#[inline(always)]
pub fn is_of(sock: Sock, connection: &Connection) -> bool {
    matches!(sock.inode(), Ok(inode) if inode == connection.turn.inode)
}

/// Data has come for a connection, which need not be accepted yet. Then the entry at its address may be
/// of one that has ended; its accept sees to that, which may be under way on another CPU.
#[inline(always)]
pub fn data_came(sock: Sock) {
    let Some(connection) = CONNECTIONS.get_ptr_mut(sock.key()) else {
        return;
    };
    // SAFETY: a pointer to a whole map value.
    let connection = unsafe { &mut *connection };
    if connection.events & event::UNIX != 0 && !is_of(sock, connection) {
        return;
    }
    let turn = &mut connection.turn;
    if turn.data_ns == 0 {
        // SAFETY: the helper has no preconditions.
        turn.data_ns = unsafe { bpf_ktime_get_ns() };
    }
}

/// A read has returned.
#[inline(always)]
pub fn read(sock: Sock, result: i32, flags: i32) -> Result<(), Miss> {
    if result == EAGAIN {
        if let Some(connection) = entry(sock) {
            // SAFETY: a pointer to a whole map value.
            unsafe { (*connection.as_ptr()).turn.since |= since::FOUND_NOTHING };
        }
        return Ok(());
    }
    if result <= 0 || flags & MSG_PEEK != 0 {
        return Ok(());
    }
    let connection = match entry(sock) {
        Some(connection) => connection,
        None => match older(sock)? {
            Some(connection) => connection,
            None => return Ok(()),
        },
    };
    // SAFETY: a pointer to a whole map value.
    let connection = unsafe { &mut *connection.as_ptr() };
    if !is_followed(connection) {
        return Ok(());
    }
    let listener = Listener::at(connection.listener)?;
    let slot = connection.listener.slot;
    let (process, thread) = current();
    let turn = &mut connection.turn;
    let data_ns = turn.data_ns;
    let length = result as u64;
    turn.data_ns = 0;
    turn.since = 0;
    turn.bytes_in += length;
    if turn.phase == phase::CALL {
        turn.reader = thread;
        listener.read_more(length);
        return Ok(());
    }
    if turn.phase == phase::WRITE {
        listener.written(turn.last_write_ns.saturating_sub(turn.first_write_ns));
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let wait = if data_ns == 0 {
        None
    } else if data_ns > turn.accepted_ns {
        elapsed(data_ns, now)
    } else {
        elapsed(turn.accepted_ns, now)
    };
    turn.phase = phase::CALL;
    turn.read_ns = now;
    turn.turns += 1;
    let is_learnt = turn.turns > LEARNT && turn.reader == thread;
    turn.reader = thread;
    listener.turn_began(wait, length);
    if turn.process != process {
        turn.process = process;
        turn.worker = Worker::current(slot).unwrap_or(NO_WORKER);
    }
    Worker::turn_began(turn.worker);
    if !is_learnt {
        let accepted_ns = if turn.turns == 1 { turn.accepted_ns } else { 0 };
        note(process, thread, |row| {
            row.reads += 1;
            row.fresh += u32::from(accepted_ns > row.known_ns);
        });
    }
    Ok(())
}

/// A write has returned.
#[inline(always)]
pub fn written(sock: Sock, result: i32) -> Result<(), Miss> {
    let Some(connection) = entry(sock) else {
        return Ok(());
    };
    // SAFETY: a pointer to a whole map value.
    let connection = unsafe { &mut *connection.as_ptr() };
    if result == EAGAIN {
        connection.turn.since |= since::BLOCKED;
        return Ok(());
    }
    if result <= 0 || !is_followed(connection) {
        return Ok(());
    }
    let turn = &mut connection.turn;
    let listener = Listener::at(connection.listener)?;
    let (process, thread) = current();
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let length = result as u64;
    let is_learnt = turn.turns > LEARNT && turn.writer == thread;
    turn.since = 0;
    turn.bytes_out += length;
    turn.last_write_ns = now;
    turn.writer = thread;
    if turn.phase != phase::CALL {
        listener.written_more(length);
        return Ok(());
    }
    turn.phase = phase::WRITE;
    turn.first_write_ns = now;
    let answer = now.saturating_sub(turn.read_ns);
    listener.answered(answer, length);
    Worker::answered(turn.worker, answer, now);
    if !is_learnt {
        let is_handed = u32::from(turn.reader != thread);
        note(process, thread, |row| {
            row.answers += 1;
            row.handed += is_handed;
        });
    }
    Ok(())
}

/// Whether a connection is open, and its listener known. A unix connection can outlive its listener, of
/// which nothing is told then.
#[inline(always)]
fn is_followed(connection: &Connection) -> bool {
    if connection.events & event::CLOSED != 0 {
        false
    } else if connection.events & event::UNIX != 0 {
        listen::is_current(connection.listener)
    } else {
        listen::is_known(connection.listener)
    }
}

/// The server has closed the connection, or it is gone.
#[inline(always)]
pub fn ended(listener: Listener, turn: &mut Turn) {
    if turn.phase == phase::CALL {
        listener.unanswered();
    } else if turn.phase == phase::WRITE {
        listener.written(turn.last_write_ns.saturating_sub(turn.first_write_ns));
    }
    turn.phase = phase::NONE;
}

/// A unix connection has been accepted.
#[inline(always)]
pub fn unix_accepted(child: Sock, connection: &Connection) -> Result<(), Miss> {
    // What is at this address has ended, unless it is this connection, read before its accept was seen.
    if entry(child).is_some() {
        return Ok(());
    }
    CONNECTIONS
        .insert(child.key(), connection, 0)
        .map_err(|_| Miss::ConnectionsFull)?;
    // Of what came before now nothing tells; of what comes later, its arrival.
    if child.unix_queue_length()? != 0 {
        data_came(child);
    }
    Ok(())
}

/// `poll()` is entered: a thread that is known may be waiting for the data of one connection.
#[inline(always)]
pub fn polled(descriptors: u64, count: u64) {
    let (_, thread) = current();
    if count == 0 || count > FEW || THREADS.get_ptr(thread).is_none() {
        return;
    }
    // `struct pollfd`: a descriptor, and the events that are waited for.
    let first = descriptors as *const [u32; 2];
    // SAFETY: the helper checks the address and fails on one that is not mapped.
    let Ok([descriptor, events]) = (unsafe { bpf_probe_read_user(first) }) else {
        return;
    };
    if events as u16 & POLLIN != 0
        && let Some(connection) = of_descriptor(u64::from(descriptor))
    {
        // SAFETY: a pointer to a whole map value.
        unsafe { (*connection.as_ptr()).turn.since |= since::POLLED };
    }
}

/// `epoll_ctl()` is entered.
#[inline(always)]
pub fn registered(operation: u64, descriptor: u64) {
    let (_, thread) = current();
    if operation == EPOLL_CTL_DEL {
        return;
    }
    // Whatever the thread: one that only waits for others need not be known.
    let Some(connection) = of_descriptor(descriptor) else {
        return;
    };
    // SAFETY: a pointer to a whole map value.
    let turn = unsafe { &mut (*connection.as_ptr()).turn };
    turn.since = turn.since & !since::POLLED | since::REGISTERED;
    if let Some(row) = THREADS.get_ptr_mut(thread) {
        // SAFETY: a pointer to a whole map value.
        unsafe { (*row).registered += 1 };
    }
}

/// `epoll_wait()` or one of its kind is entered.
#[inline(always)]
pub fn waits() {
    let (_, thread) = current();
    if let Some(row) = THREADS.get_ptr_mut(thread) {
        // SAFETY: the helper has no preconditions; a pointer to a whole map value.
        unsafe { (*row).waited_ns = bpf_ktime_get_ns() };
    }
}

#[inline(always)]
fn of_descriptor(descriptor: u64) -> Option<NonNull<Connection>> {
    let file = File::of_descriptor((descriptor & u64::from(u32::MAX)) as i64);
    match file.and_then(File::sock) {
        Ok(sock) => entry(sock),
        Err(_) => None,
    }
}

/// Takes note of what a thread has done.
#[inline(always)]
fn note(process: u32, thread: u32, change: impl Fn(&mut Thread)) {
    if let Some(row) = THREADS.get_ptr_mut(thread) {
        // SAFETY: a pointer to a whole map value.
        let row = unsafe { &mut *row };
        if row.process == process {
            change(row);
            return;
        }
    }
    let mut row = Thread {
        process,
        reads: 0,
        answers: 0,
        handed: 0,
        waited_ns: 0,
        // SAFETY: the helper has no preconditions.
        known_ns: unsafe { bpf_ktime_get_ns() },
        registered: 0,
        fresh: 0,
    };
    change(&mut row);
    if THREADS.insert(thread, row, 0).is_err() {
        count::missed(Miss::ThreadsFull);
    }
}

/// The entry of a connection that was accepted before it could be followed.
#[inline(always)]
fn older(sock: Sock) -> Result<Option<NonNull<Connection>>, Miss> {
    match sock.family()? {
        AF_INET | AF_INET6 => seed::moved(sock),
        AF_UNIX => older_unix(sock),
        _ => Ok(None),
    }
}

#[inline(always)]
fn older_unix(sock: Sock) -> Result<Option<NonNull<Connection>>, Miss> {
    let row = listen::row_of_unix_name(sock)?;
    if !listen::is_known(row) {
        return Ok(None);
    }
    let mut connection = Connection::born(0);
    connection.events = event::ACCEPTED | event::UNIX | event::SEEDED;
    connection.listener = row;
    connection.turn.inode = sock.inode()?;
    if CONNECTIONS
        .insert(sock.key(), connection, BPF_NOEXIST)
        .is_err()
    {
        return Err(Miss::ConnectionsFull);
    }
    Listener::at(row)?.seed_settled();
    Ok(entry(sock))
}
