//! The thread that reads `/proc`, so that nobody else waits for a process that hangs.
//!
//! Apart from the reader because it knows time and threads and nothing of processes. A thread that
//! is stuck in one process is left behind and replaced: it cannot be interrupted, but the rest of
//! the host is still worth reading.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    ProcReader,
    closer::MOST_ASKED,
    pace::{Pace, Step},
};
use crate::{
    ids::{Inode, Monotonic, Pid, Tid},
    processor_time,
    snapshot::ProcSnapshot,
    source::{
        replaceable::Replaceable,
        watch::{Watch, lock},
    },
};

/// How long a drop waits.
const MOMENT: Duration = Duration::from_millis(200);

/// Reads processes on a thread of its own.
#[derive(Debug)]
pub struct ProcThread {
    root: PathBuf,
    shared: Arc<Shared>,
    reading: Replaceable,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A new request, a new snapshot, or the end.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    request: Option<Arc<Request>>,
    latest: Option<Arc<ProcSnapshot>>,
    is_read: bool,
    busy: Option<Monotonic>,
}

#[derive(Debug, Default)]
struct Request {
    listeners: BTreeSet<Inode>,
    extra: BTreeSet<Pid>,
    threads: BTreeSet<(Pid, Tid)>,
}

impl Request {
    /// What disappeared needs no scan, nor does an extra process that is known anyway. Threads are
    /// looked at when their process is.
    fn within(&self, scanned: &Self, latest: Option<&ProcSnapshot>) -> bool {
        let Self {
            listeners,
            extra,
            threads: _,
        } = self;
        let known = |pid: &Pid| {
            scanned.extra.contains(pid)
                || latest.is_some_and(|latest| latest.processes.contains_key(pid))
        };
        listeners.is_subset(&scanned.listeners) && extra.iter().all(known)
    }
}

impl ProcThread {
    pub fn start(root: PathBuf) -> io::Result<Self> {
        let shared = Arc::default();
        let reading = Replaceable::start(|watch| spawn(&root, &shared, watch))?;
        Ok(Self {
            root,
            shared,
            reading,
        })
    }

    /// Says what to look for from now on; the latest request wins. Call it on every tick: it also
    /// replaces a thread that hangs. What the first 16 of `threads` are at is told by snapshots
    /// that come after the next second, as far as their processes may hold a listener.
    pub fn request(
        &mut self,
        listeners: BTreeSet<Inode>,
        extra: BTreeSet<Pid>,
        threads: BTreeSet<(Pid, Tid)>,
    ) {
        self.reading
            .replace_hung(|watch| spawn(&self.root, &self.shared, watch));
        let request = Request {
            listeners,
            extra,
            threads: threads.into_iter().take(MOST_ASKED).collect(),
        };
        let mut state = lock(&self.shared.state);
        let news = state
            .request
            .as_ref()
            .is_none_or(|old| !request.within(old, None));
        state.request = Some(Arc::new(request));
        drop(state);
        if news {
            self.shared.changed.notify_all();
        }
    }

    /// Says whether anybody looks at what is found; where nobody does, it may be older.
    pub fn note_reader(&self, is_read: bool) {
        let mut state = lock(&self.shared.state);
        let begins = is_read && !state.is_read;
        state.is_read = is_read;
        drop(state);
        if begins {
            self.shared.changed.notify_all();
        }
    }

    /// The last finished snapshot.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<ProcSnapshot>> {
        lock(&self.shared.state).latest.clone()
    }

    /// Since when the thread reads what it is reading now.
    #[must_use]
    pub fn busy_since(&self) -> Option<Monotonic> {
        lock(&self.shared.state).busy
    }

    /// The first snapshot after a request, or `None` when `timeout` passes before it is there.
    #[must_use]
    pub fn wait_for_first(&self, timeout: Duration) -> Option<Arc<ProcSnapshot>> {
        let state = lock(&self.shared.state);
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, timeout, |state| state.latest.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.latest.clone()
    }
}

impl Drop for ProcThread {
    fn drop(&mut self) {
        self.reading.stop();
        // Taken so that the thread is either before its look at the stop, or asleep.
        drop(lock(&self.shared.state));
        self.shared.changed.notify_all();
        let began = Instant::now();
        while !self.reading.has_ended() && began.elapsed() < MOMENT {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn spawn(root: &Path, shared: &Arc<Shared>, watch: Arc<Watch>) -> io::Result<JoinHandle<()>> {
    let reader = ProcReader::watched(root.to_owned(), watch);
    let shared = Arc::clone(shared);
    Builder::new()
        .name("raindrops-proc".into())
        .spawn(move || shared.read(reader))
}

impl Shared {
    fn read(&self, mut reader: ProcReader) {
        let watch = Arc::clone(&reader.watch);
        let mut pace = Pace::default();
        let mut scanned = Arc::<Request>::default();
        let mut stale = false;
        loop {
            let (step, request) = {
                let mut state = lock(&self.state);
                let next = loop {
                    if watch.stopped() {
                        return;
                    }
                    let wait = match &state.request {
                        None => Duration::MAX,
                        Some(request) => {
                            let latest = state.latest.as_deref();
                            let asked = stale || !request.within(&scanned, latest);
                            match pace.step(Monotonic::now(), asked, state.is_read) {
                                Step::Wait(time) => time,
                                step => break (step, Arc::clone(request)),
                            }
                        }
                    };
                    state = self
                        .changed
                        .wait_timeout(state, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                };
                state.busy = Some(Monotonic::now());
                next
            };

            let began = processor_time::of_this_thread();
            let known = lock(&self.state).latest.clone();
            // A thread that was left behind may have found it.
            reader.known.clone_from(&known);
            reader.closer.ask(&request.threads);
            let snapshot = match (step, known) {
                (Step::Refresh, Some(known)) => {
                    let refresh = reader.refresh(&known);
                    pace.refreshed(
                        Monotonic::now(),
                        processor_time::of_this_thread().saturating_sub(began),
                    );
                    stale |= refresh.needs_scan();
                    Arc::new(refresh.applied_to(&known))
                }
                _ => {
                    let snapshot = reader.scan(&request.listeners, &request.extra);
                    pace.scanned(
                        Monotonic::now(),
                        processor_time::of_this_thread().saturating_sub(began),
                    );
                    scanned = request;
                    stale = false;
                    snapshot
                }
            };

            let mut state = lock(&self.state);
            // What a stopped reader found is cut short, and another thread may be at work.
            if watch.stopped() {
                return;
            }
            state.latest = Some(snapshot);
            state.busy = None;
            drop(state);
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
