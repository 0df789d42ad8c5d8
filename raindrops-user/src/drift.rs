//! Whether `active` has drifted from the number of connections that the kernel has, and what puts it
//! right again.
//!
//! The programs count changes; one that they miss would stay wrong for ever. Now and then all
//! connections are counted, which takes a while, and meanwhile connections come and go: a difference
//! is believed only as far as it exceeds the changes that the programs saw meanwhile, and only when
//! two countings in a row show it. Pure.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    ids::NetnsId,
    snapshot::{BpfSnapshot, ListenerCounts, ListenerKey},
};

/// Listeners on one port of one namespace: a connection does not tell which of them it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub netns: NetnsId,
    pub port: u16,
}

/// What the programs say of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Accepted and established, without corrections.
    pub active: u64,
    /// Rises with every change of any figure.
    pub changes: u64,
    pub listeners: BTreeSet<ListenerKey>,
}

/// What one counting of all connections found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    pub before: BTreeMap<Port, Counted>,
    pub after: BTreeMap<Port, Counted>,
    /// Connections that a process holds.
    pub kernel: BTreeMap<Port, u64>,
}

/// What to add to a listener's figures. Totals never fall by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Correction {
    /// Open connections whose accept the programs missed.
    unseen_accepts: u64,
    /// Connections whose end the programs missed.
    unseen_closes: u64,
    /// Connections of which they missed both.
    unseen: u64,
    /// Late accepts when this was last changed: those found since are no longer unseen.
    late_accepts: u64,
}

impl Correction {
    fn remaining(self, counts: &ListenerCounts) -> u64 {
        let found = counts.late_accepts.saturating_sub(self.late_accepts);
        self.unseen_accepts.saturating_sub(found)
    }

    /// By how much `active` is raised.
    fn of_active(self, counts: &ListenerCounts) -> i64 {
        self.remaining(counts).cast_signed() - self.unseen_closes.cast_signed()
    }

    fn change(&mut self, by: i64, counts: &ListenerCounts) {
        self.unseen_accepts = self.remaining(counts);
        self.late_accepts = counts.late_accepts;
        let amount = by.unsigned_abs();
        let (undone, more) = if by > 0 {
            (&mut self.unseen_closes, &mut self.unseen_accepts)
        } else {
            (&mut self.unseen_accepts, &mut self.unseen_closes)
        };
        let undo = amount.min(*undone);
        *undone -= undo;
        *more += amount - undo;
        self.unseen += undo;
    }

    fn apply(self, counts: &mut ListenerCounts) {
        let open = self.remaining(counts);
        counts.late_accepts += open + self.unseen;
        counts.lifetime_unknown += self.unseen_closes + self.unseen;
        counts.unattributed += open + self.unseen_closes;
        counts.complete &= self.unseen_accepts + self.unseen_closes + self.unseen == 0;
    }
}

/// Remembers what countings have shown.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    /// Differences that wait for a second counting.
    suspected: BTreeMap<Port, i64>,
    corrections: BTreeMap<ListenerKey, Correction>,
    /// Differences of ports with several listeners.
    divided: BTreeMap<Port, i64>,
    corrected: u64,
}

impl Drift {
    /// Takes in a counting; `bpf` is what `after` was taken from.
    pub fn counted(&mut self, counting: &Counting, bpf: &BpfSnapshot) {
        let suspected = std::mem::take(&mut self.suspected);
        self.divided
            .retain(|port, _| counting.after.contains_key(port));
        for (port, after) in &counting.after {
            let Some(before) = counting.before.get(port) else {
                continue;
            };
            if before.listeners != after.listeners {
                continue;
            }
            let kernel = counting.kernel.get(port).copied().unwrap_or(0);
            let corrected = before.active.cast_signed() + self.standing(before, bpf);
            let changes = after.changes.wrapping_sub(before.changes).cast_signed();
            let off = beyond(kernel.cast_signed() - corrected, changes);
            if off == 0 {
                if changes == 0 {
                    self.divided.remove(port);
                }
                continue;
            }
            match suspected.get(port) {
                Some(first) if first.signum() == off.signum() => {
                    let sure = off.signum() * off.abs().min(first.abs());
                    self.correct(*port, after, sure, bpf);
                }
                _ => {
                    self.suspected.insert(*port, off);
                }
            }
        }
    }

    /// Whether something is to be looked at again soon.
    #[must_use]
    pub fn suspects(&self) -> bool {
        !self.suspected.is_empty()
    }

    /// Connections by which figures have been put right since the start.
    #[must_use]
    pub const fn corrected(&self) -> u64 {
        self.corrected
    }

    /// Connections by which figures of listeners that share a port are wrong now.
    #[must_use]
    pub fn uncorrected(&self) -> u64 {
        self.divided.values().map(|off| off.unsigned_abs()).sum()
    }

    /// Puts the figures right.
    pub fn apply(&mut self, bpf: &mut BpfSnapshot) {
        self.corrections
            .retain(|key, _| bpf.listeners.contains_key(key));
        for (key, correction) in &self.corrections {
            if let Some(counts) = bpf.listeners.get_mut(key) {
                correction.apply(counts);
            }
        }
    }

    fn standing(&self, counted: &Counted, bpf: &BpfSnapshot) -> i64 {
        counted
            .listeners
            .iter()
            .filter_map(|key| {
                let counts = bpf.listeners.get(key)?;
                Some(self.corrections.get(key)?.of_active(counts))
            })
            .sum()
    }

    fn correct(&mut self, port: Port, counted: &Counted, by: i64, bpf: &BpfSnapshot) {
        let mut listeners = counted.listeners.iter();
        if let (Some(key), None) = (listeners.next(), listeners.next()) {
            if let Some(counts) = bpf.listeners.get(key) {
                self.corrections.entry(*key).or_default().change(by, counts);
                self.corrected += by.unsigned_abs();
            }
        } else {
            self.divided.insert(port, by);
        }
    }
}

/// What is left of a difference that this many changes may explain.
fn beyond(difference: i64, changes: i64) -> i64 {
    match difference.cmp(&0) {
        Ordering::Greater => (difference - changes).max(0),
        Ordering::Less => (difference + changes).min(0),
        Ordering::Equal => 0,
    }
}

#[cfg(test)]
mod tests;
