//! Connections that are older than the programs.
//!
//! User space learns them with one dump, which gives every socket a cookie, and inserts an entry
//! under that cookie for each. An event on such a connection while the dump is under way may come
//! first; then the programs count it and insert the entry, so that user space does not.

use core::ptr::NonNull;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use raindrops_ebpf::{
    connection::{Connection, NO_WORKER, event, seeding},
    miss::Miss,
};

use crate::{
    count::Listener,
    listen,
    maps::{CONNECTIONS, SEEDING, SEEDS},
    sock::{Sock, state},
};

const BPF_NOEXIST: u64 = 1;

/// A value of `connection::seeding`.
#[inline(always)]
pub fn phase() -> u32 {
    SEEDING.get_ptr(0).map_or(seeding::OFF, |phase| {
        // SAFETY: a pointer to a whole map value.
        unsafe { phase.read_volatile() }
    })
}

/// The connection of a socket that was, until now, in state `old`.
#[inline(always)]
pub fn connection(sock: Sock, old: u32) -> Result<Option<NonNull<Connection>>, Miss> {
    match CONNECTIONS.get_ptr_mut(sock.key()).and_then(NonNull::new) {
        Some(connection) => Ok(Some(connection)),
        None => older(sock, old),
    }
}

/// The connection of a socket that is just leaving the accept queue.
#[inline(always)]
pub fn queued_connection(sock: Sock) -> Result<Option<NonNull<Connection>>, Miss> {
    match CONNECTIONS.get_ptr_mut(sock.key()).and_then(NonNull::new) {
        Some(connection) => Ok(Some(connection)),
        None => older_in_queue::<true>(sock, sock.state()?),
    }
}

/// A socket that may be older than the programs has reached CLOSE: nothing more will happen to it.
#[inline(always)]
pub fn forget(sock: Sock) -> Result<(), Miss> {
    if phase() == seeding::OFF {
        return Ok(());
    }
    let Some(cookie) = sock.cookie()? else {
        return Ok(());
    };
    if phase() == seeding::LEARNT {
        let _ = SEEDS.remove(cookie.get());
    } else if let Some(seed) = SEEDS.get_ptr_mut(cookie.get()) {
        // Still needed to keep the dump, which may have seen it open, from counting it.
        // SAFETY: a pointer to a whole map value.
        unsafe { (*seed).settled = 1 };
    }
    Ok(())
}

/// The connection of a socket that was, until now, in state `old`, if it is older than the programs.
#[inline(always)]
pub fn older(sock: Sock, old: u32) -> Result<Option<NonNull<Connection>>, Miss> {
    older_in_queue::<false>(sock, old)
}

#[inline(always)]
fn older_in_queue<const QUEUED: bool>(
    sock: Sock,
    old: u32,
) -> Result<Option<NonNull<Connection>>, Miss> {
    let phase = phase();
    if phase == seeding::OFF {
        return Ok(None);
    }
    let Some(cookie) = sock.cookie()? else {
        return Ok(None);
    };
    let cookie = cookie.get();
    if let Some(seed) = followed(cookie) {
        return Ok(Some(seed));
    }
    if phase != seeding::LEARNING || !(old == state::ESTABLISHED || old == state::CLOSE_WAIT) {
        return Ok(None);
    }
    discover::<QUEUED>(sock, cookie, old)
}

#[inline(always)]
fn followed(cookie: u64) -> Option<NonNull<Connection>> {
    let seed = SEEDS.get_ptr_mut(cookie).and_then(NonNull::new)?;
    // SAFETY: a pointer to a whole map value.
    let settled = unsafe { (*seed.as_ptr()).settled };
    if settled == 0 { Some(seed) } else { None }
}

/// An older connection that the dump has not reached: it is counted here. One whose listener cannot
/// be told any more (at the end its port is gone), or that has none, is only marked.
#[inline(always)]
fn discover<const QUEUED: bool>(
    sock: Sock,
    cookie: u64,
    old: u32,
) -> Result<Option<NonNull<Connection>>, Miss> {
    if !sock.is_followed()? {
        return Ok(None);
    }
    let mut events = event::SEEDED;
    if old == state::CLOSE_WAIT {
        events |= event::HALF_CLOSED;
    }
    if !QUEUED && sock.has_socket() {
        events |= event::ACCEPTED;
    }
    let listener = listen::row_by_address(&sock.address()?);
    let connection = Connection {
        events,
        listener,
        settled: u32::from(!listen::is_known(listener)),
        ..Connection::born(0)
    };
    let counted_here = SEEDS.insert(cookie, connection, BPF_NOEXIST).is_ok();
    let found = followed(cookie);
    if counted_here && found.is_some() && events & event::ACCEPTED != 0 {
        let listener = Listener::at(listener)?;
        listener.seeded();
        if events & event::HALF_CLOSED != 0 {
            listener.half_closed();
        } else {
            listener.one_more_active(NO_WORKER);
        }
    }
    Ok(found)
}

/// Lets an older connection, of which data has just been read, be found by its socket from now on.
/// An event that comes at this instant may still find it by its cookie, and be missed: comparing
/// entries with sockets finds that.
#[inline(always)]
pub fn moved(sock: Sock) -> Result<Option<NonNull<Connection>>, Miss> {
    if phase() != seeding::LEARNT {
        return Ok(None);
    }
    let Some(cookie) = sock.cookie()? else {
        return Ok(None);
    };
    let Some(seed) = followed(cookie.get()) else {
        return Ok(None);
    };
    // SAFETY: a pointer to a whole map value.
    let mut connection = unsafe { *seed.as_ptr() };
    if connection.events & (event::ACCEPTED | event::CLOSED) != event::ACCEPTED {
        return Ok(None);
    }
    // SAFETY: the helper has no preconditions.
    connection.born_ns = unsafe { bpf_ktime_get_ns() };
    connection.events |= event::MOVED;
    if CONNECTIONS
        .insert(sock.key(), connection, BPF_NOEXIST)
        .is_err()
    {
        return Err(Miss::ConnectionsFull);
    }
    let _ = SEEDS.remove(cookie.get());
    if connection.turn.accepted_ns == 0 {
        Listener::at(connection.listener)?.seed_settled();
    }
    Ok(CONNECTIONS.get_ptr_mut(sock.key()).and_then(NonNull::new))
}
