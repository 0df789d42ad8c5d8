//! Which processes hold listening sockets, and who their parents are: reads `/proc`.
//!
//! Separate from the other sources because reading another process can hang: the kernel takes that
//! process's memory lock and faults in its pages. [`ProcThread`] therefore reads on a thread of its
//! own, and the rest of the program uses what it found last. Parsers take bytes, readers take a
//! root path; nothing here decides which process is a worker (that is [`crate::view::servers`]),
//! and nothing here writes or signals.

mod cgroup;
mod closer;
mod ended;
#[cfg(test)]
mod fake;
mod files;
mod pace;
mod place;
mod refresh;
mod stall;
mod stat;
mod thread;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::MaybeUninit,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

pub use self::{
    closer::MOST_ASKED,
    refresh::{Live, Refresh},
    thread::ProcThread,
};
use self::{
    closer::{Closely, Closer},
    files::{Absent, Dir, Entries, Held},
    stat::Stat,
};
use crate::{
    ids::{Inode, Monotonic, Pid, StartTicks},
    snapshot::{ProcSnapshot, Process, Threads},
    source::watch::Watch,
};

/// Processes looked at in one scan.
const MOST_SCANNED: usize = 1 << 17;
/// Processes in one snapshot.
const MOST_KEPT: usize = 1 << 14;
/// A worker's master is its parent, or its grandparent (puma's fork_worker); the rest is room.
const ANCESTORS: usize = 4;
/// Bytes of a command line.
const TITLE: usize = 4096;
/// `NSpid` comes after the list of groups, which can be long.
const STATUS: usize = 16 * 1024;
const CGROUP: usize = 16 * 1024;
/// Sixteen lines of eighty bytes.
const LIMITS: usize = 4 * 1024;
/// `btime` comes after one number for each interrupt.
const KERNEL_STAT: usize = 1 << 20;

/// Reads processes under a root directory, `/proc` in production.
pub struct ProcReader {
    root: PathBuf,
    watch: Arc<Watch>,
    /// What the last scan looked for.
    listeners: BTreeSet<Inode>,
    /// What the last look found.
    known: Option<Arc<ProcSnapshot>>,
    /// Children of known processes that hold nothing of interest.
    strangers: BTreeSet<Pid>,
    closer: Closer,
    entries: Box<Entries>,
}

impl std::fmt::Debug for ProcReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcReader")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// What a first look at one process told.
enum Look {
    Gone,
    /// Of no interest.
    Stranger,
    Unreadable {
        parent: Option<Pid>,
    },
    Kept(Box<Process>),
}

