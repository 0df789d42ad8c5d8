//! What happens to a TCP connection outside `accept()`: birth, half-close, end.

use core::{num::NonZeroU64, ptr::NonNull};

use aya_ebpf::helpers::bpf_ktime_get_ns;
use raindrops_ebpf::{
    connection::{Connection, event, seeding},
    miss::Miss,
};

use crate::{
    atomic::EventWord,
    count::Listener,
    listen,
    maps::{BORN_WHILE_SEEDING, CONNECTIONS, LAST_CHILD, LAST_EVENT},
    seed,
    sock::{Sock, state},
    turn,
};

const BPF_NOEXIST: u64 = 1;

/// An event that the first program may have missed: the kernel does not run a program that is
/// interrupted on this CPU by another event. That cannot be true of both programs at once.
#[inline(always)]
pub fn state_changed_again<E: EventWord>(sock: Sock, old: u32, new: u32) -> Result<(), Miss> {
    let Some(last) = LAST_EVENT.get_ptr_mut(0) else {
        return Ok(());
    };
    // SAFETY: a pointer to a whole map value that is private to this CPU.
    let last = unsafe { &mut *last };
    if *last == [sock.key(), states(old, new)] {
        *last = [0, 0];
        return Ok(());
    }
    dealt_with::<E>(sock, old, new)
}

/// A TCP socket goes from one state to another.
#[inline(always)]
pub fn state_changed<E: EventWord>(sock: Sock, old: u32, new: u32) -> Result<(), Miss> {
    let result = dealt_with::<E>(sock, old, new);
    if let Some(last) = LAST_EVENT.get_ptr_mut(0) {
        // SAFETY: a pointer to a whole map value that is private to this CPU.
        unsafe { *last = [sock.key(), states(old, new)] };
    }
    result
}

#[inline(always)]
fn states(old: u32, new: u32) -> u64 {
    u64::from(old) << 32 | u64::from(new)
}

#[inline(always)]
fn dealt_with<E: EventWord>(sock: Sock, old: u32, new: u32) -> Result<(), Miss> {
    match (old, new) {
        (state::LISTEN, state::SYN_RECV) => born::<E>(sock),
        (state::SYN_RECV, state::ESTABLISHED) => established(sock),
        (state::ESTABLISHED | state::SYN_RECV, state::CLOSE_WAIT) => half_closed::<E>(sock, old),
        (
            state::ESTABLISHED | state::SYN_RECV | state::CLOSE_WAIT,
            state::FIN_WAIT1 | state::LAST_ACK | state::CLOSING,
        ) => ended::<E>(sock, old, new),
        (state::LISTEN, state::CLOSE) => listen::closed(sock),
        // A client's attempt that failed.
        (state::CLOSE | state::SYN_SENT, state::CLOSE) => Ok(()),
        (_, state::CLOSE) => ended::<E>(sock, old, new),
        (_, state::LISTEN) if old != state::LISTEN => listen::opened(sock),
        _ => Ok(()),
    }
}

#[inline(always)]
fn born<E: EventWord>(sock: Sock) -> Result<(), Miss> {
    if !sock.is_followed()? {
        return Ok(());
    }
    // SAFETY: the helper has no preconditions.
    let mut connection = Connection::born(unsafe { bpf_ktime_get_ns() });
    if listen::only_address_tells() {
        connection.listener = listen::row_by_address(&sock.address()?);
        if !listen::is_known(connection.listener) {
            return Err(Miss::NoListener);
        }
    } else if let Some(last) = LAST_CHILD.get_ptr_mut(0) {
        // SAFETY: a pointer to a whole map value that is private to this CPU.
        unsafe { *last = sock.key() };
    }
    if CONNECTIONS
        .insert(sock.key(), connection, BPF_NOEXIST)
        .is_ok()
    {
        return Ok(());
    }
    // An earlier connection at this address: the kernel did not hand its end to the programs.
    if let Some(earlier) = CONNECTIONS.get_ptr_mut(sock.key()) {
        // SAFETY: a pointer to a whole map value.
        let earlier = unsafe { &mut *earlier };
        let before = E::set(&raw mut earlier.events, event::CLOSED);
        if before & (event::ACCEPTED | event::CLOSED) == event::ACCEPTED
            && let Ok(listener) = Listener::at(earlier.listener)
        {
            leave(listener, earlier, before, None);
        }
    }
    CONNECTIONS
        .insert(sock.key(), connection, 0)
        .map_err(|_| Miss::ConnectionsFull)
}

#[inline(always)]
fn established(sock: Sock) -> Result<(), Miss> {
    let Some(connection) = CONNECTIONS.get_ptr_mut(sock.key()) else {
        return Ok(());
    };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a pointer to a whole map value.
    unsafe { (*connection).established_ns = now };
    if !listen::only_address_tells()
        && let Some(last) = LAST_CHILD.get_ptr_mut(0)
    {
        // SAFETY: a pointer to a whole map value that is private to this CPU.
        unsafe { *last = sock.key() };
    }
    if seed::phase() == seeding::LEARNING {
        let noted = BORN_WHILE_SEEDING.insert(sock.flow()?, 1, 0);
        noted.map_err(|_| Miss::ConnectionsFull)?;
    }
    Ok(())
}

#[inline(always)]
fn half_closed<E: EventWord>(sock: Sock, old: u32) -> Result<(), Miss> {
    match seed::connection(sock, old)? {
        // SAFETY: a pointer to a whole map value.
        Some(connection) => half_close::<E>(unsafe { &mut *connection.as_ptr() }),
        None => Ok(()),
    }
}

