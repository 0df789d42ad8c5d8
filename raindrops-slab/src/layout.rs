//! The format: what stands where, and what is refused.
//!
//! A slab's bytes may come from anybody. Every length is checked before it is used, in arithmetic
//! that cannot overflow, and nothing beyond the static part is ever believed: [`Layout`] is made of
//! a copy of it, once, and says where to read from then on.

mod fields;
mod refused;

use alloc::{string::String, vec, vec::Vec};

use self::fields::{fields, name};
use crate::field::{Field, Invalid, Kind, MOST_FIELDS, MOST_SLOTS, Schema};

pub use self::refused::Refused;

/// The first eight bytes. No text begins with the first, and a transfer that mends line ends breaks
/// the last.
pub const MAGIC: [u8; 8] = *b"\x89RDSLAB\n";
/// Reads so where it was written in the reader's byte order.
pub const BYTE_ORDER: u32 = 0x0102_0304;
/// Another major version is refused; a minor one adds only what older readers may pass over.
pub const MAJOR: u16 = 1;
pub const MINOR: u16 = 0;
/// The static part without its fields.
pub const FIXED: usize = 192;
/// One entry of the table of fields.
pub const FIELD: usize = 64;
/// One entry of the table of owners.
pub const OWNER: usize = 32;
/// Slots begin at multiples of this, so that no two workers write to one cache line, nor to two that
/// a processor fetches together.
pub const LINE: usize = 128;
/// The longest slab.
pub const LONGEST: u64 = 64 << 20;
/// The longest static part.
pub const LONGEST_HEADER: usize = FIXED + MOST_FIELDS * FIELD;

/// Bytes of the static part that come to change, and are not in the checksum: state and checksum.
const STATE: usize = 16;
const CHECKSUM: usize = 20;

/// Where a slab is in its life: the last word that its creator writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    Initialising = 0,
    Ready = 1,
    /// Nobody may claim any more.
    Closed = 2,
}

impl State {
    const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Initialising),
            1 => Some(Self::Ready),
            2 => Some(Self::Closed),
            _ => None,
        }
    }
}

/// Offset of the state, a `u32` that is written last, with release.
pub const STATE_OFFSET: usize = STATE;

/// Who made a slab, where and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In its pid namespace.
    pub pid: u32,
    /// Inode of the pid namespace that all pids in the slab are of.
    pub pid_namespace: u32,
    /// Clock ticks from boot to the creator's start.
    pub started: u64,
    /// Nanoseconds since the epoch.
    pub created: u64,
    pub boot_id: [u8; 16],
}

impl Origin {
    /// Of a static part, which has [`FIXED`] bytes at least.
    fn of(header: &[u8]) -> Self {
        Self {
            pid: u32_at(header, 64),
            pid_namespace: u32_at(header, 68),
            started: u64_at(header, 72),
            created: u64_at(header, 80),
            boot_id: array_at(header, 96),
        }
    }
}

/// A field, and where it stands in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub field: Field,
    /// Of its words, from the beginning of a slot, in bytes.
    pub offset: u32,
    /// Of the words that hold what earlier owners have counted there; none for gauges.
    pub base: Option<u32>,
}

/// Where everything stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    name: String,
    origin: Origin,
    total: usize,
    owners: usize,
    slots: usize,
    stride: usize,
    slot_count: u32,
    fields: Vec<Placed>,
}

