//! A cheap look at the processes that are already known: have they ended, renamed themselves, got
//! children that matter?
//!
//! Apart from the scan because it runs ten times as often and must not walk every process.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Look, MOST_KEPT, ProcReader, closer::Closely, ended, files::Dir, since_boot, stat::Stat,
    stat_of, title_of,
};
use crate::{
    ids::{Monotonic, Pid, Tid},
    snapshot::{Place, ProcSnapshot, Process, Threads},
};

/// A process with more threads than this is asked for the children of its first thread only.
const THREADS: usize = 16;

/// What is new about known processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    pub taken: Monotonic,
    pub since_boot: Duration,
    pub live: BTreeMap<Pid, Live>,
    /// Ended, or replaced by another process with the same pid.
    pub gone: BTreeSet<Pid>,
    /// Children of known processes that hold a listener, or may.
    pub newcomers: BTreeSet<Pid>,
    /// Those of them that do, and are children of a process that has, or had, such children.
    pub met: BTreeMap<Pid, Process>,
    pub places: BTreeMap<(Pid, Tid), Place>,
}

/// What changes about a process that lives on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    pub parent: Pid,
    pub comm: Vec<u8>,
    pub title: Option<Vec<u8>>,
    pub threads: Option<u32>,
    pub state: char,
    pub each_thread: Option<Threads>,
    /// `None` where only a scan can tell.
    pub fds: Option<u64>,
}

impl Refresh {
    /// Only a scan can tell who took the place of the gone, and what all newcomers hold.
    #[must_use]
    pub fn needs_scan(&self) -> bool {
        !self.gone.is_empty() || !self.newcomers.is_empty()
    }

    /// The snapshot with what is new. What known processes hold stays as the scan found it.
    #[must_use]
    pub fn applied_to(&self, snapshot: &ProcSnapshot) -> ProcSnapshot {
        let mut snapshot = snapshot.clone();
        snapshot.taken = self.taken;
        snapshot.since_boot = self.since_boot;
        snapshot.places.clone_from(&self.places);
        ended::note(&mut snapshot, &self.gone);
        snapshot.processes.retain(|pid, _| !self.gone.contains(pid));
        for (pid, live) in &self.live {
            let Live {
                parent,
                comm,
                title,
                threads,
                state,
                each_thread,
                fds,
            } = live.clone();
            if let Some(process) = snapshot.processes.get_mut(pid) {
                process.parent = parent;
                process.comm = comm;
                process.title = title;
                process.threads = threads;
                process.state = state;
                process.each_thread = each_thread;
                process.fds = fds.or(process.fds);
            }
        }
        let room = MOST_KEPT.saturating_sub(snapshot.processes.len());
        let met = self.met.iter().take(room);
        // Not only with the scan that they ask for, which may have to wait: by then they may have
        // ended.
        let met = met.map(|(pid, process)| (*pid, process.clone()));
        snapshot.processes.extend(met);
        snapshot
    }
}

impl ProcReader {
    /// Looks at the processes of `snapshot`, which came from this reader's last scan.
    pub fn refresh(&mut self, snapshot: &ProcSnapshot) -> Refresh {
        let mut refresh = Refresh {
            taken: Monotonic::now(),
            since_boot: since_boot(),
            live: BTreeMap::new(),
            gone: BTreeSet::new(),
            newcomers: BTreeSet::new(),
            met: BTreeMap::new(),
            places: BTreeMap::new(),
        };
        let Ok(root) = Dir::open(&self.root) else {
            return refresh;
        };
        self.closer.begin(&root);
        let quarantined = self.watch.quarantined();
        let known = snapshot.processes.values();
        let parents: BTreeSet<Pid> = known.clone().map(|p| p.parent).collect();
        let masters = known
            .filter(|p| p.may_serve())
            .map(|p| p.parent)
            .chain(snapshot.ended.iter().map(|ended| ended.parent))
            .collect();
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
                let stat = stat_of(&dir).filter(|stat| is_still(process, stat))?;
                let closely = if process.may_serve() {
                    reader.look_closer(&dir, pid, &stat, Some(process))
                } else {
                    Closely::default()
                };
                let is_parent = parents.contains(&pid);
                if is_parent || process.may_serve() {
                    let threads = if is_parent { stat.threads } else { None };
                    children.extend(reader.children(&dir, pid, threads));
                }
                Some(live(&dir, stat, closely, process))
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
                self.meet(&root, pid, &masters, &mut refresh);
            }
        }
        refresh.places = std::mem::take(&mut self.closer.places);
        refresh
    }

    /// `masters`: parents of holders, also of those that have ended. What others fork may hold a listener for the moment until it
    /// runs another program, and has to be looked at again.
    fn meet(&mut self, root: &Dir, pid: Pid, masters: &BTreeSet<Pid>, refresh: &mut Refresh) {
        match self.timed(pid, |reader| reader.look(root, pid, false, None)) {
            Look::Gone => {}
            Look::Stranger => {
                self.strangers.insert(pid);
            }
            Look::Unreadable { .. } => {
                refresh.newcomers.insert(pid);
            }
            Look::Kept(process) => {
                refresh.newcomers.insert(pid);
                if masters.contains(&process.parent) {
                    refresh.met.insert(pid, *process);
                }
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

/// What has ended holds nothing, also while its parent has not noticed.
fn is_still(process: &Process, stat: &Stat) -> bool {
    stat.started == process.started && (stat.state != 'Z' || process.state == 'Z')
}

fn live(dir: &Dir, stat: Stat, closely: Closely, before: &Process) -> Live {
    let Closely { each_thread, fds } = closely;
    Live {
        parent: stat.parent,
        title: title_of(dir, stat.state, each_thread.as_ref(), Some(before)),
        comm: stat.comm,
        threads: stat.threads,
        state: stat.state,
        each_thread,
        fds,
    }
}
