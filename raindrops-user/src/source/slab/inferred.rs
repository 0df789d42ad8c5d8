//! Slabs that do not say what they are, recognised by who has them mapped and what is in them.
//!
//! Pure: from processes and bytes to slabs.

use std::collections::BTreeMap;

use super::maps::{Mapping, Maps};
use crate::{
    ids::{Monotonic, Pid},
    snapshot::slabs::{Memory, Slab, Suspect},
};

/// The longest that is read of such memory.
pub const LONGEST: u64 = 64 * 1024;

/// A process, and what it has mapped.
#[derive(Clone, Copy, Debug)]
pub struct Mapped<'a> {
    pub process: &'a Suspect,
    pub maps: &'a Maps,
}

/// Whether such memory of a process is worth reading.
#[must_use]
pub fn is_candidate(process: Mapped<'_>, mapping: &Mapping) -> bool {
    let _ = (process, mapping);
    false
}

/// Tells what each memory is, where it can be told. `bytes` has what was read of each candidate.
#[must_use]
pub fn recognise(
    processes: &BTreeMap<Pid, Mapped<'_>>,
    bytes: &BTreeMap<Memory, Vec<u8>>,
    now: Monotonic,
) -> Vec<Slab> {
    let _ = (processes, bytes, now);
    Vec::new()
}