impl Layout {
    /// Lays out a new slab.
    ///
    /// # Errors
    /// When it would be longer than [`LONGEST`].
    pub fn new(schema: &Schema, origin: Origin) -> Result<Self, Invalid> {
        let values: u32 = schema.fields().iter().map(|field| field.words * 8).sum();
        let (mut at, mut base_at) = (0, values);
        let mut fields = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let bytes = field.words * 8;
            let base = (field.kind != Kind::Gauge).then_some(base_at);
            base_at += base.map_or(0, |_| bytes);
            fields.push(Placed {
                field: field.clone(),
                offset: at,
                base,
            });
            at += bytes;
        }
        let stride = (base_at as usize).next_multiple_of(LINE);
        let owners = (FIXED + fields.len() * FIELD).next_multiple_of(LINE);
        let slots = (owners + schema.slots() as usize * OWNER).next_multiple_of(LINE);
        let total = slots as u64 + schema.slots() as u64 * stride as u64;
        if total > LONGEST {
            return Err(Invalid::TooLong(total));
        }
        Ok(Self {
            name: schema.name().into(),
            origin,
            total: total as usize,
            owners,
            slots,
            stride,
            slot_count: schema.slots(),
            fields,
        })
    }

    /// The static part, in state [`State::Initialising`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length = FIXED + self.fields.len() * FIELD;
        let mut bytes = vec![0; length];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC);
        put(8, &BYTE_ORDER.to_ne_bytes());
        put(12, &MAJOR.to_ne_bytes());
        put(14, &MINOR.to_ne_bytes());
        put(24, &(length as u32).to_ne_bytes());
        put(28, &(self.fields.len() as u32).to_ne_bytes());
        put(32, &(self.total as u64).to_ne_bytes());
        put(40, &(self.owners as u64).to_ne_bytes());
        put(48, &(self.slots as u64).to_ne_bytes());
        put(56, &(self.stride as u32).to_ne_bytes());
        put(60, &self.slot_count.to_ne_bytes());
        put(64, &self.origin.pid.to_ne_bytes());
        put(68, &self.origin.pid_namespace.to_ne_bytes());
        put(72, &self.origin.started.to_ne_bytes());
        put(80, &self.origin.created.to_ne_bytes());
        put(96, &self.origin.boot_id);
        put(112, self.name.as_bytes());
        for (index, placed) in self.fields.iter().enumerate() {
            let at = FIXED + index * FIELD;
            put(at, placed.field.name.as_bytes());
            put(at + 32, placed.field.unit.as_str().as_bytes());
            put(at + 48, &(placed.field.kind as u16).to_ne_bytes());
            put(at + 52, &placed.offset.to_ne_bytes());
            put(at + 56, &placed.field.words.to_ne_bytes());
            put(at + 60, &placed.base.unwrap_or(NO_BASE).to_ne_bytes());
        }
        let checksum = checksum(&bytes);
        bytes[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_ne_bytes());
        bytes
    }

    /// How many bytes [`Layout::decode`] needs, from at least the first [`FIXED`] of them.
    ///
    /// # Errors
    /// When these are not the beginning of a slab.
    pub fn header_length(bytes: &[u8]) -> Result<usize, Refused> {
        if bytes.len() < FIXED {
            return Err(match bytes.first_chunk() {
                Some(magic) if *magic == MAGIC => Refused::TooShort { bytes: bytes.len() },
                _ => Refused::Magic,
            });
        }
        if bytes[..8] != MAGIC {
            return Err(Refused::Magic);
        }
        if u32_at(bytes, 8) != BYTE_ORDER {
            return Err(Refused::ByteOrder);
        }
        let major = u16_at(bytes, 12);
        if major != MAJOR {
            return Err(Refused::Version { major });
        }
        let (length, fields) = (u32_at(bytes, 24), u32_at(bytes, 28));
        if !(1..=MOST_FIELDS as u32).contains(&fields) {
            return Err(Refused::Fields(fields));
        }
        if length as usize != FIXED + fields as usize * FIELD {
            return Err(Refused::HeaderLength(length));
        }
        Ok(length as usize)
    }

    /// Reads the static part out of a copy of a slab's first bytes; `available` is how long the
    /// whole is.
    ///
    /// # Errors
    /// When it is not a slab, is not finished, or is longer than `available`.
    pub fn decode(bytes: &[u8], available: u64) -> Result<Self, Refused> {
        let length = Self::header_length(bytes)?;
        let header = bytes
            .get(..length)
            .ok_or(Refused::TooShort { bytes: bytes.len() })?;
        match State::from_number(u32_at(header, STATE)) {
            Some(State::Ready | State::Closed) => {}
            Some(State::Initialising) => return Err(Refused::NotReady),
            None => return Err(Refused::State),
        }
        if u32_at(header, CHECKSUM) != checksum(header) {
            return Err(Refused::Checksum);
        }
        let total = u64_at(header, 32);
        if total > LONGEST {
            return Err(Refused::TooLong(total));
        }
        if total > available {
            return Err(Refused::Truncated {
                says: total,
                bytes: available,
            });
        }
        let slot_count = u32_at(header, 60);
        if !(1..=MOST_SLOTS).contains(&slot_count) {
            return Err(Refused::Slots(slot_count));
        }
        let (owners, slots) = (u64_at(header, 40), u64_at(header, 48));
        let stride = u32_at(header, 56);
        let owners_end = owners.checked_add(u64::from(slot_count) * OWNER as u64);
        let slots_end = slots.checked_add(u64::from(slot_count) * u64::from(stride));
        let line = LINE as u64;
        let agree = owners >= length as u64
            && owners % line == 0
            && slots % line == 0
            && stride > 0
            && u64::from(stride) % line == 0
            && owners_end.is_some_and(|end| end <= slots)
            && slots_end.is_some_and(|end| end <= total);
        if !agree {
            return Err(Refused::Lengths);
        }
        Ok(Self {
            name: name(&header[112..144]).ok_or(Refused::Name)?,
            origin: Origin::of(header),
            total: total as usize,
            owners: owners as usize,
            slots: slots as usize,
            stride: stride as usize,
            slot_count,
            fields: fields(&header[FIXED..], stride)?,
        })
    }

    /// Whether the first [`FIXED`] bytes of a slab are those that this was read of: no two slabs
    /// are made by one process at one instant.
    #[must_use]
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        let layout = || {
            let bytes = bytes.get(..FIXED)?;
            let origin = Origin::of(bytes);
            let total = u64_at(bytes, 32);
            let slots = (u32_at(bytes, 60), u32_at(bytes, 28) as usize);
            Some((bytes[..8] == MAGIC, origin, total, slots))
        };
        let slots = (self.slot_count, self.fields.len());
        layout() == Some((true, self.origin, self.total as u64, slots))
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Length of the whole, in bytes.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.total
    }

    #[must_use]
    pub const fn slot_count(&self) -> u32 {
        self.slot_count
    }

    #[must_use]
    pub const fn stride(&self) -> usize {
        self.stride
    }

    #[must_use]
    pub fn fields(&self) -> &[Placed] {
        &self.fields
    }

    /// The field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Placed> {
        self.fields.iter().find(|it| it.field.name == name)
    }

    /// Where the table of owners begins.
    #[must_use]
    pub const fn owners(&self) -> usize {
        self.owners
    }

    /// Where the entry of one slot's owner begins.
    #[must_use]
    pub const fn owner(&self, slot: u32) -> usize {
        self.owners + slot as usize * OWNER
    }

    /// Where the slots begin.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// Where one slot begins.
    #[must_use]
    pub const fn slot(&self, slot: u32) -> usize {
        self.slots + slot as usize * self.stride
    }
}

/// Where a field has no base.
const NO_BASE: u32 = u32::MAX;

/// CRC-32 as zlib computes it, with state and checksum as zeros.
fn checksum(header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..STATE]);
    hasher.update(&[0; CHECKSUM + 4 - STATE]);
    hasher.update(&header[CHECKSUM + 4..]);
    hasher.finalize()
}

/// Callers have made sure that the bytes are there.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests;
