//! Whether `active` has drifted from the number of connections that the kernel has.
//!
//! The programs count changes; one that they miss would stay wrong for ever. Now and then all
//! connections are counted, which takes a while, and meanwhile connections come and go: a difference
//! is believed only as far as it exceeds the changes that the programs saw meanwhile, and only when
//! two countings in a row show it. Pure.
//!
//! Figures are not put right by it: a connection does not tell whether it was accepted, nor on which
//! listener. Those of a transparent proxy have other addresses than its listener, and a socket may
//! connect from a port on which another listens.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    ids::NetnsId,
    snapshot::{BpfSnapshot, ListenerKey},
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
    /// Accepted and established.
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

/// Remembers what countings have shown.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    /// Differences that wait for a second counting.
    suspected: BTreeMap<Port, i64>,
    differing: BTreeMap<Port, Difference>,
}

/// By how much the kernel has more connections than are `active`, or fewer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Difference {
    connections: i64,
    listeners: BTreeSet<ListenerKey>,
}

impl Counting {
    /// Whether none of the kernel's connections on any of the ports is missing from `active`, but for
    /// what changed meanwhile. Of a port that could not be compared that is not known.
    #[must_use]
    pub fn lacks_none(&self) -> bool {
        self.before.iter().all(|(port, before)| {
            let Some(after) = self.after.get(port) else {
                return false;
            };
            let kernel = self.kernel.get(port).copied().unwrap_or(0);
            let difference = kernel.cast_signed() - before.active.cast_signed();
            let changes = after.changes.wrapping_sub(before.changes).cast_signed();
            before.listeners == after.listeners && beyond(difference, changes) <= 0
        })
    }
}

impl Drift {
    /// Takes in a counting.
    pub fn counted(&mut self, counting: &Counting) {
        let suspected = std::mem::take(&mut self.suspected);
        self.differing
            .retain(|port, _| counting.after.contains_key(port));
        for (port, after) in &counting.after {
            let Some(before) = counting.before.get(port) else {
                continue;
            };
            if before.listeners != after.listeners {
                continue;
            }
            let kernel = counting.kernel.get(port).copied().unwrap_or(0);
            let difference = kernel.cast_signed() - before.active.cast_signed();
            let changes = after.changes.wrapping_sub(before.changes).cast_signed();
            let off = beyond(difference, changes);
            match suspected.get(port).filter(|it| it.signum() == off.signum()) {
                _ if off == 0 => {
                    self.differing.remove(port);
                }
                Some(first) => {
                    let connections = off.signum() * off.abs().min(first.abs());
                    let listeners = after.listeners.clone();
                    self.suspected.insert(*port, off);
                    self.differing.insert(
                        *port,
                        Difference {
                            connections,
                            listeners,
                        },
                    );
                }
                None => {
                    self.suspected.insert(*port, off);
                }
            }
        }
    }

    /// Whether something is to be looked at again soon.
    #[must_use]
    pub fn suspects(&self) -> bool {
        let known = |port| self.differing.contains_key(port);
        !self.suspected.keys().all(known)
    }

    /// By how many connections each port differs: positive where the kernel has more.
    pub fn differing(&self) -> impl Iterator<Item = (Port, i64)> {
        let differing = self.differing.iter();
        differing.map(|(port, difference)| (*port, difference.connections))
    }

    /// Marks the listeners that differ.
    pub fn mark(&self, bpf: &mut BpfSnapshot) {
        for key in self.differing.values().flat_map(|it| &it.listeners) {
            if let Some(counts) = bpf.listeners.get_mut(key) {
                counts.complete = false;
            }
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
