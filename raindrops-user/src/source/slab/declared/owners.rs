//! Whose slots a slab's are: pure.
//!
//! A slot names its owner by the pid in the slab's own pid namespace and by its start. That is a
//! claim, which anybody who may write the file can write for anybody. It counts if a process of this
//! name exists and has this memory mapped.

use std::collections::BTreeMap;

use raindrops_slab::{Layout, Reading, Totals, claim::Owner, read::Value};

use super::add;
use crate::ids::{Pid, StartTicks};

/// A process that has the slab's memory mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub pid: Pid,
    pub started: StartTicks,
    /// Its pid in its innermost pid namespace, and that namespace's inode.
    pub ns_pid: Pid,
    pub pid_namespace: u32,
}

/// What a slab says, as far as its owners are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub totals: Totals,
    /// Figures of each worker, in the order of the fields.
    pub workers: BTreeMap<(Pid, StartTicks), Vec<Value>>,
    /// Slots that somebody says are his.
    pub claimed: u32,
    /// Those of them whose owner does not exist, or does not have the slab mapped.
    pub ownerless: u32,
}

/// Gives each slot to the one of `candidates` that its owner names.
#[must_use]
pub fn claims(layout: &Layout, reading: &Reading, candidates: &[Candidate]) -> Claims {
    let namespace = layout.origin().pid_namespace;
    let by_name: BTreeMap<Owner, &Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.pid_namespace == namespace)
        .map(|candidate| {
            let owner = Owner {
                pid: candidate.ns_pid.0,
                started: candidate.started.0,
            };
            (owner, candidate)
        })
        .collect();
    let mut workers: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    let (mut claimed, mut ownerless) = (0, 0);
    for slot in reading.slots(layout) {
        let Some(owner) = slot.owner() else {
            continue;
        };
        claimed += 1;
        let Some(candidate) = by_name.get(&owner) else {
            ownerless += 1;
            continue;
        };
        let own = layout.fields().iter().map(|placed| slot.own(placed));
        workers
            .entry((candidate.pid, candidate.started))
            .and_modify(|values| {
                for (to, value) in values.iter_mut().zip(own.clone()) {
                    add(to, &value);
                }
            })
            .or_insert_with(|| own.collect());
    }
    Claims {
        totals: reading.totals(layout, |owner| by_name.contains_key(&owner)),
        workers,
        claimed,
        ownerless,
    }
}