impl ProcReader {
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self::watched(root, Arc::default())
    }

    fn watched(root: PathBuf, watch: Arc<Watch>) -> Self {
        Self {
            root,
            watch,
            listeners: BTreeSet::new(),
            known: None,
            strangers: BTreeSet::new(),
            closer: Closer::default(),
            entries: Box::new([MaybeUninit::uninit(); _]),
        }
    }

    /// Looks at the descriptors of every process. The snapshot has those that hold one of
    /// `listeners`, those in `extra`, their ancestors, and children of holders whose own
    /// descriptors we may not read.
    pub fn scan(
        &mut self,
        listeners: &BTreeSet<Inode>,
        extra: &BTreeSet<Pid>,
    ) -> Arc<ProcSnapshot> {
        let known = self.known.take();
        let snapshot = Arc::new(self.scanned(listeners, extra, known.as_deref()));
        self.known = Some(Arc::clone(&snapshot));
        snapshot
    }

    fn scanned(
        &mut self,
        listeners: &BTreeSet<Inode>,
        extra: &BTreeSet<Pid>,
        known: Option<&ProcSnapshot>,
    ) -> ProcSnapshot {
        let mut snapshot = ProcSnapshot {
            taken: Monotonic::now(),
            since_boot: since_boot(),
            processes: BTreeMap::new(),
            unreadable: 0,
            quarantined: self.watch.quarantined(),
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            boot_time: 0,
            ended: Vec::new(),
            places: BTreeMap::new(),
        };
        self.listeners.clone_from(listeners);
        self.strangers.clear();
        let Ok(root) = Dir::open(&self.root) else {
            snapshot.unreadable = 1;
            return snapshot;
        };
        self.closer.begin(&root);
        snapshot.boot_time = root
            .file(c"stat", KERNEL_STAT)
            .ok()
            .and_then(|bytes| stat::boot_time(&bytes))
            .unwrap_or(0);

        let mut closed = BTreeMap::new();
        for pid in root.numbers(&mut self.entries, MOST_SCANNED) {
            if self.watch.stopped() || snapshot.processes.len() >= MOST_KEPT {
                break;
            }
            let before = known.and_then(|known| known.processes.get(&pid));
            if snapshot.quarantined.contains(&pid) {
                snapshot
                    .processes
                    .extend(before.map(|process| (pid, process.clone())));
                continue;
            }
            let is_wanted = extra.contains(&pid);
            match self.timed(pid, |reader| reader.look(&root, pid, is_wanted, before)) {
                Look::Gone | Look::Stranger => {}
                Look::Kept(process) => {
                    if process.listeners.is_none() {
                        closed.insert(pid, Some(process.parent));
                    }
                    snapshot.processes.insert(pid, *process);
                }
                Look::Unreadable { parent } => {
                    closed.insert(pid, parent);
                }
            }
        }
        self.add_ancestors(&root, &closed, &mut snapshot, known);
        self.add_closed_children(&root, &closed, &mut snapshot, known);
        snapshot.unreadable = closed.len();
        snapshot.quarantined = self.watch.quarantined();
        snapshot.places = std::mem::take(&mut self.closer.places);
        if let Some(known) = known {
            snapshot.ended = self.ended(&root, known, &snapshot);
        }
        snapshot
    }

    fn look(&mut self, root: &Dir, pid: Pid, wanted: bool, before: Option<&Process>) -> Look {
        let Ok(dir) = root.process(pid) else {
            return Look::Gone;
        };
        let held = match dir.sockets(&mut self.entries, &self.listeners, &self.watch) {
            Ok(held) if held.listeners.is_empty() && !wanted => return Look::Stranger,
            Ok(held) => Some(held),
            Err(Absent::Gone) => return Look::Gone,
            Err(Absent::Unreadable) if wanted => None,
            Err(Absent::Unreadable) => {
                return match stat_of(&dir) {
                    // What has ended holds nothing, whoever may look.
                    Some(stat) if stat.state != 'Z' => Look::Unreadable {
                        parent: Some(stat.parent),
                    },
                    Some(_) => Look::Stranger,
                    None => Look::Gone,
                };
            }
        };
        self.process(&dir, pid, held, before)
            .map_or(Look::Gone, |process| Look::Kept(Box::new(process)))
    }

    /// `None` when it has ended.
    fn process(
        &mut self,
        dir: &Dir,
        pid: Pid,
        held: Option<Held>,
        before: Option<&Process>,
    ) -> Option<Process> {
        let stat = stat_of(dir)?;
        let (listeners, descriptors) = held.map(|held| (held.listeners, held.descriptors)).unzip();
        let before = before.filter(|before| before.started == stat.started);
        let mut process = process_of(dir, &stat, listeners);
        if process.may_serve() {
            let Closely { each_thread, fds } = self.look_closer(dir, pid, &stat, before);
            process.each_thread = each_thread;
            process.fds = fds.or(descriptors);
            process.fd_limit = descriptor_limit_of(dir);
        }
        process.title = title_of(dir, stat.state, process.each_thread.as_ref(), before);
        Some(process)
    }

    /// `before`: the same process at the last look.
    fn look_closer(
        &mut self,
        dir: &Dir,
        pid: Pid,
        stat: &Stat,
        before: Option<&Process>,
    ) -> Closely {
        let before = before.and_then(|before| before.each_thread.as_ref());
        self.closer
            .look(dir, (pid, stat), before, &mut self.entries, &self.watch)
    }

    /// The parents of workers, also those that hold nothing themselves. Pid 1 is added only where
    /// it is a holder.
    fn add_ancestors(
        &mut self,
        root: &Dir,
        closed: &BTreeMap<Pid, Option<Pid>>,
        snapshot: &mut ProcSnapshot,
        known: Option<&ProcSnapshot>,
    ) {
        let mut parents: BTreeSet<Pid> = snapshot.processes.values().map(|p| p.parent).collect();
        for _ in 0..ANCESTORS {
            let mut next = BTreeSet::new();
            for pid in parents {
                if pid <= Pid(1)
                    || snapshot.processes.contains_key(&pid)
                    || snapshot.quarantined.contains(&pid)
                    || snapshot.processes.len() >= MOST_KEPT
                {
                    continue;
                }
                // Its descriptors were looked at: it holds none of the listeners.
                let held = (!closed.contains_key(&pid)).then(Held::default);
                if let Some(process) = self.details(root, pid, held, known) {
                    next.insert(process.parent);
                    snapshot.processes.insert(pid, process);
                }
            }
            parents = next;
        }
    }

    /// Workers that changed their user, seen from their master.
    fn add_closed_children(
        &mut self,
        root: &Dir,
        closed: &BTreeMap<Pid, Option<Pid>>,
        snapshot: &mut ProcSnapshot,
        known: Option<&ProcSnapshot>,
    ) {
        for (&pid, parent) in closed {
            let of_holder = parent
                .and_then(|parent| snapshot.processes.get(&parent))
                .and_then(|parent| parent.listeners.as_ref())
                .is_some_and(|held| !held.is_empty());
            if of_holder
                && !snapshot.processes.contains_key(&pid)
                && snapshot.processes.len() < MOST_KEPT
                && let Some(process) = self.details(root, pid, None, known)
            {
                snapshot.processes.insert(pid, process);
            }
        }
    }

    fn details(
        &mut self,
        root: &Dir,
        pid: Pid,
        held: Option<Held>,
        known: Option<&ProcSnapshot>,
    ) -> Option<Process> {
        let before = known.and_then(|known| known.processes.get(&pid));
        self.timed(pid, |reader| {
            reader.process(&root.process(pid).ok()?, pid, held, before)
        })
    }

    /// Reads one process; one that takes too long is left alone for a while.
    fn timed<T>(&mut self, pid: Pid, read: impl FnOnce(&mut Self) -> T) -> T {
        self.watch.begin(pid);
        let result = read(self);
        self.watch.end();
        result
    }
}

