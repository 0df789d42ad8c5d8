//! Why bytes are not taken for a slab, in words.

use core::fmt;

use super::{LONGEST, MAJOR};
use crate::field::{MOST_FIELDS, MOST_SLOTS};

/// Why bytes are not taken for a slab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    TooShort {
        bytes: usize,
    },
    Magic,
    ByteOrder,
    Version {
        major: u16,
    },
    /// Its creator has not finished, or died before it did.
    NotReady,
    State,
    HeaderLength(u32),
    Fields(u32),
    Slots(u32),
    /// The lengths and offsets do not agree with each other.
    Lengths,
    /// It says that it is longer than what there is.
    Truncated {
        says: u64,
        bytes: u64,
    },
    TooLong(u64),
    Checksum,
    Name,
    /// The field of this number.
    Field {
        index: u32,
        why: &'static str,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { bytes } => write!(f, "not a slab: only {bytes} bytes long"),
            Self::Magic => f.write_str("not a slab: it does not begin as one"),
            Self::ByteOrder => f.write_str("made on a machine of another byte order"),
            Self::Version { major } => {
                write!(f, "of format version {major}; this reads version {MAJOR}")
            }
            Self::NotReady => f.write_str("its creator has not finished making it"),
            Self::State => f.write_str("damaged: in no known state"),
            Self::HeaderLength(bytes) => write!(f, "damaged: a header of {bytes} bytes"),
            Self::Fields(count) => {
                write!(f, "damaged: {count} fields (at most {MOST_FIELDS})")
            }
            Self::Slots(count) => write!(f, "damaged: {count} slots (at most {MOST_SLOTS})"),
            Self::Lengths => f.write_str("damaged: its lengths do not agree"),
            Self::Truncated { says, bytes } => {
                write!(f, "truncated: {bytes} bytes of {says}")
            }
            Self::TooLong(bytes) => write!(f, "{bytes} bytes long: at most {LONGEST}"),
            Self::Checksum => f.write_str("damaged: its checksum does not agree"),
            Self::Name => f.write_str("damaged: its name is none"),
            Self::Field { index, why } => write!(f, "damaged: field {index}: {why}"),
        }
    }
}

impl core::error::Error for Refused {}
