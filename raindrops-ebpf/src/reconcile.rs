//! Makes up for events that the kernel did not hand to the programs.
//!
//! User space leads through the table of connections and has each entry compared with the socket at
//! its address. What was missed is made up for when a second look finds the same. The memory of a
//! socket that is gone may be another's by then: it is read, but an entry is only changed while it is
//! the one that was looked at.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use raindrops_ebpf::{
    connection::{Connection, NO_WORKER, event},
    listener::RowRef,
    miss::Miss,
    overlooked::{GONE, LOOKS, Look, Overlooked, overlooked},
};

use crate::{
    atomic::EventWord,
    count::Listener,
    lifecycle::{end, followed_as_a_whole, half_close},
    listen,
    maps::{self, CONNECTIONS, LISTENER_ROWS},
    sock::Sock,
};

const BPF_NOEXIST: u64 = 1;

/// Looks at the first `count` entries that user space has named.
#[inline(always)]
pub fn look(count: u64) {
    for index in 0..LOOKS {
        if u64::from(index) >= count {
            return;
        }
        let Some(look) = maps::LOOKS.get_ptr_mut(index) else {
            return;
        };
        // SAFETY: a pointer to a whole map value.
        let look = unsafe { &mut *look };
        look.born_ns = 0;
        look.overlooked = Overlooked::Nothing as u64;
        let Some(connection) = CONNECTIONS.get_ptr(look.key) else {
            continue;
        };
        // SAFETY: a pointer to a whole map value.
        let connection = unsafe { &*connection };
        look.born_ns = connection.born_ns;
        look.overlooked = compared(Sock::new(look.key), connection.events) as u64;
    }
}

/// Makes up for what the first entry that user space has named has missed, and leaves `Nothing` there
/// when there was nothing any more.
#[inline(always)]
pub fn first<E: EventWord>() -> Result<(), Miss> {
    let Some(look) = maps::LOOKS.get_ptr_mut(0) else {
        return Ok(());
    };
    // SAFETY: a pointer to a whole map value.
    let look = unsafe { &mut *look };
    let found = *look;
    look.overlooked = Overlooked::Nothing as u64;
    if make_up_for::<E>(found)? {
        look.overlooked = found.overlooked;
    }
    Ok(())
}

/// Whether what was found before is still so, and has been made up for.
#[inline(always)]
fn make_up_for<E: EventWord>(found: Look) -> Result<bool, Miss> {
    let sock = Sock::new(found.key);
    let Some(connection) = CONNECTIONS.get_ptr(found.key) else {
        return Ok(false);
    };
    // SAFETY: a pointer to a whole map value.
    let events = unsafe { (*connection).events };
    if compared(sock, events) as u64 != found.overlooked {
        return Ok(false);
    }
    // Once more: between this and the event word is next to no time in which the entry could go.
    let Some(connection) = CONNECTIONS.get_ptr_mut(found.key) else {
        return Ok(false);
    };
    // SAFETY: a pointer to a whole map value.
    let connection = unsafe { &mut *connection };
    if connection.born_ns != found.born_ns || connection.events != events {
        return Ok(false);
    }
    if found.overlooked == Overlooked::Accept as u64 {
        return accepted::<E>(sock, connection);
    }
    if found.overlooked == Overlooked::HalfClose as u64 {
        half_close::<E>(connection)?;
        return Ok(true);
    }
    let result = if found.overlooked == Overlooked::End as u64 {
        end::<E>(sock, connection, false)
    } else {
        Ok(())
    };
    forget(sock);
    result.map(|()| true)
}

/// What an entry has missed. A unix connection's ends with its socket, when the next look over all
/// connections finds that gone.
#[inline(always)]
fn compared(sock: Sock, events: u64) -> Overlooked {
    if events & event::UNIX != 0 {
        return Overlooked::Nothing;
    }
    let has_process = events & event::ACCEPTED == 0 && sock.has_socket() && !sock.has_joined();
    overlooked(events, state(sock), has_process)
}

#[inline(always)]
fn state(sock: Sock) -> u32 {
    match sock.state() {
        Ok(state) => state,
        Err(_) => GONE,
    }
}

/// A connection that a process has without a hook having seen its accept. It is nobody's.
#[inline(always)]
fn accepted<E: EventWord>(sock: Sock, connection: &mut Connection) -> Result<bool, Miss> {
    let address = sock.address()?;
    // A socket with another port is perhaps another, which has the memory of the one that was
    // accepted here: the end will tell.
    let is_told = listen::is_known(connection.listener);
    if is_told && port(connection.listener) != address.port {
        return Ok(false);
    }
    let row = if is_told && !listen::has_closed(connection.listener) {
        connection.listener
    } else {
        listen::row_by_address(&address)
    };
    if !listen::is_known(row) {
        return Ok(false);
    }
    let listener = Listener::at(row)?;
    connection.listener = row;
    let before = E::set(&raw mut connection.events, event::ACCEPTED);
    if before & (event::ACCEPTED | event::CLOSED) != 0 {
        return Ok(false);
    }
    listener.accepted_unseen();
    if before & event::HALF_CLOSED != 0 {
        listener.half_closed();
    } else {
        listener.one_more_active(NO_WORKER);
    }
    if let Some(whole) = sock.began()? {
        followed_as_a_whole::<E>(sock, whole, false)?;
    }
    Ok(true)
}

/// Removes the entry of a socket that is gone.
#[inline(always)]
fn forget(sock: Sock) {
    if state(sock) != GONE {
        return;
    }
    let _ = CONNECTIONS.remove(sock.key());
    if state(sock) == GONE {
        return;
    }
    // A child was born at this address meanwhile, and its entry may be the one that was removed.
    // SAFETY: the helper has no preconditions.
    let connection = Connection::born(unsafe { bpf_ktime_get_ns() });
    let _ = CONNECTIONS.insert(sock.key(), connection, BPF_NOEXIST);
}

/// Where a listener listens; 0 when it is not known.
#[inline(always)]
fn port(row: RowRef) -> u16 {
    let Some(description) = LISTENER_ROWS.get_ptr(row.slot) else {
        return 0;
    };
    // SAFETY: a pointer to a whole map value.
    unsafe { (*description).address.port }
}
