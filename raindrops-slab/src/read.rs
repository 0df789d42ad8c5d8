//! What a copy of a slab's bytes says.
//!
//! A slot may change hands while it is copied. So the owners are copied before the values and again
//! after them: whose entry is the same both times had the slot throughout. Totals of what is kept
//! need no owner at all and are right in any case.

use alloc::{string::String, vec, vec::Vec};
use core::sync::atomic::{Ordering, fence};

use crate::{
    claim::{CONTROL, Control, Occupant, Owner, STARTED},
    field::Kind,
    layout::{Layout, OWNER, Placed, u64_at},
};

/// Copies of the changing parts, kept from one reading to the next.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    before: Vec<u8>,
    values: Vec<u8>,
    after: Vec<u8>,
}

impl Reading {
    /// Copies owners, values and owners again. `copy` fills a buffer from an offset of the slab; it
    /// is called for ranges that `layout` has and no others. What it reads, it has to read in
    /// ascending order: words of mapped memory with acquire.
    ///
    /// # Errors
    /// That of `copy`.
    pub fn take<E>(
        &mut self,
        layout: &Layout,
        mut copy: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let count = layout.slot_count() as usize;
        self.before.resize(count * OWNER, 0);
        self.after.resize(count * OWNER, 0);
        self.values.resize(count * layout.stride(), 0);
        copy(layout.owners(), &mut self.before)?;
        fence(Ordering::Acquire);
        copy(layout.slots(), &mut self.values)?;
        fence(Ordering::Acquire);
        copy(layout.owners(), &mut self.after)
    }

    /// The slots of this reading, which must be of this layout.
    pub fn slots<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = SlotReading<'a>> {
        let owners = self
            .before
            .chunks_exact(OWNER)
            .zip(self.after.chunks_exact(OWNER));
        let values = self.values.chunks_exact(layout.stride());
        owners
            .zip(values)
            .map(|((before, after), values)| SlotReading {
                occupant: (before == after).then(|| occupant(before)),
                values,
            })
    }

    /// All slots together. `is_live` says which owners count in gauges.
    #[must_use]
    pub fn totals(&self, layout: &Layout, is_live: impl Fn(Owner) -> bool) -> Totals {
        let mut totals = Totals::zero(layout);
        let live: Vec<bool> = self
            .slots(layout)
            .map(|slot| slot.owner().is_some_and(&is_live))
            .collect();
        // Field by field: what to do is decided once for all slots.
        for (placed, (_, total)) in layout.fields().iter().zip(&mut totals.values) {
            let slots = self.values.chunks_exact(layout.stride());
            total.add_slots(placed, slots.zip(live.iter().copied()));
        }
        totals
    }
}

fn occupant(entry: &[u8]) -> Occupant {
    let control = Control(u64_at(entry, CONTROL));
    match control.pid() {
        0 => Occupant::Nobody,
        pid if control.is_live() => Occupant::Owner(Owner {
            pid,
            started: u64_at(entry, STARTED),
        }),
        pid => Occupant::Preparing(pid),
    }
}

/// One slot of a reading.
#[derive(Clone, Copy, Debug)]
pub struct SlotReading<'a> {
    /// `None` when it changed hands meanwhile.
    pub occupant: Option<Occupant>,
    values: &'a [u8],
}

impl SlotReading<'_> {
    /// Who had it throughout.
    #[must_use]
    pub const fn owner(&self) -> Option<Owner> {
        match self.occupant {
            Some(Occupant::Owner(owner)) => Some(owner),
            _ => None,
        }
    }

    /// What its owner has counted; means nothing where there is none.
    #[must_use]
    #[inline]
    pub fn own(&self, placed: &Placed) -> Value {
        let since_base = |word| {
            let value = self.word(placed.offset, word);
            value.wrapping_sub(placed.base.map_or(0, |base| self.word(base, word)))
        };
        match placed.field.kind {
            Kind::Counter => Value::Counter(since_base(0)),
            Kind::Gauge => Value::Gauge(self.word(placed.offset, 0).cast_signed()),
            Kind::Max => Value::Max(self.word(placed.offset, 0)),
            Kind::Histogram => Value::Histogram {
                sum: since_base(0),
                buckets: (1..placed.field.words as usize).map(since_base).collect(),
            },
        }
    }

    #[inline]
    fn word(&self, offset: u32, word: usize) -> u64 {
        u64_at(self.values, offset as usize + word * 8)
    }
}

/// What a field says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Counter(u64),
    Gauge(i64),
    Max(u64),
    Histogram { sum: u64, buckets: Vec<u64> },
}

impl Value {
    fn zero(placed: &Placed) -> Self {
        match placed.field.kind {
            Kind::Counter => Self::Counter(0),
            Kind::Gauge => Self::Gauge(0),
            Kind::Max => Self::Max(0),
            Kind::Histogram => Self::Histogram {
                sum: 0,
                buckets: vec![0; placed.field.words as usize - 1],
            },
        }
    }

    /// Adds what slots have for a total: all that was ever counted in them, and the gauges of owners
    /// that live.
    fn add_slots<'a>(&mut self, placed: &Placed, slots: impl Iterator<Item = (&'a [u8], bool)>) {
        let offset = placed.offset as usize;
        match self {
            Self::Counter(total) => {
                for (slot, _) in slots {
                    *total = total.wrapping_add(u64_at(slot, offset));
                }
            }
            Self::Gauge(total) => {
                for (slot, _) in slots.filter(|(_, is_live)| *is_live) {
                    *total = total.wrapping_add(u64_at(slot, offset).cast_signed());
                }
            }
            Self::Max(total) => {
                let base = placed.base.unwrap_or(placed.offset) as usize;
                for (slot, _) in slots {
                    *total = u64_at(slot, offset).max(u64_at(slot, base)).max(*total);
                }
            }
            Self::Histogram { sum, buckets } => {
                for (slot, _) in slots {
                    *sum = sum.wrapping_add(u64_at(slot, offset));
                    for (count, word) in buckets.iter_mut().zip(slot[offset + 8..].chunks_exact(8))
                    {
                        *count = count.wrapping_add(u64_at(word, 0));
                    }
                }
            }
        }
    }
}

/// The fields of a slab, in their order, over all slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    pub values: Vec<(String, Value)>,
}

impl Totals {
    fn zero(layout: &Layout) -> Self {
        let zero = |placed: &Placed| (placed.field.name.clone(), Value::zero(placed));
        Self {
            values: layout.fields().iter().map(zero).collect(),
        }
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let found = self.values.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value)
    }

    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Counter(count) => Some(*count),
            _ => None,
        }
    }

    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Gauge(level) => Some(*level),
            _ => None,
        }
    }

    #[must_use]
    pub fn max(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Max(max) => Some(*max),
            _ => None,
        }
    }
}
