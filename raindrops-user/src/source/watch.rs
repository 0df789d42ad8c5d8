//! What a reading thread is at, for those who must not wait for it: which process, since when, and
//! which processes to leave alone.
//!
//! Apart because two threads share it; it reads nothing itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::ids::{Monotonic, Pid};

/// A process that takes longer to read than this is left alone.
const SLOW: Duration = Duration::from_secs(1);
/// For how long.
const QUARANTINE: Duration = Duration::from_secs(60);

/// Processes to leave alone, and until when. Outlives the threads that read.
pub(in crate::source) type Quarantine = Arc<Mutex<BTreeMap<Pid, Monotonic>>>;

#[derive(Clone, Copy, Debug)]
struct Reading {
    pid: Pid,
    began: Monotonic,
    /// When it last got something.
    moved: Monotonic,
}

#[derive(Debug, Default)]
pub(in crate::source) struct Watch {
    stop: AtomicBool,
    reading: Mutex<Option<Reading>>,
    quarantine: Quarantine,
}

impl Watch {
    pub fn new(quarantine: Quarantine) -> Self {
        Self {
            quarantine,
            ..Self::default()
        }
    }

    /// Asks the reader to give up after the process that it is at.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub fn begin(&self, pid: Pid) {
        let now = Monotonic::now();
        *lock(&self.reading) = Some(Reading {
            pid,
            began: now,
            moved: now,
        });
    }

    /// It takes long, but does not hang.
    pub fn moved(&self) {
        if let Some(reading) = &mut *lock(&self.reading) {
            reading.moved = Monotonic::now();
        }
    }

    pub fn end(&self) {
        if let Some(reading) = lock(&self.reading).take()
            && Monotonic::now().since(reading.began) > SLOW
        {
            quarantine(&self.quarantine, reading.pid);
        }
    }

    /// The process that reading hangs in.
    pub fn stuck(&self, now: Monotonic, patience: Duration) -> Option<Pid> {
        lock(&self.reading)
            .filter(|reading| now.since(reading.moved) > patience)
            .map(|reading| reading.pid)
    }

    pub fn quarantined(&self) -> BTreeSet<Pid> {
        let now = Monotonic::now();
        let mut quarantine = lock(&self.quarantine);
        quarantine.retain(|_, until| *until > now);
        quarantine.keys().copied().collect()
    }
}

pub(in crate::source) fn quarantine(quarantine: &Quarantine, pid: Pid) {
    let until = Monotonic(Monotonic::now().0 + QUARANTINE);
    lock(quarantine).insert(pid, until);
}

/// A thread that panicked leaves nothing half done behind these locks.
pub(in crate::source) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
