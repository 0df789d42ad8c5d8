//! `accept()` has returned a connection.

use core::{num::NonZeroU64, ptr::NonNull};

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use raindrops_ebpf::{
    connection::{Connection, NO_WORKER, event, seeding},
    listener::{AF_INET, AF_INET6, AF_UNIX, RowRef},
    miss::Miss,
};

use crate::{
    atomic::EventWord,
    count::{self, Listener, Worker},
    lifecycle::{elapsed, followed_as_a_whole, since_established},
    listen,
    maps::{CONNECTIONS, QUEUED_UNIX},
    seed,
    sock::{File, IPPROTO_MPTCP, IPPROTO_TCP, Sock, state},
    turn,
};

/// By file descriptor, in the process that called `accept()`.
#[inline(always)]
pub fn descriptor_returned<E: EventWord>(descriptor: i64) -> Result<(), Miss> {
    let file = File::of_descriptor(descriptor)?;
    let child = file.sock()?;
    let mut path = child;
    let mut connection = followed(child);
    if connection.is_none() {
        // What is behind the descriptor may have changed since.
        if !file.is_socket()? {
            return Err(Miss::UnreadableDescriptor);
        }
        match child.family()? {
            AF_INET | AF_INET6 if child.protocol()? == IPPROTO_MPTCP => {
                if !child.is_followed()? {
                    return Ok(());
                }
                path = child.first_path()?.ok_or(Miss::OtherProtocol)?;
            }
            AF_INET | AF_INET6 => {}
            AF_UNIX => return unix(child, None),
            _ => return Ok(()),
        }
        connection = seed::queued_connection(path)?;
    }
    let Some(connection) = connection else {
        return untracked(path);
    };
    tcp::<E>(path, connection, None)?;
    if path == child {
        Ok(())
    } else {
        followed_as_a_whole::<E>(path, child, true)
    }
}

/// The entry of a TCP or MPTCP connection. That of a unix connection may be of an earlier one, whose
/// end nobody has seen.
#[inline(always)]
fn followed(child: Sock) -> Option<NonNull<Connection>> {
    let connection = CONNECTIONS
        .get_ptr_mut(child.key())
        .and_then(NonNull::new)?;
    // SAFETY: a pointer to a whole map value.
    let events = unsafe { (*connection.as_ptr()).events };
    if events & event::UNIX == 0 {
        Some(connection)
    } else {
        None
    }
}

/// What `inet_csk_accept` returned: a TCP connection, or the first path of an MPTCP connection.
#[inline(always)]
pub fn taken_from_queue<E: EventWord>(child: Sock, listener: Sock) -> Result<(), Miss> {
    let Some(connection) = seed::queued_connection(child)? else {
        return untracked(child);
    };
    tcp::<E>(child, connection, Some(listener))?;
    match child.began()? {
        Some(whole) => followed_as_a_whole::<E>(child, whole, true),
        None => Ok(()),
    }
}

