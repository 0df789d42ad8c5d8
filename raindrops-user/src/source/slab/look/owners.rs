//! Who the owners are that a slab names: processes that have to do with a listener, and strangers.
//!
//! A slab may name anybody, so that looking for strangers is bounded: at each look in time, and in
//! all in number. Whoever was not looked for is unknown, and not nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use raindrops_slab::{Layout, claim::Owner};

use super::{
    Looker,
    process::{FIRST_PAUSE, Known, LAST_PAUSE},
};
use crate::{
    ids::{Monotonic, Pid, StartTicks},
    snapshot::slabs::{Memory, Suspect},
    source::{proc, slab::declared::Judged},
};

/// Strangers that are known at one time, and those of one slab.
const STRANGERS: usize = 4096;
const OF_ONE_SLAB: usize = 256;
/// How long strangers are looked for at one look.
const TIME: Duration = Duration::from_millis(2);

impl Looker {
    /// The owners of the slab that was copied last.
    pub(super) fn owners(
        &mut self,
        memory: Memory,
        layout: &Layout,
        suspects: &BTreeMap<Pid, Suspect>,
        quarantined: &BTreeSet<Pid>,
    ) -> BTreeMap<Owner, Judged> {
        let namespace = layout.origin().pid_namespace;
        let slots = self.reading.slots(layout);
        let named: BTreeSet<Owner> = slots.filter_map(|slot| slot.owner()).collect();
        let known = self.of_suspects(memory, namespace, suspects);
        let is_own_namespace = self.own_namespace == Some(namespace);
        let mut strangers = 0;
        named
            .into_iter()
            .map(|owner| {
                let judged = match known.get(&owner) {
                    Some(judged) => *judged,
                    None if !is_own_namespace || strangers >= OF_ONE_SLAB => Judged::Unknown,
                    None => {
                        strangers += 1;
                        self.stranger(memory, owner, quarantined)
                    }
                };
                (owner, judged)
            })
            .collect()
    }

    /// Of the processes that have to do with a listener, those that have the slab mapped, by the
    /// names that they have in its pid namespace.
    fn of_suspects(
        &self,
        memory: Memory,
        namespace: u32,
        suspects: &BTreeMap<Pid, Suspect>,
    ) -> BTreeMap<Owner, Judged> {
        let has_it = self.processes.iter().filter(|(_, known)| {
            known.pid_namespace == Some(namespace) && known.maps(memory).is_some()
        });
        has_it
            .filter_map(|(pid, known)| {
                let owner = Owner {
                    pid: suspects.get(pid)?.ns_pid?.0,
                    started: known.started.0,
                };
                Some((owner, Judged::Is(*pid, known.started)))
            })
            .collect()
    }

    /// A process of the daemon's own pid namespace.
    fn stranger(&mut self, memory: Memory, owner: Owner, quarantined: &BTreeSet<Pid>) -> Judged {
        let (pid, started) = (Pid(owner.pid), StartTicks(owner.started));
        let now = Monotonic::now();
        let has_room = self.strangers.len() < STRANGERS;
        let has_time = self.strangers_time < TIME && !self.watch.stopped();
        let is_due = self
            .strangers
            .get(&owner)
            .is_none_or(|known| known.due <= now);
        if is_due && has_time && (has_room || self.strangers.contains_key(&owner)) {
            self.watch.begin(pid);
            let is_there = proc::started(pid) == Some(started);
            self.watch.end();
            if !is_there {
                self.strangers.remove(&owner);
                self.strangers_time += Monotonic::now().since(now);
                return Judged::Nobody;
            }
            if quarantined.contains(&pid) {
                return Judged::Unknown;
            }
            let stranger = self
                .strangers
                .entry(owner)
                .or_insert_with(|| Known::new(started));
            self.watch.begin(pid);
            stranger.read(pid, now);
            self.watch.end();
            stranger.due = Monotonic(now.0 + FIRST_PAUSE);
            self.strangers_time += Monotonic::now().since(now);
        }
        match self.strangers.get(&owner) {
            Some(known) if known.is_readable && known.maps(memory).is_some() => {
                Judged::Is(pid, started)
            }
            Some(known) if known.is_readable => Judged::Nobody,
            _ => Judged::Unknown,
        }
    }

    /// Forgets who was not named for a while.
    pub(super) fn forget_strangers(&mut self, now: Monotonic) {
        self.strangers_time = Duration::ZERO;
        self.strangers
            .retain(|_, stranger| now.since(stranger.due) < LAST_PAUSE);
    }
}
