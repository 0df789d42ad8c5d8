//! The thread that looks at slabs, so that nobody else waits for a process or a file that hangs.
//!
//! Like that of `/proc`, one that hangs is left behind and replaced.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use super::look::Looker;
use crate::{
    config::SlabPlaces,
    ids::{Monotonic, Pid},
    processor_time,
    snapshot::slabs::{SlabSnapshot, Suspect},
    source::{
        replaceable::Replaceable,
        watch::{Watch, lock},
    },
};

/// Between looks, while somebody reads what they find and while nobody does.
const INTERVAL: Duration = Duration::from_millis(100);
const UNREAD_INTERVAL: Duration = Duration::from_secs(1);
/// Looks take at most one part in this of one processor.
const SHARE: u32 = 100;

/// Looks at slabs on a thread of its own.
#[derive(Debug)]
pub struct SlabThread {
    places: SlabPlaces,
    shared: Arc<Shared>,
    looking: Replaceable,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Somebody reads, there are other suspects, or it is the end.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    suspects: Option<Arc<BTreeMap<Pid, Suspect>>>,
    latest: Option<Arc<SlabSnapshot>>,
    is_read: bool,
    busy: Option<Monotonic>,
}

impl SlabThread {
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(places: SlabPlaces) -> io::Result<Self> {
        let shared = Arc::default();
        let looking = Replaceable::start(|watch| spawn(&places, &shared, watch))?;
        Ok(Self {
            places,
            shared,
            looking,
        })
    }

    /// Says whose memory is looked at from now on. Call it on every tick: it also replaces a thread
    /// that hangs.
    pub fn request(&mut self, suspects: Arc<BTreeMap<Pid, Suspect>>) {
        self.looking
            .replace_hung(|watch| spawn(&self.places, &self.shared, watch));
        let mut state = lock(&self.shared.state);
        let is_first = state.suspects.is_none();
        state.suspects = Some(suspects);
        drop(state);
        if is_first {
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

    /// What the last look found.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<SlabSnapshot>> {
        lock(&self.shared.state).latest.clone()
    }

    /// Since when the thread looks.
    #[must_use]
    pub fn busy_since(&self) -> Option<Monotonic> {
        lock(&self.shared.state).busy
    }
}

impl Drop for SlabThread {
    /// Ends the thread without waiting for it: it may hang.
    fn drop(&mut self) {
        self.looking.stop();
        drop(lock(&self.shared.state));
        self.shared.changed.notify_all();
    }
}

fn spawn(
    places: &SlabPlaces,
    shared: &Arc<Shared>,
    watch: Arc<Watch>,
) -> io::Result<JoinHandle<()>> {
    let looker = Looker::new(places.clone(), Arc::clone(&watch));
    let shared = Arc::clone(shared);
    Builder::new()
        .name("raindrops-slab".into())
        .spawn(move || shared.look(looker, &watch))
}

impl Shared {
    fn look(&self, mut looker: Looker, watch: &Watch) {
        let mut due = Monotonic(Duration::ZERO);
        let mut earliest = due;
        loop {
            let mut state = lock(&self.state);
            let suspects = loop {
                if watch.stopped() {
                    return;
                }
                let now = Monotonic::now();
                // A reader who has come does not wait for what was paced for nobody.
                let due = if state.is_read { earliest } else { due };
                match &state.suspects {
                    Some(suspects) if due <= now => break Arc::clone(suspects),
                    Some(_) => {
                        let wait = due.since(now);
                        let woken = self.changed.wait_timeout(state, wait);
                        state = woken.unwrap_or_else(PoisonError::into_inner).0;
                    }
                    None => {
                        let woken = self.changed.wait(state);
                        state = woken.unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            state.busy = Some(Monotonic::now());
            drop(state);

            let began = processor_time::of_this_thread();
            let snapshot = Arc::new(looker.look(&suspects));
            let cost = processor_time::of_this_thread().saturating_sub(began);

            let mut state = lock(&self.state);
            if watch.stopped() {
                return;
            }
            let now = Monotonic::now();
            let rest = cost * SHARE;
            earliest = Monotonic(now.0 + rest.max(INTERVAL));
            due = Monotonic(now.0 + rest.max(UNREAD_INTERVAL));
            state.latest = Some(snapshot);
            state.busy = None;
        }
    }
}