#[inline(always)]
pub fn half_close<E: EventWord>(connection: &mut Connection) -> Result<(), Miss> {
    let before = E::set(&raw mut connection.events, event::HALF_CLOSED);
    if before & event::UNIX != 0
        || before & event::ACCEPTED == 0
        || before & (event::HALF_CLOSED | event::CLOSED) != 0
    {
        return Ok(());
    }
    let listener = Listener::at(connection.listener)?;
    listener.half_closed();
    listener.one_less_active(connection.worker);
    Ok(())
}

#[inline(always)]
fn ended<E: EventWord>(sock: Sock, old: u32, new: u32) -> Result<(), Miss> {
    let born_here = CONNECTIONS.get_ptr_mut(sock.key()).and_then(NonNull::new);
    let connection = match born_here {
        Some(connection) => Ok(Some(connection)),
        None => seed::older(sock, old),
    };
    let result = match connection {
        // SAFETY: a pointer to a whole map value.
        Ok(Some(connection)) => end::<E>(sock, unsafe { &mut *connection.as_ptr() }, true),
        Ok(None) => Ok(()),
        Err(miss) => Err(miss),
    };
    if new != state::CLOSE {
        return result;
    }
    if born_here.is_some() {
        let _ = CONNECTIONS.remove(sock.key());
    } else {
        seed::forget(sock)?;
    }
    result
}

/// `is_now`: it ends at this moment, so that its lifetime is known.
#[inline(always)]
pub fn end<E: EventWord>(
    sock: Sock,
    connection: &mut Connection,
    is_now: bool,
) -> Result<(), Miss> {
    let before = E::set(&raw mut connection.events, event::CLOSED);
    if before & event::CLOSED != 0 || !listen::is_known(connection.listener) {
        return Ok(());
    }
    if before & event::ACCEPTED == 0 && sock.has_joined() {
        return Ok(());
    }
    if before & event::ACCEPTED == 0 && !sock.has_socket() {
        // A child that was never established is one that the kernel made twice, and drops. A
        // listener that is gone needs no count of those that it left in its queue.
        if (connection.established_ns != 0 || before & event::SEEDED != 0)
            && let Ok(listener) = Listener::at(connection.listener)
        {
            listener.aborted();
        }
        return Ok(());
    }
    let listener = Listener::at(connection.listener)?;
    if before & event::ACCEPTED == 0 {
        listener.accepted_unseen();
    }
    let lifetime = if is_now {
        // SAFETY: the helper has no preconditions.
        since_established(connection, unsafe { bpf_ktime_get_ns() })
    } else {
        None
    };
    leave(listener, connection, before, lifetime);
    Ok(())
}

/// An MPTCP connection that was accepted: from now on its own state tells of its end, not that of
/// the path over which it began. Others may join it, and outlive the first. `is_now`: it is accepted at
/// this moment.
#[inline(always)]
pub fn followed_as_a_whole<E: EventWord>(
    path: Sock,
    whole: Sock,
    is_now: bool,
) -> Result<(), Miss> {
    let Some(connection) = CONNECTIONS.get_ptr(path.key()) else {
        return Ok(());
    };
    // SAFETY: a pointer to a whole map value.
    let mut connection = unsafe { *connection };
    connection.events |= event::WHOLE;
    let moved = CONNECTIONS.insert(whole.key(), connection, 0);
    moved.map_err(|_| Miss::ConnectionsFull)?;
    let _ = CONNECTIONS.remove(path.key());
    let Some(connection) = CONNECTIONS.get_ptr_mut(whole.key()) else {
        return Ok(());
    };
    // SAFETY: a pointer to a whole map value.
    let connection = unsafe { &mut *connection };
    // What happened to it until now was no event of a known connection.
    let now = whole.state()?;
    if now == state::ESTABLISHED {
        return Ok(());
    }
    if now == state::CLOSE_WAIT {
        return half_close::<E>(connection);
    }
    let result = end::<E>(whole, connection, is_now);
    if now == state::CLOSE {
        let _ = CONNECTIONS.remove(whole.key());
    }
    result
}

/// A connection is no longer open: takes it out of the gauge that it is in. `before`: what had
/// happened to it until then.
#[inline(always)]
fn leave(
    listener: Listener,
    connection: &mut Connection,
    before: u64,
    lifetime: Option<NonZeroU64>,
) {
    if turn::are_followed() {
        turn::ended(listener, &mut connection.turn);
        // Of those that were accepted before the programs, and that nobody has read since.
        let is_seed = before & (event::SEEDED | event::MOVED | event::UNIX) == event::SEEDED;
        if is_seed && connection.turn.accepted_ns == 0 {
            listener.seed_settled();
        }
    }
    // One of a unix connection that was at this address, of which only turns are counted.
    if before & event::UNIX != 0 {
        return;
    }
    if before & event::ACCEPTED != 0 {
        if before & event::HALF_CLOSED != 0 {
            listener.no_longer_half_closed();
        } else {
            listener.one_less_active(connection.worker);
        }
    }
    listener.closed(lifetime);
}

/// Time since the connection was established; for one that is not yet (fast open, or an accept in
/// the middle of the handshake), since its birth. `None` for one that is older than the programs.
#[inline(always)]
pub fn since_established(connection: &Connection, now: u64) -> Option<NonZeroU64> {
    let start = if connection.established_ns == 0 {
        connection.born_ns
    } else {
        connection.established_ns
    };
    if start == 0 || connection.events & event::MOVED != 0 {
        None
    } else {
        elapsed(start, now)
    }
}

/// Never zero, so that "unknown" is a value too: the payload of another `None` would be undefined,
/// and the verifier refuses even a copy of a register that was never written.
#[inline(always)]
pub fn elapsed(start: u64, now: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(now.saturating_sub(start).max(1))
}
