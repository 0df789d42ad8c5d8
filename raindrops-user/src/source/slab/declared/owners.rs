//! Whose slots a slab's are: pure.
//!
//! A slot names its owner by the pid in the slab's own pid namespace and by its start. That is a
//! claim, which anybody who may write the file can write for anybody. It counts if a process of this
//! name exists and has this memory mapped.

use std::collections::BTreeMap;

use raindrops_slab::{Layout, Reading, Totals, claim::Owner, read::Value};

use super::add;
use crate::ids::{Pid, StartTicks};

/// Who the owner is that a slot names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// This process, which has the slab mapped.
    Is(Pid, StartTicks),
    /// It has ended, or does not have the slab mapped.
    Nobody,
    /// It cannot be told whether it lives.
    Unknown,
}

/// What a slab says, as far as its owners are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Gauges are those of known owners: they mean nothing while some are unknown.
    pub totals: Totals,
    /// Figures of each worker, in the order of the fields.
    pub workers: BTreeMap<(Pid, StartTicks), Vec<Value>>,
    /// Slots that somebody says are his.
    pub claimed: u32,
    /// Those of them that are nobody's.
    pub ownerless: u32,
    /// Those of which that is not known.
    pub unknown: u32,
}

/// Gives each slot to the process that its owner is.
#[must_use]
pub fn claims(layout: &Layout, reading: &Reading, judge: impl Fn(Owner) -> Judged) -> Claims {
    let mut workers: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    let (mut claimed, mut ownerless, mut unknown) = (0, 0, 0);
    for slot in reading.slots(layout) {
        let Some(owner) = slot.owner() else {
            continue;
        };
        claimed += 1;
        let worker = match judge(owner) {
            Judged::Is(pid, started) => (pid, started),
            Judged::Nobody => {
                ownerless += 1;
                continue;
            }
            Judged::Unknown => {
                unknown += 1;
                continue;
            }
        };
        let own = layout.fields().iter().map(|placed| slot.own(placed));
        workers
            .entry(worker)
            .and_modify(|values| {
                for (to, value) in values.iter_mut().zip(own.clone()) {
                    add(to, &value);
                }
            })
            .or_insert_with(|| own.collect());
    }
    let is_live = |owner| matches!(judge(owner), Judged::Is(..));
    Claims {
        totals: reading.totals(layout, is_live),
        workers,
        claimed,
        ownerless,
        unknown,
    }
}