/// When a process of the daemon's own pid namespace started.
pub(in crate::source) fn started(pid: Pid) -> Option<StartTicks> {
    let bytes = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    stat::stat(&bytes).map(|stat| stat.started)
}

/// On the clock that start times are of.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

fn stat_of(dir: &Dir) -> Option<Stat> {
    stat::stat(&dir.file(c"stat", 4096).ok()?)
}

/// The kernel reads it from the process's memory, whose lock a thread may hold that cannot be
/// interrupted, perhaps for ever: then it is taken to be what it was.
fn title_of(
    dir: &Dir,
    state: char,
    threads: Option<&Threads>,
    before: Option<&Process>,
) -> Option<Vec<u8>> {
    let mut states = threads
        .into_iter()
        .flat_map(|threads| threads.by_id.values().map(|thread| thread.state));
    match before {
        Some(before) if state == 'D' || states.any(|state| state == 'D') => before.title.clone(),
        _ => dir.file(c"cmdline", TITLE).ok().map(stat::title),
    }
}

fn descriptor_limit_of(dir: &Dir) -> Option<u64> {
    stat::descriptor_limit(&dir.file(c"limits", LIMITS).ok()?)
}

/// Without its title, and what a closer look tells.
fn process_of(dir: &Dir, stat: &Stat, listeners: Option<BTreeSet<Inode>>) -> Process {
    let status = dir
        .file(c"status", STATUS)
        .map(|bytes| stat::status(&bytes))
        .unwrap_or_default();
    let owner = dir
        .file(c"cgroup", CGROUP)
        .map(|bytes| cgroup::owner(&bytes))
        .unwrap_or_default();
    Process {
        parent: stat.parent,
        started: stat.started,
        ns_pid: status.ns_pid,
        comm: stat.comm.clone(),
        title: None,
        uid: status.uid,
        threads: stat.threads,
        state: stat.state,
        unit: owner.unit,
        container: owner.container,
        listeners,
        each_thread: None,
        fds: None,
        fd_limit: None,
    }
}

#[cfg(test)]
mod tests;
