//! Listening sockets: rows are made and retired here, and connections told their listener.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use raindrops_ebpf::{
    connection::QueuedUnix,
    globals::HAS_DATA_READY,
    listener::{
        AF_INET, AF_INET6, AF_UNIX, AddressKey, ListenerRow, NO_SLOT, RowRef, UNIX_NAME_LEN,
        row_state,
    },
    miss::Miss,
};

use crate::{
    count::Listener,
    maps::{
        CONNECTIONS, FREE_LISTENER_ROWS, LAST_CHILD, LISTENER_BY_ADDRESS, LISTENER_BY_SOCK,
        LISTENER_BY_UNIX_NAME, LISTENER_ROWS, LISTENERS, QUEUED_UNIX,
    },
    sock::{IPPROTO_TCP, Sock, UnixName, state},
    turn,
};

const BPF_NOEXIST: u64 = 1;

/// Queued unix connections to look back over when several clients connect at the same instant.
const LOOK_BACK: usize = 3;

/// A TCP socket has begun to listen.
#[inline(always)]
pub fn opened(sock: Sock) -> Result<(), Miss> {
    row_of_tcp(sock).map(drop)
}

/// A TCP socket has ceased to listen.
#[inline(always)]
pub fn closed(sock: Sock) -> Result<(), Miss> {
    // A listener that nothing has happened to since the programs began is known by its inode only.
    let known = LISTENER_BY_SOCK.get_ptr(sock.key());
    let known = match known {
        Some(row) => Some(row),
        None => LISTENERS.get_ptr(sock.inode()?),
    };
    let Some(row) = known else {
        return Ok(());
    };
    // SAFETY: a pointer to a whole map value.
    let row = unsafe { *row };
    let _ = LISTENER_BY_SOCK.remove(sock.key());
    let Some(description) = LISTENER_ROWS.get_ptr_mut(row.slot) else {
        return Ok(());
    };
    // SAFETY: a pointer to a whole map value.
    let description = unsafe { &mut *description };
    description.state = row_state::CLOSED;
    let address = description.address;
    if let Some(there) = LISTENER_BY_ADDRESS.get_ptr(address) {
        // SAFETY: a pointer to a whole map value.
        if unsafe { (*there).slot } == row.slot {
            let _ = LISTENER_BY_ADDRESS.remove(address);
        }
    }
    Ok(())
}

/// A socket has something to read: a listener, if a connection has just joined its queue.
#[inline(always)]
pub fn data_ready(sock: Sock) -> Result<(), Miss> {
    let state = sock.state()?;
    if state != state::LISTEN {
        // It is called for a FIN too.
        if state == state::ESTABLISHED && turn::are_followed() {
            turn::data_came(sock);
        }
        return Ok(());
    }
    if sock.family()? == AF_UNIX {
        unix_queued(sock)
    } else {
        tcp_queued(sock)
    }
}

