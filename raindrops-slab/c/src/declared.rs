//! Fields, as C declares and reads them.

use std::{
    ffi::{CString, c_char},
    slice,
};

use slab::{Field, Kind, Layout, Schema, Unit, histogram};

use crate::{failure::Failure, text};

/// One field of a slab.
#[repr(C)]
#[derive(Debug)]
pub struct RaindropsField {
    /// 1 to 31 of a-z, 0-9 and _, a letter first.
    pub name: *const c_char,
    /// RAINDROPS_COUNTER, RAINDROPS_GAUGE, RAINDROPS_MAX or RAINDROPS_HISTOGRAM.
    pub kind: u32,
    /// At most 15 of a-z, 0-9, _, / and %; NULL for plain numbers.
    pub unit: *const c_char,
    /// Of a histogram: the greatest value that is told apart from those above it.
    pub highest: u64,
}

/// A field of a slab that is there, with texts that C can read.
#[derive(Debug)]
pub(crate) struct Declared {
    name: CString,
    kind: Kind,
    unit: CString,
    pub words: u32,
}

impl Declared {
    pub fn as_field(&self) -> RaindropsField {
        let highest = match self.kind {
            // The last bucket, after the sum, is of what is above.
            Kind::Histogram => histogram::range_of(self.words - 3).1,
            Kind::Counter | Kind::Gauge | Kind::Max => 0,
        };
        RaindropsField {
            name: self.name.as_ptr(),
            kind: u32::from(self.kind as u16),
            unit: self.unit.as_ptr(),
            highest,
        }
    }
}

/// The fields of a slab.
pub(crate) fn declared(layout: &Layout) -> Vec<Declared> {
    let fields = layout.fields().iter().map(|placed| &placed.field);
    // Neither names nor units have a NUL.
    let text = |text: &str| CString::new(text).unwrap_or_default();
    fields
        .map(|field| Declared {
            name: text(&field.name),
            kind: field.kind,
            unit: text(field.unit.as_str()),
            words: field.words,
        })
        .collect()
}

/// # Safety
/// Strings are NULL or end with NUL, and `fields` has `count` entries.
pub(crate) unsafe fn schema(
    name: *const c_char,
    slots: u32,
    fields: *const RaindropsField,
    count: usize,
) -> Result<Schema, Failure> {
    // SAFETY: by the caller.
    let name = unsafe { text(name, "name")? };
    let fields = if count == 0 {
        &[]
    } else if fields.is_null() {
        return Err(Failure::Null("fields"));
    } else {
        // SAFETY: by the caller.
        unsafe { slice::from_raw_parts(fields, count) }
    };
    let fields = fields
        .iter()
        // SAFETY: by the caller.
        .map(|field| unsafe { to_field(field) })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Schema::new(name, slots, fields)?)
}

/// # Safety
/// Strings are NULL or end with NUL.
unsafe fn to_field(field: &RaindropsField) -> Result<Field, Failure> {
    // SAFETY: by the caller.
    let name = unsafe { text(field.name, "name of a field")? };
    let unit = if field.unit.is_null() {
        Unit::NONE
    } else {
        // SAFETY: by the caller.
        Unit::new(unsafe { text(field.unit, "unit")? })?
    };
    Ok(match kind(field.kind)? {
        Kind::Counter => Field::counter(name, unit),
        Kind::Gauge => Field::gauge(name, unit),
        Kind::Max => Field::max(name, unit),
        Kind::Histogram => Field::histogram(name, unit, field.highest),
    })
}

pub(crate) fn kind(number: u32) -> Result<Kind, Failure> {
    let kind = u16::try_from(number).ok().and_then(Kind::from_number);
    kind.ok_or(Failure::Kind(number))
}
