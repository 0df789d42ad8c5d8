//! A listener as the kernel half knows it, and the keys that lead to it.

/// Index of a listener's row. Rows are reused, so it is only meaningful with a generation.
pub type Slot = u32;

/// The slot of a connection whose listener is not known yet.
pub const NO_SLOT: Slot = u32::MAX;

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

/// Bytes of a unix socket's name (`sun_path`).
pub const UNIX_NAME_LEN: usize = 108;

/// A row, and which of its lives is meant.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef {
    pub slot: Slot,
    pub generation: u32,
}

impl RowRef {
    pub const NONE: Self = Self {
        slot: NO_SLOT,
        generation: 0,
    };
}

/// Where a TCP listener listens, in the kernel's own byte order of each field: `port` in host
/// order, `address` in network order. IPv4 takes the first four bytes, the rest are zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressKey {
    pub netns: u32,
    pub family: u16,
    pub port: u16,
    pub address: [u8; 16],
}

/// Life of a row.
pub mod row_state {
    pub const FREE: u32 = 0;
    pub const LISTENING: u32 = 1;
    /// The listener has closed; connections accepted from it may still be open.
    pub const CLOSED: u32 = 2;
}

/// What a row describes. Written by whoever creates the row, then only `state` changes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerRow {
    /// Inode of the listening socket in the host's socket file system; 0 when it was made from a
    /// unix connection whose listener was not seen.
    pub inode: u64,
    /// Counts the reuses of this row.
    pub generation: u32,
    pub state: u32,
    /// For a unix listener only `family` and `netns` are set.
    pub address: AddressKey,
    /// Bytes used of `unix_name`.
    pub unix_name_len: u32,
    /// `sun_path` as it was bound: a path, or a NUL byte and an abstract name.
    pub unix_name: [u8; UNIX_NAME_LEN],
}

const _: () = assert!(size_of::<RowRef>() == 8);
const _: () = assert!(size_of::<AddressKey>() == 24);
const _: () = assert!(size_of::<ListenerRow>() == 8 + 8 + 24 + 4 + UNIX_NAME_LEN);

impl ListenerRow {
    pub const FREE: Self = Self {
        inode: 0,
        generation: 0,
        state: row_state::FREE,
        address: AddressKey {
            netns: 0,
            family: 0,
            port: 0,
            address: [0; 16],
        },
        unix_name_len: 0,
        unix_name: [0; UNIX_NAME_LEN],
    };
}
