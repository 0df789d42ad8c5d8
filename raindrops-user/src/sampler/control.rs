//! What others want of the sampling thread; it sees to it between two ticks.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::Thread,
};

use super::ask::Asks;

#[derive(Debug)]
pub(super) struct Control {
    pub(super) wanted: Mutex<Wanted>,
    pub(super) asks: Asks,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) sample_hz: u32,
    pub(super) stop: bool,
    /// Peaks are to be forgotten.
    pub(super) reset: bool,
}

impl Control {
    /// What is wanted; what is to be done once is then done.
    pub(super) fn take(&self) -> Wanted {
        let mut wanted = self.wanted();
        let taken = *wanted;
        wanted.reset = false;
        taken
    }

    pub(super) fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the sampler forget peaks.
#[derive(Clone, Debug)]
pub struct Resetter {
    control: Arc<Control>,
    thread: Thread,
}

impl Resetter {
    pub(super) const fn new(control: Arc<Control>, thread: Thread) -> Self {
        Self { control, thread }
    }

    /// Before the next view. Totals stay as they are.
    pub fn reset_peaks(&self) {
        self.control.wanted().reset = true;
        self.thread.unpark();
    }
}
