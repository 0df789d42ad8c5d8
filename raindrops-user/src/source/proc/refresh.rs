//! A cheap look at the processes that are already known: have they ended, renamed themselves, got
//! children that matter?
//!
//! Apart from the scan because it runs ten times as often and must not walk every process.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ProcReader,
    files::{Absent, Dir},
    stat_of, title_of,
};
use crate::{
    ids::{Monotonic, Pid},
    snapshot::{ProcSnapshot, Process},
};

/// A process with more threads than this is asked for the children of its first thread only.
const THREADS: usize = 16;

/// What is new about known processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    pub taken: Monotonic,
    pub live: BTreeMap<Pid, Live>,
    /// Ended, or replaced by another process with the same pid.
    pub gone: BTreeSet<Pid>,
    /// Children of known processes that hold a listener, or may.
    pub newcomers: BTreeSet<Pid>,
}

/// What changes about a process that lives on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    pub parent: Pid,
    pub comm: Vec<u8>,
    pub title: Option<Vec<u8>>,
    pub threads: Option<u32>,
    pub state: char,
}

impl Refresh {
    /// Only a scan can tell who took the place of the gone, and what newcomers hold.
    #[must_use]
    pub fn needs_scan(&self) -> bool {
        !self.gone.is_empty() || !self.newcomers.is_empty()
    }

    /// The snapshot with what is new. Who holds which listener stays as the scan found it.
    #[must_use]
    pub fn applied_to(&self, snapshot: &ProcSnapshot) -> ProcSnapshot {
        let mut snapshot = snapshot.clone();
        snapshot.taken = self.taken;
        snapshot.processes.retain(|pid, _| !self.gone.contains(pid));
        for (pid, live) in &self.live {
            let Live {
                parent,
                comm,
                title,
                threads,
                state,
            } = live.clone();
            if let Some(process) = snapshot.processes.get_mut(pid) {
                process.parent = parent;
                process.comm = comm;
                process.title = title;
                process.threads = threads;
                process.state = state;
            }
        }
        snapshot
    }
}

impl ProcReader {
    /// Looks at the processes of `snapshot`, which came from this reader's last scan.
    pub fn refresh(&mut self, snapshot: &ProcSnapshot) -> Refresh {
        let mut refresh = Refresh {
            taken: Monotonic::now(),
            live: BTreeMap::new(),
            gone: BTreeSet::new(),
            newcomers: BTreeSet::new(),
        };
        let Ok(root) = Dir::open(&self.root) else {
            return refresh;
        };
        let quarantined = self.watch.quarantined();
        let parents: BTreeSet<Pid> = snapshot.processes.values().map(|p| p.parent).collect();
        let mut children = BTreeSet::new();
        for (&pid, process) in &snapshot.processes {
            if self.watch.stopped() {
                return refresh;
            }
            if quarantined.contains(&pid) {
                continue;
            }
            let live = self.timed(pid, |reader| {
                let dir = root.process(pid).ok()?;
                let live = live(&dir, process)?;
                let is_parent = parents.contains(&pid);
                if is_parent
                    || process
                        .listeners
                        .as_ref()
                        .is_none_or(|held| !held.is_empty())
                {
                    let threads = if is_parent { live.threads } else { None };
                    children.extend(reader.children(&dir, pid, threads));
                }
                Some(live)
            });
            match live {
                Some(live) => {
                    refresh.live.insert(pid, live);
                }
                None => {
                    refresh.gone.insert(pid);
                }
            }
        }
        children.retain(|pid| !snapshot.processes.contains_key(pid) && !quarantined.contains(pid));
        self.strangers.retain(|pid| children.contains(pid));
        for pid in children {
            if !self.strangers.contains(&pid) {
                self.meet(&root, pid, &mut refresh.newcomers);
            }
        }
        refresh
    }

    fn meet(&mut self, root: &Dir, pid: Pid, newcomers: &mut BTreeSet<Pid>) {
        let held = self.timed(pid, |reader| {
            root.process(pid)?
                .sockets(&mut reader.entries, &reader.listeners, &reader.watch)
        });
        match held {
            // A child that has ended and waits for its parent.
            Err(Absent::Unreadable)
                if root
                    .process(pid)
                    .ok()
                    .and_then(|dir| stat_of(&dir))
                    .is_some_and(|stat| stat.state == 'Z') => {}
            Err(Absent::Gone) => {}
            Ok(held) if held.is_empty() => {
                self.strangers.insert(pid);
            }
            Ok(_) | Err(Absent::Unreadable) => {
                newcomers.insert(pid);
            }
        }
    }

    /// The kernel lists a child under the thread that made it.
    fn children(&mut self, dir: &Dir, pid: Pid, threads: Option<u32>) -> Vec<Pid> {
        if threads.is_some_and(|threads| (2..=THREADS as u32).contains(&threads)) {
            let threads = dir.threads(&mut self.entries, THREADS);
            threads
                .into_iter()
                .flat_map(|thread| dir.children_of(thread))
                .collect()
        } else {
            dir.children_of(pid)
        }
    }
}

fn live(dir: &Dir, process: &Process) -> Option<Live> {
    let stat = stat_of(dir)?;
    // What has ended holds nothing, also while its parent has not noticed.
    if stat.started != process.started || (stat.state == 'Z' && process.state != 'Z') {
        return None;
    }
    Some(Live {
        parent: stat.parent,
        comm: stat.comm,
        title: title_of(dir),
        threads: stat.threads,
        state: stat.state,
    })
}
