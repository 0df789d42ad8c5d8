//! A thread that reads other processes, and is left behind and replaced when it hangs in one: it
//! cannot be interrupted, but the rest of the host is still worth reading.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use super::watch::{Quarantine, Watch, quarantine};
use crate::ids::{Monotonic, Pid};

/// How long one process may take before its thread is left behind.
const PATIENCE: Duration = Duration::from_secs(2);
/// Threads left behind at one time; after that the source stays busy.
const LEFT_BEHIND: usize = 4;

#[derive(Debug)]
pub(in crate::source) struct Replaceable {
    quarantine: Quarantine,
    current: Running,
    pub left_behind: Vec<(Pid, Running)>,
    pub patience: Duration,
}

#[derive(Debug)]
pub(in crate::source) struct Running {
    watch: Arc<Watch>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(
        quarantine: &Quarantine,
        spawn: impl FnOnce(Arc<Watch>) -> io::Result<JoinHandle<()>>,
    ) -> io::Result<Self> {
        let watch = Arc::new(Watch::new(Arc::clone(quarantine)));
        let thread = spawn(Arc::clone(&watch))?;
        Ok(Self { watch, thread })
    }
}

impl Replaceable {
    /// `spawn` starts the thread, which tells the watch what it is at and ends when that is stopped.
    pub fn start(spawn: impl FnOnce(Arc<Watch>) -> io::Result<JoinHandle<()>>) -> io::Result<Self> {
        let quarantine = Quarantine::default();
        let current = Running::start(&quarantine, spawn)?;
        Ok(Self {
            quarantine,
            current,
            left_behind: Vec::new(),
            patience: PATIENCE,
        })
    }

    /// Replaces the thread when it hangs. What it hangs in is left alone for a while.
    pub fn replace_hung(&mut self, spawn: impl FnOnce(Arc<Watch>) -> io::Result<JoinHandle<()>>) {
        self.left_behind.retain(|(pid, running)| {
            let hangs = !running.thread.is_finished();
            if hangs {
                quarantine(&self.quarantine, *pid);
            }
            hangs
        });
        let Some(pid) = self.current.watch.stuck(Monotonic::now(), self.patience) else {
            return;
        };
        if self.left_behind.len() >= LEFT_BEHIND {
            return;
        }
        quarantine(&self.quarantine, pid);
        // Where no thread can be made the old one stays: the source is seen to be busy.
        if let Ok(new) = Running::start(&self.quarantine, spawn) {
            let old = std::mem::replace(&mut self.current, new);
            old.watch.stop();
            self.left_behind.push((pid, old));
        }
    }

    pub fn stop(&self) {
        self.current.watch.stop();
    }

    pub fn has_ended(&self) -> bool {
        self.current.thread.is_finished()
    }
}
