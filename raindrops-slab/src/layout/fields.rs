//! The table of fields: read, and refused.

use alloc::{string::String, vec::Vec};

use super::{FIELD, NO_BASE, Placed, Refused, u16_at, u32_at};
use crate::{
    field::{Field, Kind, LONGEST_NAME, LONGEST_UNIT, Unit, is_name},
    histogram::MOST_BUCKETS,
};

pub(super) fn fields(table: &[u8], stride: u32) -> Result<Vec<Placed>, Refused> {
    let mut placed: Vec<Placed> = Vec::with_capacity(table.len() / FIELD);
    let mut taken: Vec<(u32, u32)> = Vec::with_capacity(2 * table.len() / FIELD);
    for (index, entry) in table.chunks_exact(FIELD).enumerate() {
        let refused = |why| Refused::Field {
            index: index as u32,
            why,
        };
        let name = name(&entry[..32]).ok_or(refused("its name is none"))?;
        if placed.iter().any(|other| other.field.name == name) {
            return Err(refused("its name is another's"));
        }
        let unit = text(&entry[32..48], LONGEST_UNIT).and_then(|unit| Unit::new(unit).ok());
        let unit = unit.ok_or(refused("its unit is none"))?;
        let kind = Kind::from_number(u16_at(entry, 48)).ok_or(refused("of no known kind"))?;
        let (offset, words, base) = (u32_at(entry, 52), u32_at(entry, 56), u32_at(entry, 60));
        let words_are_right = match kind {
            Kind::Histogram => (3..=1 + MOST_BUCKETS).contains(&words),
            Kind::Counter | Kind::Gauge | Kind::Max => words == 1,
        };
        if !words_are_right {
            return Err(refused("of a wrong length"));
        }
        let base = (base != NO_BASE).then_some(base);
        if base.is_none() != (kind == Kind::Gauge) {
            return Err(refused("it has to have a base, or must not"));
        }
        for start in [Some(offset), base].into_iter().flatten() {
            let end = start.checked_add(words * 8).filter(|end| *end <= stride);
            let end = end.ok_or(refused("beyond its slot"))?;
            if start % 8 != 0 {
                return Err(refused("not aligned"));
            }
            taken.push((start, end));
        }
        // A reader copies upwards: of a max that is put aside it sees one or the other.
        if base.is_some_and(|base| base < offset) {
            return Err(refused("its base stands before it"));
        }
        placed.push(Placed {
            field: Field {
                name,
                kind,
                unit,
                words,
            },
            offset,
            base,
        });
    }
    taken.sort_unstable();
    if taken.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return Err(Refused::Lengths);
    }
    Ok(placed)
}

/// A text that NULs fill up.
fn text(bytes: &[u8], longest: usize) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let is_filled = bytes[end..].iter().all(|byte| *byte == 0);
    (end <= longest && is_filled)
        .then(|| core::str::from_utf8(&bytes[..end]).ok())
        .flatten()
}

pub(super) fn name(bytes: &[u8]) -> Option<String> {
    text(bytes, LONGEST_NAME)
        .filter(|name| is_name(name.as_bytes()))
        .map(String::from)
}
