//! Questions to the thread that owns the programs, for what is too much to be in every view.
//!
//! It answers between two ticks. There is place for one question: whoever asks while another waits
//! takes its place, and who is not answered in time takes his question back, so that the sampler never
//! works for somebody who has left.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::Thread,
    time::Duration,
};

use super::{control::Control, programs::Programs};
use crate::{
    plan::Off,
    snapshot::{ListenerKey, connections::BpfConnections},
    view::connections::SCANNED,
};

type Answer = Result<BpfConnections, Off>;

/// Connections of some listeners.
#[derive(Debug)]
pub(super) struct Ask {
    listeners: Vec<ListenerKey>,
    answer: mpsc::SyncSender<Answer>,
}

impl Ask {
    /// `hidden`: listeners whose turns are not shown.
    pub(super) fn answer(self, programs: &mut Programs, hidden: &BTreeSet<ListenerKey>) {
        let mut answer = programs.connections(&self.listeners, SCANNED);
        for connection in answer.iter_mut().flat_map(|it| &mut it.connections) {
            if hidden.contains(&connection.listener) {
                connection.turn = None;
            }
        }
        // Fails when nobody waits any more.
        let _ = self.answer.try_send(answer);
    }
}

/// The question that waits.
#[derive(Debug, Default)]
pub(super) struct Asks(Mutex<Option<Ask>>);

impl Asks {
    pub(super) fn take(&self) -> Option<Ask> {
        self.place().take()
    }

    fn place(&self) -> MutexGuard<'_, Option<Ask>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the sampler's thread.
#[derive(Clone, Debug)]
pub struct Asker {
    control: Arc<Control>,
    thread: Thread,
}

impl Asker {
    pub(super) const fn new(control: Arc<Control>, thread: Thread) -> Self {
        Self { control, thread }
    }

    /// Accepted connections of some listeners, at most [`SCANNED`]. Waits no longer than `patience`.
    ///
    /// # Errors
    /// Why there is no such list.
    pub fn connections(
        &self,
        listeners: Vec<ListenerKey>,
        patience: Duration,
    ) -> Result<BpfConnections, Off> {
        let (answer, answered) = mpsc::sync_channel(1);
        *self.control.asks.place() = Some(Ask { listeners, answer });
        self.thread.unpark();
        answered.recv_timeout(patience).unwrap_or_else(|_| {
            self.control.asks.take();
            Err(Off {
                reason: format!(
                    "the sampler did not answer within {} ms",
                    patience.as_millis()
                ),
                grant: Some("look at the daemon's log, and whether the host thrashes".to_owned()),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::{Arc, Mutex},
        thread,
        time::Duration,
    };

    use super::{Asker, Asks, Control, Off, Programs};
    use crate::sampler::control::Wanted;

    fn control() -> Arc<Control> {
        let wanted = Wanted {
            sample_hz: 1,
            stop: false,
            reset: false,
        };
        Arc::new(Control {
            wanted: Mutex::new(wanted),
            asks: Asks::default(),
        })
    }

    #[test]
    fn a_question_wakes_the_thread_that_answers() {
        let off = Off {
            reason: "not here".to_owned(),
            grant: None,
        };
        let mut programs = Programs::Off(off.clone());
        let control = control();
        let asked = Arc::clone(&control);
        let sampler = thread::spawn(move || {
            loop {
                thread::park();
                if let Some(ask) = asked.asks.take() {
                    return ask.answer(&mut programs, &BTreeSet::new());
                }
            }
        });
        let asker = Asker::new(control, sampler.thread().clone());
        let answer = asker.connections(Vec::new(), Duration::from_secs(10));
        assert_eq!(answer, Err(off));
        sampler.join().unwrap();
    }

    #[test]
    fn a_question_that_is_not_answered_is_taken_back() {
        let control = control();
        let asker = Asker::new(Arc::clone(&control), thread::current());
        let answer = asker.connections(Vec::new(), Duration::from_millis(1));
        let reason = "the sampler did not answer within 1 ms";
        assert_eq!(answer.map_err(|off| off.reason), Err(reason.to_owned()));
        assert!(control.asks.take().is_none());
    }
}