/// A TCP connection; `listener` where the hook knows it.
#[inline(always)]
fn tcp<E: EventWord>(
    child: Sock,
    connection: NonNull<Connection>,
    listener: Option<Sock>,
) -> Result<(), Miss> {
    // SAFETY: a pointer to a whole map value.
    let connection = unsafe { &mut *connection.as_ptr() };
    if let Some(listener) = listener {
        connection.listener = listen::row_of_tcp(listener)?;
    } else if !listen::is_known(connection.listener) {
        connection.listener = listen::row_by_address(&child.address()?);
    } else if listen::has_closed(connection.listener) {
        count::missed(Miss::LeftToAnother);
        let other = listen::row_by_address(&child.address()?);
        if listen::is_known(other) {
            connection.listener = other;
        }
    }
    if !listen::is_known(connection.listener) {
        return Err(Miss::NoListener);
    }
    let listener = Listener::at(connection.listener)?;
    let worker = Worker::current(connection.listener.slot);
    let counted_for = connection.worker;
    // Before the event word: whoever sees the accept there also needs to know the worker.
    if let Ok(worker) = worker {
        connection.worker = worker;
    }
    let before = E::set(&raw mut connection.events, event::ACCEPTED);
    if before & event::ACCEPTED != 0 {
        connection.worker = counted_for;
        return Ok(());
    }
    if before & event::CLOSED != 0 {
        return Err(Miss::ResetBeforeAccept);
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let wait = since_established(connection, now);
    connection.turn.accepted_ns = now;
    // A read by this process is this worker's, unless another process has read already.
    if connection.turn.process == 0 {
        connection.turn.process = current_process();
        connection.turn.worker = connection.worker;
    }
    listener.accepted(wait);
    if before & event::HALF_CLOSED != 0 {
        listener.half_closed();
    } else {
        listener.one_more_active(connection.worker);
    }
    if let Some(worker) = Worker::at(worker?) {
        worker.accepted(now, wait);
    }
    // Queued before the programs: the look finds those that are found by their sockets.
    if before & event::SEEDED != 0 && turn::are_followed() {
        seed::moved(child)?;
    }
    Ok(())
}

/// Why the programs do not know a TCP connection that was accepted. One that the dump of older
/// connections has yet to reach will be found there, accepted.
#[inline(always)]
fn untracked(child: Sock) -> Result<(), Miss> {
    if seed::phase() == seeding::LEARNING || !child.is_followed()? {
        Ok(())
    } else if child.protocol()? != IPPROTO_TCP {
        Err(Miss::OtherProtocol)
    } else if child.state()? == state::CLOSE {
        Err(Miss::ResetBeforeAccept)
    } else {
        Err(Miss::UntrackedAccept)
    }
}

/// A unix connection; `listener` where the hook knows it. The socket belongs to the client's network
/// namespace, so which listener it came from decides whether it is followed.
#[inline(always)]
pub fn unix(child: Sock, listener: Option<Sock>) -> Result<(), Miss> {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut row = match listener {
        Some(listener) if !listener.is_followed()? => return Ok(()),
        Some(listener) => listen::row_of_unix(listener)?,
        None => listen::row_of_unix_name(child)?,
    };
    let mut wait = None;
    if let Some(queued) = QUEUED_UNIX.get_ptr(child.key()) {
        // SAFETY: a pointer to a whole map value.
        let queued = unsafe { *queued };
        let _ = QUEUED_UNIX.remove(child.key());
        // Otherwise it is of an earlier socket at this address, which nobody accepted.
        if queued.listener == row {
            wait = elapsed(queued.queued_ns, now);
        }
    }
    if listener.is_none() && (listen::only_address_tells() || !listen::is_known(row)) {
        if listen::only_address_tells() && !child.is_followed()? {
            return Ok(());
        }
        match listen::row_of_unix_child(child) {
            Ok(found) => row = found,
            // Of a listener that is not followed.
            Err(Miss::NoListener) => return Ok(()),
            Err(miss) => return Err(miss),
        }
    }
    Listener::at(row)?.accepted(wait);
    let worker = Worker::current(row.slot);
    if let Ok(worker) = worker
        && let Some(worker) = Worker::at(worker)
    {
        worker.accepted(now, wait);
    }
    if turn::are_followed_on_unix() {
        follow_unix(child, row, worker.unwrap_or(NO_WORKER), wait, now)?;
    }
    worker.map(drop)
}

/// Unix connections are followed for their turns.
#[inline(always)]
fn follow_unix(
    child: Sock,
    row: RowRef,
    worker: u32,
    wait: Option<NonZeroU64>,
    now: u64,
) -> Result<(), Miss> {
    let mut connection = Connection::born(0);
    connection.events = event::ACCEPTED | event::UNIX;
    connection.established_ns = wait.map_or(0, |wait| now.saturating_sub(wait.get()));
    connection.listener = row;
    connection.turn.accepted_ns = now;
    connection.turn.inode = child.inode()?;
    connection.turn.process = current_process();
    connection.turn.worker = worker;
    turn::unix_accepted(child, &connection)
}

#[inline(always)]
fn current_process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}
