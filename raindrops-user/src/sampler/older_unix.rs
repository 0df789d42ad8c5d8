//! Unix connections that are older than the programs, and unread since: they are in no gauge.
//!
//! Apart from the programs' own counts because nothing tells the programs of these before they are read:
//! they are known by the inodes that the first dump of their namespace lists. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::replace,
};

use crate::{
    ids::{Inode, Monotonic, NetnsId},
    snapshot::{ListenerKey, TurnsSnapshot, UnixActiveSnapshot},
};

#[derive(Debug, Default)]
pub(super) struct OlderUnix {
    /// When the last dump of each namespace was taken, and whether it or an earlier one was complete.
    dumps: BTreeMap<NetnsId, (Monotonic, bool)>,
    listeners: BTreeMap<ListenerKey, Older>,
}

#[derive(Debug, Default)]
struct Older {
    /// There were so many.
    all: u64,
    /// Those that have not ended.
    open: BTreeSet<Inode>,
    /// Connections in the last dump, whatever their age.
    listed: u64,
    /// The last look, and accepts until then.
    looked: Option<(Monotonic, u64)>,
}

impl OlderUnix {
    /// Takes in a dump, which `is_complete` when nothing can be missing.
    pub(super) fn note(&mut self, netns: NetnsId, dump: &UnixActiveSnapshot, is_complete: bool) {
        let earlier = self.dumps.get(&netns).copied();
        if earlier.is_some_and(|(taken, _)| taken == dump.taken) {
            return;
        }
        let is_learnt = earlier.is_some_and(|(_, is_learnt)| is_learnt);
        self.dumps
            .insert(netns, (dump.taken, is_learnt || is_complete));
        if !is_learnt {
            for (key, sockets) in dump.active.iter().filter(|(_, it)| !it.is_empty()) {
                let older = self.listeners.entry(*key).or_default();
                older.open.extend(sockets);
                older.listed = sockets.len() as u64;
                older.all = older.open.len() as u64;
            }
        } else if is_complete {
            self.listeners.retain(|key, older| {
                if key.netns != netns {
                    return true;
                }
                let open = dump.active.get(key).map_or(&[][..], Vec::as_slice);
                let open: BTreeSet<Inode> = open.iter().copied().collect();
                older.listed = open.len() as u64;
                older.open.retain(|inode| open.contains(inode));
                !older.open.is_empty()
            });
        }
    }

    /// Forgets all namespaces but these: of one that comes back, all connections may be older.
    pub(super) fn keep(&mut self, namespaces: &BTreeSet<NetnsId>) {
        self.dumps.retain(|netns, _| namespaces.contains(netns));
        self.listeners
            .retain(|key, _| namespaces.contains(&key.netns));
    }

    /// Listeners of which such connections may still be open, by how many were read, and by whether all
    /// that the last dump lists are followed. `accepts`: of a listener, until now.
    pub(super) fn unread(
        &mut self,
        turns: &TurnsSnapshot,
        accepts: impl Fn(&ListenerKey) -> Option<u64>,
    ) -> BTreeSet<ListenerKey> {
        let dumps = &self.dumps;
        self.listeners.retain(|key, older| {
            let read = turns.listeners.get(key).map_or(0, |it| it.seeds_settled);
            let is_new = older.looked.is_none_or(|(last, _)| last != turns.looked);
            let now = accepts(key).map(|accepts| (turns.looked, accepts));
            let before = if is_new {
                replace(&mut older.looked, now)
            } else {
                None
            };
            let has_all = match (before, dumps.get(&key.netns), now) {
                // What is compared are the same connections, less those that ended.
                (Some((last, before)), Some((dump, _)), Some((looked, accepts))) => {
                    (last..looked).contains(dump)
                        && before == accepts
                        && turns.is_whole
                        && followed(turns, key) >= older.listed
                }
                _ => false,
            };
            read < older.all && !has_all
        });
        self.listeners.keys().copied().collect()
    }
}

