//! What samples of queues add up to: peaks, totals of drops, and which drops were overflows.
//!
//! Separate from the sources because it remembers, and from the view because it must see every
//! sample, also those that nobody asks to see. Pure: time and counters come with the samples; no
//! I/O and no clock. Which listener an overflow belongs to is decided in `attribution`.

mod attribution;
mod entry;
mod recent;

use std::{
    collections::{BTreeMap, btree_map},
    time::{Duration, SystemTime},
};

use self::{
    attribution::{Claim, Interval, attribute},
    entry::Entry,
};
use crate::{
    address::Address,
    ids::{Inode, Monotonic, NetnsId},
    snapshot::{ListenerKey, QueuePeak, QueueSnapshot},
};

/// How long a listener is remembered that is missing from dumps which may be incomplete.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a sample covers: a listener of this scope that it lacks is gone, any other is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    pub netns: NetnsId,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Unix,
}

impl Protocol {
    const fn of(address: &Address) -> Self {
        match address {
            Address::Tcp { .. } => Self::Tcp,
            Address::Unix(_) => Self::Unix,
        }
    }
}

/// What is known of one listener's queue from all samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueHistory {
    /// Longest queue since the first sample or the last reset.
    pub peak: Option<u32>,
    pub peak_at: Option<SystemTime>,
    /// No arrival of a connection went unseen: the peak is not only that of the samples.
    pub peak_exact: bool,
    /// Since when every sample found it longer than its limit; `None` while it is not.
    pub full_since: Option<SystemTime>,
    /// Since when every sample found connections in it.
    pub waiting_since: Option<SystemTime>,
    /// Segments dropped because the queue was full, since the first sample. `None` while the
    /// namespace's counter or the listener's drops are not known, and for unix.
    pub overflows: Option<u64>,
    /// No overflow had to be guessed between several listeners.
    pub overflows_exact: bool,
    pub last_overflow: Option<SystemTime>,
    /// `Some(true)` once drops rose that were no overflows while the queue was not full.
    pub defer_accept: Option<bool>,
    /// `sk_drops` without its wrap; what wrapped before the first sample is lost.
    pub drops_total: Option<u64>,
    /// Longest queue of the last ten seconds.
    pub recent_peak: Option<u32>,
    /// Overflows of the last ten seconds.
    pub recent_overflows: Option<u64>,
}

/// Folds samples into a history for each listener. Forgets listeners that are gone.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    domains: BTreeMap<Scope, Domain>,
}

impl Ledger {
    /// Takes in the listeners of `scope` in `sample`; others are left alone. `overflows_counter` is
    /// the namespace's ListenOverflows, read after the sample was taken.
    pub fn fold(
        &mut self,
        scope: Scope,
        sample: &QueueSnapshot,
        wall: SystemTime,
        overflows_counter: Option<u64>,
    ) {
        let counter = match scope.protocol {
            Protocol::Tcp => overflows_counter,
            // The counter is TCP's.
            Protocol::Unix => None,
        };
        let domain = self.domains.entry(scope).or_default();
        domain.fold(scope, sample, wall);
        domain.settle(counter, sample.taken, wall);
    }

    /// History of a listener that was in the last sample of its scope.
    #[must_use]
    pub fn get(&self, key: &ListenerKey) -> Option<&QueueHistory> {
        let ListenerKey { netns, inode } = *key;
        [Protocol::Tcp, Protocol::Unix]
            .into_iter()
            .find_map(|protocol| self.domains.get(&Scope { netns, protocol })?.get(inode))
    }

    /// Takes in how long queues were when connections arrived; a sample sees only what is left of
    /// that. `arrivals` has every listener whose arrivals were all seen since the last call.
    pub fn note_arrivals(
        &mut self,
        arrivals: &BTreeMap<ListenerKey, Option<QueuePeak>>,
        now: Monotonic,
        wall: SystemTime,
    ) {
        for (scope, domain) in &mut self.domains {
            for (inode, entry) in &mut domain.entries {
                let key = ListenerKey {
                    netns: scope.netns,
                    inode: *inode,
                };
                match arrivals.get(&key) {
                    Some(longest) => entry.arrivals_seen(*longest, now, wall),
                    None => entry.arrivals_unseen(),
                }
            }
        }
    }

    /// Longest queue since the last [`Ledger::begin_step`].
    #[must_use]
    pub fn step_peak(&self, key: &ListenerKey) -> Option<u32> {
        let ListenerKey { netns, inode } = *key;
        let domains = self
            .domains
            .iter()
            .filter(|(scope, _)| scope.netns == netns);
        domains
            .filter_map(|(_, domain)| domain.entries.get(&inode))
            .find_map(|entry| entry.step_peak)
    }

    /// Begins a step of the history, with the queues of the last sample.
    pub fn begin_step(&mut self) {
        for domain in self.domains.values_mut() {
            for entry in domain.entries.values_mut() {
                entry.step_peak = entry.queued;
            }
        }
    }

    /// Forgets peaks but for the queues of the last sample. Totals stay.
    pub fn reset_peaks(&mut self) {
        for domain in self.domains.values_mut() {
            for entry in domain.entries.values_mut() {
                entry.forget_peak(domain.wall);
            }
        }
    }

    /// Forgets the namespaces that are gone: nothing samples them any more.
    pub fn retain_namespaces(&mut self, mut alive: impl FnMut(NetnsId) -> bool) {
        self.domains.retain(|scope, _| alive(scope.netns));
    }
}

