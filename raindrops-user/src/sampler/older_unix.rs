//! Unix connections that are older than the programs, and unread since: they are in no gauge.
//!
//! Apart from the programs' own counts because nothing tells the programs of these before they are read:
//! they are known by the inodes that the first dump of their namespace lists. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ids::{Inode, Monotonic, NetnsId},
    snapshot::{ListenerKey, ListenerTurnCounts, UnixActiveSnapshot},
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
                older.all = older.open.len() as u64;
            }
        } else if is_complete {
            self.listeners.retain(|key, older| {
                if key.netns != netns {
                    return true;
                }
                let open = dump.active.get(key).map_or(&[][..], Vec::as_slice);
                let open: BTreeSet<Inode> = open.iter().copied().collect();
                older.open.retain(|inode| open.contains(inode));
                !older.open.is_empty()
            });
        }
    }

    /// Listeners of which such connections may still be open, by how many were read.
    pub(super) fn unread(
        &self,
        turns: &BTreeMap<ListenerKey, ListenerTurnCounts>,
    ) -> BTreeSet<ListenerKey> {
        let read = |key| turns.get(key).map_or(0, |it| it.seeds_settled);
        let unread = self
            .listeners
            .iter()
            .filter(|(key, older)| read(*key) < older.all);
        unread.map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn read(count: u64) -> BTreeMap<ListenerKey, ListenerTurnCounts> {
        let counts = ListenerTurnCounts {
            seeds_settled: count,
            ..ListenerTurnCounts::NONE
        };
        [(key(NETNS), counts)].into()
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
                is_missing = older.unread(&read(*count)).contains(&key(NETNS));
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
        assert_eq!(older.unread(&BTreeMap::new()), [key(NETNS)].into());
    }
}