/// Connections of a listener that the look found.
fn followed(turns: &TurnsSnapshot, key: &ListenerKey) -> u64 {
    let of_workers = turns
        .workers
        .iter()
        .filter(|(worker, _)| worker.listener == *key);
    let of_workers: u64 = of_workers.map(|(_, it)| it.found.connections).sum();
    let of_none = turns.listeners.get(key);
    of_workers + of_none.map_or(0, |it| it.of_no_worker.connections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{snapshot::ListenerTurnCounts, turns::Found};

    const NETNS: NetnsId = NetnsId(1);

    const fn key(netns: NetnsId) -> ListenerKey {
        ListenerKey {
            netns,
            inode: Inode(7),
        }
    }

    fn dump(second: u64, netns: NetnsId, open: &[u64]) -> UnixActiveSnapshot {
        UnixActiveSnapshot {
            taken: Monotonic::from_nanos(second * 1_000_000_000),
            active: [(key(netns), open.iter().copied().map(Inode).collect())].into(),
        }
    }

    /// Of a look half a second after the second, that has found so many connections, and what was read
    /// until then.
    fn turns(second: u64, connections: u64, read: u64) -> TurnsSnapshot {
        let counts = ListenerTurnCounts {
            seeds_settled: read,
            of_no_worker: Found {
                connections,
                ..Found::NONE
            },
            ..ListenerTurnCounts::NONE
        };
        TurnsSnapshot {
            looked: Monotonic::from_nanos(second * 1_000_000_000 + 500_000_000),
            is_whole: true,
            ends_seen: true,
            waits_known: true,
            listeners: [(key(NETNS), counts)].into(),
            workers: BTreeMap::new(),
            seen_in_part: BTreeSet::new(),
            hidden_in_part: BTreeSet::new(),
            with_older: BTreeSet::new(),
            threads: BTreeMap::new(),
        }
    }

    /// Dumps, each with whether it was complete, and how many were read then.
    #[test]
    fn connections_of_the_first_dump_are_missing_until_they_are_read_or_have_ended() {
        type Step<'a> = (&'a [u64], bool, u64);
        let cases: [(&str, &[Step<'_>], bool); 8] = [
            ("none", &[(&[], true, 0)], false),
            ("two", &[(&[1, 2], true, 0)], true),
            ("one was read", &[(&[1, 2], true, 1)], true),
            ("both were read", &[(&[1, 2], true, 2)], false),
            (
                "one has ended, others came",
                &[(&[1, 2], true, 0), (&[2, 3, 4], true, 0)],
                true,
            ),
            (
                "both have ended, others came",
                &[(&[1, 2], true, 0), (&[3, 4], true, 0)],
                false,
            ),
            (
                "nothing is learnt of ends from what may lack them",
                &[(&[1, 2], true, 0), (&[], false, 0)],
                true,
            ),
            (
                "the first complete dump lists those that others lacked",
                &[(&[], false, 0), (&[1], true, 0)],
                true,
            ),
        ];
        for (name, steps, expected) in cases {
            let mut older = OlderUnix::default();
            let mut is_missing = false;
            for (second, (open, is_complete, count)) in (0..).zip(steps) {
                let dump = dump(second, NETNS, open);
                older.note(NETNS, &dump, *is_complete);
                older.note(NETNS, &dump, *is_complete);
                let turns = turns(second, 0, *count);
                is_missing = older.unread(&turns, |_| Some(0)).contains(&key(NETNS));
            }
            assert_eq!(is_missing, expected, "{name}");
        }
    }

    #[test]
    fn a_dump_tells_of_its_own_namespace() {
        let other = NetnsId(2);
        let mut older = OlderUnix::default();
        older.note(NETNS, &dump(0, NETNS, &[1]), true);
        older.note(other, &dump(0, other, &[2]), true);
        older.note(other, &dump(1, other, &[]), true);
        let unread = older.unread(&turns(2, 0, 0), |_| Some(0));
        assert_eq!(unread, [key(NETNS)].into());
        older.keep(&[other].into());
        assert_eq!(older.unread(&turns(3, 0, 0), |_| Some(0)), [].into());
    }

    /// Seconds of the dump, the second dump with three open, and of looks before and after it; accepts at
    /// these; what the later has found.
    #[test]
    fn none_is_missing_where_all_that_are_listed_are_followed() {
        for (name, (before, after), (first, last), found, expected) in [
            ("one is not followed", (0, 1), (9, 9), 2, true),
            ("all are", (0, 1), (9, 9), 3, false),
            ("one was accepted meanwhile", (0, 1), (9, 10), 3, true),
            ("the dump is older than both looks", (1, 2), (9, 9), 3, true),
            ("there was no look since the dump", (0, 0), (9, 9), 3, true),
        ] {
            let mut older = OlderUnix::default();
            older.note(NETNS, &dump(0, NETNS, &[1, 2, 3]), true);
            if before == 1 {
                older.note(NETNS, &dump(1, NETNS, &[1, 2, 3]), true);
            }
            older.unread(&turns(before, found, 0), |_| Some(first));
            older.note(NETNS, &dump(1, NETNS, &[1, 2, 3]), true);
            let unread = older.unread(&turns(after, found, 0), |_| Some(last));
            assert_eq!(unread.contains(&key(NETNS)), expected, "{name}");
        }
    }
}