/// The listeners of one scope.
#[derive(Clone, Debug, Default)]
struct Domain {
    entries: BTreeMap<Inode, Entry>,
    /// Number of samples so far.
    generation: u64,
    /// Whether the last sample was complete.
    complete: bool,
    /// Time of the last sample.
    wall: Option<SystemTime>,
    /// ListenOverflows where the running interval begins.
    counter: Option<u64>,
    /// Its last rise, and the part of it that belonged to nobody yet.
    risen: u64,
    carried: u64,
    /// What happened in the running interval: since the counter was last known.
    lost: Lost,
    /// The same of the interval before.
    lost_before: Lost,
}

/// What makes the figures of an interval doubtful.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    /// Listeners went, and what they dropped at last is not known.
    listener: bool,
    /// One of them was full.
    full_listener: bool,
    /// A sample may have lacked some.
    interrupted: bool,
}

impl Lost {
    fn take_note(&mut self, gone: &Entry) {
        self.listener = true;
        self.full_listener |= gone.interval.full;
    }

    const fn anything(self) -> bool {
        self.listener || self.full_listener || self.interrupted
    }
}

impl Domain {
    fn get(&self, inode: Inode) -> Option<&QueueHistory> {
        let entry = self.entries.get(&inode)?;
        (entry.generation == self.generation || !self.complete).then_some(&entry.history)
    }

    fn fold(&mut self, scope: Scope, sample: &QueueSnapshot, wall: SystemTime) {
        let QueueSnapshot {
            began: _,
            taken,
            source: _,
            interrupted,
            ref listeners,
        } = *sample;
        // Whether a listener that was not seen before is new. In the first sample, and where the
        // last one may have lacked it, it may be old, and what it dropped before is not counted.
        let knows_all = self.generation > 0 && self.complete;
        self.generation += 1;
        self.complete = !interrupted;
        self.wall = Some(wall);
        self.lost.interrupted |= interrupted;
        for (key, socket) in listeners {
            if key.netns != scope.netns || Protocol::of(&socket.address) != scope.protocol {
                continue;
            }
            let entry = match self.entries.entry(key.inode) {
                btree_map::Entry::Vacant(new) => new.insert(Entry::new(knows_all)),
                btree_map::Entry::Occupied(known) => {
                    let entry = known.into_mut();
                    if !entry.is_of(socket.cookie) {
                        self.lost.take_note(entry);
                        *entry = Entry::new(knows_all);
                    }
                    entry
                }
            };
            entry.generation = self.generation;
            entry.observe(socket, taken, wall);
        }
        self.forget_vanished(taken);
    }

    /// A listener that one sample lacks stays for another, because the kernel skips one now and then
    /// when its table changes between two parts of a dump.
    fn forget_vanished(&mut self, taken: Monotonic) {
        let generation = self.generation;
        let complete = self.complete;
        let lost = &mut self.lost;
        self.entries.retain(|_, entry| {
            let missed = generation - entry.generation;
            if missed == 0 {
                return true;
            }
            if !complete {
                return taken.since(entry.seen) < PATIENCE;
            }
            if !entry.missing {
                entry.missing = true;
                lost.take_note(entry);
            }
            missed == 1
        });
    }

    /// Ends the interval where the counter is known, else lets it run on into the next sample.
    fn settle(&mut self, counter: Option<u64>, taken: Monotonic, wall: SystemTime) {
        if let Some(now) = counter {
            let risen = self.counter.and_then(|before| now.checked_sub(before));
            let carried = risen.map(|risen| self.award(risen, taken, wall));
            let present = self.generation;
            for entry in self.entries.values_mut() {
                if entry.generation == present {
                    entry.begin_interval();
                }
            }
            self.carried = carried.unwrap_or(0);
            self.risen = risen.unwrap_or(0);
            self.counter = Some(now);
            self.lost_before = std::mem::take(&mut self.lost);
        }
        for entry in self.entries.values_mut() {
            entry.publish(counter.is_some(), taken);
        }
    }

    /// Gives the rise of the counter to listeners, and returns what may still belong to drops that
    /// the next sample shows.
    fn award(&mut self, risen: u64, taken: Monotonic, wall: SystemTime) -> u64 {
        let interval = Interval {
            risen,
            carried: self.carried,
            risen_before: self.risen,
            full_listener_lost: self.lost.full_listener,
            whole: !self.lost.anything() && !self.lost_before.anything(),
        };
        let generation = self.generation;
        if risen == 0 && self.carried == 0 {
            let mut present = self
                .entries
                .values()
                .filter(|it| it.generation == generation);
            if present.all(|entry| entry.interval.claims_nothing()) {
                return 0;
            }
        }
        let present = |entry: &&mut Entry| entry.generation == generation;
        let claims: Vec<Claim> = self
            .entries
            .values_mut()
            .filter(present)
            .map(|entry| entry.interval)
            .collect();
        let (awards, unassigned) = attribute(&claims, interval);
        for (entry, award) in self.entries.values_mut().filter(present).zip(awards) {
            entry.take(award, taken, wall);
        }
        // It may have been of the listener that is gone, and would be blamed on another.
        if self.lost.listener { 0 } else { unassigned }
    }
}

#[cfg(test)]
mod tests;
