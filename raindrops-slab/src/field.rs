//! What a slab counts: named fields, declared once, by who creates it.
//!
//! Names and units are checked here for those who write and for those who read, so that what a
//! foreign file calls its fields can be printed as it is.

use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::fmt;

use crate::histogram;

/// Most fields of one slab.
pub const MOST_FIELDS: usize = 256;
/// Most slots of one slab.
pub const MOST_SLOTS: u32 = 4096;
/// Bytes of a name that are not the closing NUL.
pub const LONGEST_NAME: usize = 31;
/// The same for a unit.
pub const LONGEST_UNIT: usize = 15;

/// What a field's number means, and what becomes of it when its worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Kind {
    /// Only rises. Kept when its worker ends.
    Counter = 1,
    /// Rises and falls, and may be negative. Gone when its worker ends.
    Gauge = 2,
    /// The greatest seen. Kept when its worker ends.
    Max = 3,
    /// How many values fell into which range, and their sum. Kept when its worker ends.
    Histogram = 4,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Counter, Self::Gauge, Self::Max, Self::Histogram];

    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Counter),
            2 => Some(Self::Gauge),
            3 => Some(Self::Max),
            4 => Some(Self::Histogram),
            _ => None,
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Max => "max",
            Self::Histogram => "histogram",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a declaration is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Of a field, a unit or a slab.
    Name(String),
    Twice(String),
    Unit(String),
    NoFields,
    TooManyFields(usize),
    Slots(u32),
    TooLong(u64),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "{name:?} is no name: it takes 1 to {LONGEST_NAME} of a-z, 0-9 and _, a letter first"
            ),
            Self::Twice(name) => write!(f, "two fields are called {name}"),
            Self::Unit(unit) => write!(
                f,
                "{unit:?} is no unit: it takes at most {LONGEST_UNIT} of a-z, 0-9, _, / and %"
            ),
            Self::NoFields => f.write_str("there is no field"),
            Self::TooManyFields(count) => {
                write!(f, "{count} fields are too many: at most {MOST_FIELDS}")
            }
            Self::Slots(count) => write!(f, "{count} slots: it takes 1 to {MOST_SLOTS}"),
            Self::TooLong(bytes) => write!(
                f,
                "it would be {bytes} bytes long: at most {}",
                crate::layout::LONGEST
            ),
        }
    }
}

impl core::error::Error for Invalid {}

/// Whether this may be the name of a field or of a slab.
pub(crate) fn is_name(text: &[u8]) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && text[0].is_ascii_lowercase()
        && text
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_')
}

/// What a field is counted in: `us`, `bytes`, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit(String);

impl Unit {
    /// Of plain numbers.
    pub const NONE: Self = Self(String::new());

    /// # Errors
    /// When it is too long, or has other characters than a-z, 0-9, _, / and %.
    pub fn new(unit: &str) -> Result<Self, Invalid> {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_/%".contains(&byte);
        if unit.len() <= LONGEST_UNIT && unit.bytes().all(is_allowed) {
            Ok(Self(unit.to_owned()))
        } else {
            Err(Invalid::Unit(unit.to_owned()))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One field, as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
    pub unit: Unit,
    /// Words of 64 bits: 1, but for histograms.
    pub words: u32,
}

impl Field {
    #[must_use]
    pub fn counter(name: &str, unit: Unit) -> Self {
        Self::of_one_word(name, Kind::Counter, unit)
    }

    #[must_use]
    pub fn gauge(name: &str, unit: Unit) -> Self {
        Self::of_one_word(name, Kind::Gauge, unit)
    }

    #[must_use]
    pub fn max(name: &str, unit: Unit) -> Self {
        Self::of_one_word(name, Kind::Max, unit)
    }

    /// A histogram that tells values up to `highest` apart, within an eighth of their size.
    #[must_use]
    pub fn histogram(name: &str, unit: Unit, highest: u64) -> Self {
        Self {
            words: histogram::words_for(highest),
            ..Self::of_one_word(name, Kind::Histogram, unit)
        }
    }

    fn of_one_word(name: &str, kind: Kind, unit: Unit) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            unit,
            words: 1,
        }
    }
}

/// What a slab is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    name: String,
    slots: u32,
    fields: Vec<Field>,
}

impl Schema {
    /// `name` tells people which slab it is; `slots` is how many claims there may be at one time.
    ///
    /// # Errors
    /// When a name is not one or is taken, and when there are too many fields or slots.
    pub fn new(
        name: &str,
        slots: u32,
        fields: impl IntoIterator<Item = Field>,
    ) -> Result<Self, Invalid> {
        let fields: Vec<_> = fields.into_iter().collect();
        if !is_name(name.as_bytes()) {
            return Err(Invalid::Name(name.to_owned()));
        }
        if fields.is_empty() {
            return Err(Invalid::NoFields);
        }
        if fields.len() > MOST_FIELDS {
            return Err(Invalid::TooManyFields(fields.len()));
        }
        if !(1..=MOST_SLOTS).contains(&slots) {
            return Err(Invalid::Slots(slots));
        }
        for (index, field) in fields.iter().enumerate() {
            if !is_name(field.name.as_bytes()) {
                return Err(Invalid::Name(field.name.clone()));
            }
            if fields[..index].iter().any(|other| other.name == field.name) {
                return Err(Invalid::Twice(field.name.clone()));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            slots,
            fields,
        })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}
