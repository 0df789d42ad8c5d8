//! A closer look at processes that serve: each thread, how many descriptors are open, and what the
//! threads are at that are stalled or were asked about.
//!
//! Apart from scan and refresh because both end in it, and because its cost is that of threads, not
//! of processes: hence the bounds, and hence nothing is read that another file has told already.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    files::{Absent, Dir, Entries},
    place,
    stall::stall,
    stat::{self, Stat},
};
use crate::{
    ids::{Monotonic, Pid, Tid},
    snapshot::{Place, Thread, Threads, cannot_run},
    source::watch::Watch,
};

/// Threads that may be asked about.
pub const MOST_ASKED: usize = 16;
/// Threads between signs of life: a millisecond or less.
const STRETCH: usize = 128;
/// The longest line of numbers is half as long, the name included.
const LINE: usize = 2048;

/// How many threads are read in one pass.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    of_one_process: usize,
    /// Those that are not their process's first.
    in_all: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            of_one_process: 1024,
            in_all: 4096,
        }
    }
}

/// Looks closer at one process after the other, in one pass over all.
#[derive(Debug, Default)]
pub(super) struct Closer {
    bounds: Bounds,
    asked: BTreeSet<(Pid, Tid)>,
    /// The kernel makes the files.
    is_procfs: bool,
    /// Threads that may still be read in this pass.
    room: usize,
    /// What was found in this pass.
    pub places: BTreeMap<(Pid, Tid), Place>,
}

/// What a closer look at one process told.
#[derive(Debug, Default)]
pub(super) struct Closely {
    pub each_thread: Option<Threads>,
    /// `None` where the kernel does not count them.
    pub fds: Option<u64>,
}

impl Closer {
    /// Of which threads to tell what they are at, from the next pass on.
    pub fn ask(&mut self, threads: &BTreeSet<(Pid, Tid)>) {
        self.asked.clone_from(threads);
    }

    pub fn begin(&mut self, root: &Dir) {
        self.is_procfs = root.is_procfs();
        self.room = self.bounds.in_all;
        self.places.clear();
    }

    /// `first`: what the process itself says, which is also what its first thread does. `before`:
    /// the threads of this very process at the last look.
    pub fn look(
        &mut self,
        dir: &Dir,
        (pid, first): (Pid, &Stat),
        before: Option<&Threads>,
        entries: &mut Entries,
        watch: &Watch,
    ) -> Closely {
        let Ok(task) = dir.task() else {
            return Closely::default();
        };
        let threads = self.threads(&task, (pid, first), before, entries, watch);
        let of_pid = (pid, Tid(0))..=(pid, Tid(u32::MAX));
        let mut wanted: BTreeSet<Tid> = self.asked.range(of_pid).map(|(_, tid)| *tid).collect();
        let stalled = threads.stalled(None);
        wanted.extend(stalled.map(|(tid, _, _)| tid));
        for tid in wanted {
            let state = threads.by_id.get(&tid).map(|thread| thread.state);
            let found = state.or_else(|| Some(thread(&task, tid).ok()?.state));
            if let Some(state) = found {
                self.places.insert((pid, tid), place(&task, tid, state));
            }
        }
        Closely {
            each_thread: Some(threads),
            fds: dir.descriptors().filter(|_| self.is_procfs),
        }
    }

    fn threads(
        &mut self,
        task: &Dir,
        (pid, first): (Pid, &Stat),
        before: Option<&Threads>,
        entries: &mut Entries,
        watch: &Watch,
    ) -> Threads {
        let looked = Monotonic::now();
        let mut threads = Threads {
            looked,
            by_id: BTreeMap::new(),
            complete: true,
        };
        let mut add = |tid: Tid, stat: Stat| {
            let before = before.and_then(|before| before.by_id.get(&tid));
            let found = found(task, tid, stat, looked, before);
            threads.by_id.insert(tid, found);
        };
        add(Tid(pid.0), first.clone());
        if first.threads == Some(1) {
            return threads;
        }
        // One more than may be read, to know whether there are more.
        let most = self.bounds.of_one_process.min(self.room + 1);
        let others = task.numbers(entries, most + 1);
        let others = others.into_iter().filter(|tid| *tid != pid);
        for (read, tid) in others.enumerate() {
            if read + 1 == most || watch.stopped() {
                threads.complete = false;
                break;
            }
            if read.is_multiple_of(STRETCH) {
                watch.moved();
            }
            self.room -= 1;
            let tid = Tid(tid.0);
            match thread(task, tid) {
                Ok(stat) => add(tid, stat),
                Err(Absent::Gone) => {}
                Err(Absent::Unreadable) => threads.complete = false,
            }
        }
        threads
    }
}

fn thread(task: &Dir, tid: Tid) -> Result<Stat, Absent> {
    let mut room = [0; LINE];
    let line = task.of_thread(tid, "stat", &mut room)?;
    stat::stat(line).ok_or(Absent::Unreadable)
}

fn found(task: &Dir, tid: Tid, stat: Stat, looked: Monotonic, before: Option<&Thread>) -> Thread {
    let mut thread = Thread {
        started: stat.started,
        comm: stat.comm,
        state: stat.state,
        stall: None,
    };
    if cannot_run(thread.state) {
        let mut room = [0; LINE];
        let line = task.of_thread(tid, "schedstat", &mut room);
        let runs = line.ok().and_then(stat::runs);
        thread.stall = Some(stall(looked, &thread, runs, before));
    }
    thread
}

fn place(task: &Dir, tid: Tid, state: char) -> Place {
    let mut room = [0; LINE];
    let syscall = task.of_thread(tid, "syscall", &mut room);
    let syscall = syscall.ok().and_then(place::syscall);
    let wchan = task.of_thread(tid, "wchan", &mut room);
    Place {
        state,
        syscall,
        wchan: wchan.ok().and_then(place::wchan),
    }
}

#[cfg(test)]
mod tests;
