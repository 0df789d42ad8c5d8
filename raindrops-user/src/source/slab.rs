//! Counters that applications keep in shared memory, read from outside.

pub mod declared;

/// Which shared memory: as `/proc/PID/maps` and `fstat` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory {
    pub major: u32,
    pub minor: u32,
    pub inode: u64,
}
