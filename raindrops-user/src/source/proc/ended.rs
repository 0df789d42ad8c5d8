//! Which processes that held a listener have ended.
//!
//! Apart because who is missing from a scan need not have ended: it may have closed its listeners
//! and still be at work. The list is kept from snapshot to snapshot, for who takes in the snapshots
//! may miss one.

use std::{collections::BTreeSet, time::Duration};

use super::{ProcReader, files::Dir, stat_of};
use crate::{
    ids::{Pid, StartTicks},
    snapshot::{Ended, ProcSnapshot},
};

/// How long an end is told of.
const TOLD: Duration = Duration::from_secs(60);
/// Ends that are told of at one time: a look each second does not find as many.
const MOST: usize = 4096;

impl ProcReader {
    /// Those of `known` that a scan has not found and that have ended, after the earlier ones.
    pub(super) fn ended(
        &mut self,
        root: &Dir,
        known: &ProcSnapshot,
        scan: &ProcSnapshot,
    ) -> Vec<Ended> {
        let mut gone = BTreeSet::new();
        let served = known.processes.iter().filter(|(_, it)| it.may_serve());
        for (&pid, process) in served {
            let is_there = match scan.processes.get(&pid) {
                Some(found) => found.started == process.started,
                None => self.is_alive(root, pid, process.started),
            };
            if !is_there {
                gone.insert(pid);
            }
        }
        list(known, scan, &gone)
    }

    /// Whether it is still there, whatever it holds.
    fn is_alive(&mut self, root: &Dir, pid: Pid, started: StartTicks) -> bool {
        let Ok(dir) = root.process(pid) else {
            return false;
        };
        // Reading on might hang.
        if self.watch.quarantined().contains(&pid) {
            return true;
        }
        self.timed(pid, |_| stat_of(&dir))
            .is_some_and(|stat| stat.started == started && stat.state != 'Z')
    }
}

/// Adds those that a refresh found gone to the list of a snapshot that still has them.
pub(super) fn note(snapshot: &mut ProcSnapshot, gone: &BTreeSet<Pid>) {
    snapshot.ended = list(snapshot, snapshot, gone);
}

/// `before`: the snapshot that has them. `now`: when they were missed.
fn list(before: &ProcSnapshot, now: &ProcSnapshot, gone: &BTreeSet<Pid>) -> Vec<Ended> {
    let ended = |pid: &Pid| {
        let process = before.processes.get(pid)?;
        process.may_serve().then(|| Ended {
            pid: *pid,
            started: process.started,
            parent: process.parent,
            noticed: now.taken,
            lived: now
                .since_boot
                .saturating_sub(now.start_after_boot(process.started)),
        })
    };
    let mut list: Vec<Ended> = before
        .ended
        .iter()
        .filter(|ended| now.taken.since(ended.noticed) < TOLD)
        .copied()
        .chain(gone.iter().filter_map(ended))
        .collect();
    list.drain(..list.len().saturating_sub(MOST));
    list
}

#[cfg(test)]
mod tests;