/// The kernel calls this on the CPU that has just made the child, before anything else can run
/// there, so the child born last is the one that joined.
#[inline(always)]
fn tcp_queued(listener: Sock) -> Result<(), Miss> {
    let Some(last) = LAST_CHILD.get_ptr_mut(0) else {
        return Ok(());
    };
    // SAFETY: a pointer to a whole map value that is private to this CPU.
    let child = unsafe { core::mem::take(&mut *last) };
    if child == 0 {
        return Ok(());
    }
    let row = row_of_tcp(listener)?;
    if !is_known(row) {
        return Ok(());
    }
    if let Some(connection) = CONNECTIONS.get_ptr_mut(child) {
        // SAFETY: a pointer to a whole map value.
        unsafe { (*connection).listener = row };
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    Listener::at(row)?.queued(listener.tcp_queue_length()?, now);
    Ok(())
}

/// Stamps the connection that has just been queued, and any that other clients have queued at the
/// same instant and whose own call has not come yet.
#[inline(always)]
fn unix_queued(listener: Sock) -> Result<(), Miss> {
    if !listener.is_followed()? {
        return Ok(());
    }
    let row = row_of_unix(listener)?;
    if let Some(name) = listener.unix_name()? {
        let _ = LISTENER_BY_UNIX_NAME.insert(name.key(), row, 0);
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let counters = Listener::at(row)?;
    counters.arrived();
    counters.queued(listener.unix_queue_length()?, now);
    let queued = QueuedUnix {
        queued_ns: now,
        listener: row,
    };
    let Some(mut place) = listener.last_queued()? else {
        return Ok(());
    };
    for back in 0..LOOK_BACK {
        let Some(child) = place.sock()? else {
            return Ok(());
        };
        if back > 0 && QUEUED_UNIX.get_ptr(child.key()).is_some() {
            return Ok(());
        }
        let _ = QUEUED_UNIX.insert(child.key(), queued, 0);
        match place.previous()? {
            Some(previous) => place = previous,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// The row of a listening TCP socket; `RowRef::NONE` when it is not to be followed.
#[inline(always)]
pub fn row_of_tcp(listener: Sock) -> Result<RowRef, Miss> {
    if let Some(row) = LISTENER_BY_SOCK.get_ptr(listener.key()) {
        // SAFETY: a pointer to a whole map value.
        return Ok(unsafe { *row });
    }
    let family = listener.family()?;
    let is_tcp = (family == AF_INET || family == AF_INET6) && listener.protocol()? == IPPROTO_TCP;
    let row = if is_tcp && listener.is_followed()? {
        let address = listener.address()?;
        let row = row_of_inode(listener.inode()?, address, None)?;
        let _ = LISTENER_BY_ADDRESS.insert(address, row, BPF_NOEXIST);
        row
    } else {
        RowRef::NONE
    };
    let _ = LISTENER_BY_SOCK.insert(listener.key(), row, 0);
    Ok(row)
}

/// The row of a listening unix socket. Nothing tells of the end of one, so what is remembered for
/// its address is believed only while the inode is the same.
#[inline(always)]
pub fn row_of_unix(listener: Sock) -> Result<RowRef, Miss> {
    let inode = listener.inode()?;
    if let Some(row) = LISTENER_BY_SOCK.get_ptr(listener.key()) {
        // SAFETY: a pointer to a whole map value.
        let row = unsafe { *row };
        if let Some(description) = LISTENER_ROWS.get_ptr(row.slot) {
            // SAFETY: a pointer to a whole map value.
            let description = unsafe { &*description };
            if description.inode == inode && description.generation == row.generation {
                return Ok(row);
            }
        }
    }
    let address = AddressKey {
        netns: listener.netns()?,
        family: AF_UNIX,
        port: 0,
        address: [0; 16],
    };
    let row = row_of_inode(inode, address, listener.unix_name()?)?;
    let _ = LISTENER_BY_SOCK.insert(listener.key(), row, 0);
    Ok(row)
}

/// The row of the unix listener that an accepted socket shares its name with.
#[inline(always)]
pub fn row_of_unix_child(child: Sock) -> Result<RowRef, Miss> {
    let Some(name) = child.unix_name()? else {
        return Err(Miss::NoListener);
    };
    if let Some(row) = LISTENER_BY_UNIX_NAME.get_ptr(name.key()) {
        // SAFETY: a pointer to a whole map value.
        let row = unsafe { *row };
        // Where connects are seen each one renews the entry; otherwise the name's memory may have
        // gone to another listener.
        if !only_address_tells() || has_name(row, name)? {
            return Ok(row);
        }
    } else if !only_address_tells() && !child.is_followed()? {
        return Err(Miss::NoListener);
    }
    let address = AddressKey {
        netns: child.netns()?,
        family: AF_UNIX,
        port: 0,
        address: [0; 16],
    };
    let row = new_row(0, address, Some(name))?;
    let _ = LISTENER_BY_UNIX_NAME.insert(name.key(), row, 0);
    Ok(row)
}

/// The row that the name of an accepted unix socket leads to, if any.
#[inline(always)]
pub fn row_of_unix_name(child: Sock) -> Result<RowRef, Miss> {
    let Some(name) = child.unix_name()? else {
        return Ok(RowRef::NONE);
    };
    match LISTENER_BY_UNIX_NAME.get_ptr(name.key()) {
        // SAFETY: a pointer to a whole map value.
        Some(row) => Ok(unsafe { *row }),
        None => Ok(RowRef::NONE),
    }
}

#[inline(always)]
fn has_name(row: RowRef, name: UnixName) -> Result<bool, Miss> {
    let Some(description) = LISTENER_ROWS.get_ptr(row.slot) else {
        return Ok(false);
    };
    // SAFETY: a pointer to a whole map value.
    let description = unsafe { &*description };
    if description.generation != row.generation || description.unix_name_len != name.len()? {
        return Ok(false);
    }
    let mut path = [0; UNIX_NAME_LEN];
    name.read_sun_path(&mut path)?;
    let used = description.unix_name_len as usize;
    // Over the whole length: a loop that ends at `used` ends where the verifier of Linux 5.10 does
    // not know that it is within the array.
    for (index, (mine, known)) in path.iter().zip(&description.unix_name).enumerate() {
        if index < used && mine != known {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One of the rows that listen on a connection's local address: exact, then the wildcard of its
/// family, then `[::]` for IPv4.
#[inline(always)]
pub fn row_by_address(local: &AddressKey) -> RowRef {
    if let Some(row) = LISTENER_BY_ADDRESS.get_ptr(local) {
        // SAFETY: a pointer to a whole map value.
        return unsafe { *row };
    }
    let mut wildcard = AddressKey {
        address: [0; 16],
        ..*local
    };
    if let Some(row) = LISTENER_BY_ADDRESS.get_ptr(wildcard) {
        // SAFETY: as above.
        return unsafe { *row };
    }
    if local.family == AF_INET {
        wildcard.family = AF_INET6;
        if let Some(row) = LISTENER_BY_ADDRESS.get_ptr(wildcard) {
            // SAFETY: as above.
            return unsafe { *row };
        }
    }
    RowRef::NONE
}

/// Whether a connection must be told its listener by address at birth.
#[inline(always)]
pub fn only_address_tells() -> bool {
    HAS_DATA_READY.load() == 0
}

#[inline(always)]
fn row_of_inode(inode: u64, address: AddressKey, name: Option<UnixName>) -> Result<RowRef, Miss> {
    if let Some(row) = LISTENERS.get_ptr(inode) {
        // SAFETY: a pointer to a whole map value.
        let row = unsafe { *row };
        if let Some(description) = LISTENER_ROWS.get_ptr_mut(row.slot) {
            // SAFETY: a pointer to a whole map value.
            let description = unsafe { &mut *description };
            // A socket that had ceased to listen does so again.
            if description.state == row_state::CLOSED {
                description.address = address;
                description.state = row_state::LISTENING;
            }
        }
        return Ok(row);
    }
    let row = new_row(inode, address, name)?;
    if LISTENERS.insert(inode, row, BPF_NOEXIST).is_ok() {
        return Ok(row);
    }
    if let Some(description) = LISTENER_ROWS.get_ptr_mut(row.slot) {
        // SAFETY: a pointer to a whole map value.
        unsafe { (*description).state = row_state::FREE };
    }
    let _ = FREE_LISTENER_ROWS.push(row.slot, 0);
    LISTENERS
        .get_ptr(inode)
        .map(|row| {
            // SAFETY: a pointer to a whole map value.
            unsafe { *row }
        })
        .ok_or(Miss::ListenersFull)
}

#[inline(always)]
fn new_row(inode: u64, address: AddressKey, name: Option<UnixName>) -> Result<RowRef, Miss> {
    let Ok(Some(slot)) = FREE_LISTENER_ROWS.pop() else {
        return Err(Miss::ListenersFull);
    };
    let description: *mut ListenerRow =
        LISTENER_ROWS.get_ptr_mut(slot).ok_or(Miss::ListenersFull)?;
    // SAFETY: a pointer to a whole map value.
    let description = unsafe { &mut *description };
    description.inode = inode;
    description.address = address;
    description.unix_name_len = 0;
    // A name near the end of mapped memory cannot be read in full; the inode tells it all the same.
    if let Some(name) = name
        && let Ok(length) = name.len()
        && name.read_sun_path(&mut description.unix_name).is_ok()
    {
        description.unix_name_len = length;
    }
    let generation = description.generation;
    // SAFETY: `description` is a valid place. Volatile, because user space looks at it first.
    unsafe { (&raw mut description.state).write_volatile(row_state::LISTENING) };
    Ok(RowRef { slot, generation })
}

/// Whether a listener has closed, and its row perhaps gone to another.
#[inline(always)]
pub fn has_closed(row: RowRef) -> bool {
    let Some(description) = LISTENER_ROWS.get_ptr(row.slot) else {
        return false;
    };
    // SAFETY: a pointer to a whole map value.
    let description = unsafe { &*description };
    description.generation != row.generation || description.state != row_state::LISTENING
}

/// Whether a listener is known, and its row has not gone to another.
#[inline(always)]
pub fn is_current(row: RowRef) -> bool {
    let Some(description) = LISTENER_ROWS.get_ptr(row.slot) else {
        return false;
    };
    // SAFETY: a pointer to a whole map value.
    unsafe { (*description).generation == row.generation }
}

/// Whether a listener is known.
#[inline(always)]
pub fn is_known(row: RowRef) -> bool {
    row.slot != NO_SLOT
}
