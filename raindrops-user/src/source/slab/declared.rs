//! Slabs that say what they count: those in the format of `raindrops-slab`.
//!
//! That crate knows the bytes; this fetches them, from a file or out of a process, and finds out
//! whose slots they are. Such a file is written by whoever may write it: nothing in it is believed
//! that was not checked, and a slot counts for a process only if that process has this very memory
//! mapped.

pub mod directory;
mod file;
mod owners;

use std::io;

use raindrops_slab::{Layout, Reading, Refused, read::Value};

pub use self::{
    file::{Found, open},
    owners::{Claims, Judged, claims},
};

/// The longest that is read, the most of them, and how long they may be together: what is read of
/// them is in memory several times.
pub const LONGEST: u64 = 1 << 20;
pub const MOST: usize = 256;
pub const LONGEST_TOGETHER: u64 = 32 << 20;

/// How often a slab is read again when slots change hands meanwhile.
const READINGS: usize = 3;

/// Why something is not read as a slab.
#[derive(Debug, thiserror::Error)]
pub enum DeclaredError {
    #[error("cannot be opened: {0}")]
    Open(#[source] io::Error),
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    #[error("it is a {0}, not a file")]
    NotAFile(&'static str),
    #[error("{0} bytes long; at most {LONGEST} are read")]
    TooLong(u64),
    #[error("shortened while it was read")]
    Shortened,
    #[error("another slab by now")]
    Replaced,
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Takes the static part of a slab of `length` bytes. `copy` fills a buffer from an offset.
///
/// # Errors
/// When it is not a slab, is too long, or cannot be copied.
pub fn layout(
    length: u64,
    mut copy: impl FnMut(usize, &mut [u8]) -> Result<(), DeclaredError>,
) -> Result<Layout, DeclaredError> {
    let mut header = vec![0; raindrops_slab::layout::FIXED.min(length as usize)];
    copy(0, &mut header)?;
    let whole = Layout::header_length(&header)?;
    header.resize(whole.min(length as usize), 0);
    copy(0, &mut header)?;
    let layout = Layout::decode(&header, length)?;
    if layout.total() as u64 > LONGEST {
        return Err(DeclaredError::TooLong(layout.total() as u64));
    }
    Ok(layout)
}

/// Whether the memory that this layout was read of still has it.
///
/// # Errors
/// When it has another, or cannot be copied.
pub fn is_still(
    known: &Layout,
    mut copy: impl FnMut(usize, &mut [u8]) -> Result<(), DeclaredError>,
) -> Result<(), DeclaredError> {
    let mut header = [0; raindrops_slab::layout::FIXED];
    copy(0, &mut header)?;
    if known.is_of(&header) {
        Ok(())
    } else {
        Err(DeclaredError::Replaced)
    }
}

/// Copies what changes.
///
/// # Errors
/// When it cannot be copied.
pub fn read(
    layout: &Layout,
    reading: &mut Reading,
    mut copy: impl FnMut(usize, &mut [u8]) -> Result<(), DeclaredError>,
) -> Result<(), DeclaredError> {
    for _ in 0..READINGS {
        reading.take(layout, &mut copy)?;
        if reading.slots(layout).all(|slot| slot.occupant.is_some()) {
            break;
        }
    }
    Ok(())
}

/// Adds one worker's figure to that of another of its slots. Both are of one field.
fn add(to: &mut Value, value: &Value) {
    match (to, value) {
        (Value::Counter(to), Value::Counter(value)) => *to = to.wrapping_add(*value),
        (Value::Gauge(to), Value::Gauge(value)) => *to = to.wrapping_add(*value),
        (Value::Max(to), Value::Max(value)) => *to = (*to).max(*value),
        (
            Value::Histogram { sum, buckets },
            Value::Histogram {
                sum: more,
                buckets: counts,
            },
        ) => {
            *sum = sum.wrapping_add(*more);
            for (to, count) in buckets.iter_mut().zip(counts) {
                *to = to.wrapping_add(*count);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
