//! The thread that asks one control server again and again.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{
    PumaError,
    answer::parse,
    ask::{PATIENCE, ask},
};
use crate::{
    config::PumaControl,
    ids::Monotonic,
    plan::Off,
    snapshot::puma::{ControlAnswer, ControlSeen},
};

/// Between questions, while somebody reads the answers and while nobody does.
const INTERVAL: Duration = Duration::from_secs(1);
const UNREAD_INTERVAL: Duration = Duration::from_secs(5);
/// How long an answer is kept where there is no other.
const KEPT: Duration = Duration::from_secs(15);

/// Ends its thread when dropped, without waiting for it.
#[derive(Debug)]
pub(super) struct Reader {
    pub control: PumaControl,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Somebody reads from now on, or it is the end.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    seen: ControlSeen,
    is_read: bool,
    stop: bool,
}

impl Reader {
    pub fn start(control: PumaControl) -> Self {
        let seen = ControlSeen {
            address: control.address.clone(),
            answer: None,
            failure: Some(Off {
                reason: "no answer yet".to_owned(),
                grant: None,
            }),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                seen,
                is_read: false,
                stop: false,
            }),
            changed: Condvar::new(),
        });
        let started = {
            let (control, shared) = (control.clone(), Arc::clone(&shared));
            thread::Builder::new()
                .name("raindrops-puma".to_owned())
                .spawn(move || shared.ask_on(&control))
        };
        if let Err(error) = started {
            shared.lock().seen.failure = Some(Off {
                reason: format!("cannot start a thread: {error}"),
                grant: Some("raise the limit on processes, and restart the daemon".to_owned()),
            });
        }
        Self { control, shared }
    }

    pub fn note_reader(&self, is_read: bool) {
        let mut state = self.shared.lock();
        let begins = is_read && !state.is_read;
        state.is_read = is_read;
        drop(state);
        if begins {
            self.shared.changed.notify_all();
        }
    }

    pub fn seen(&self) -> ControlSeen {
        self.shared.lock().seen.at(Monotonic::now())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_on(&self, control: &PumaControl) {
        loop {
            let asked = Monotonic::now();
            let answer = ask(control, PATIENCE).and_then(|received| {
                Ok(ControlAnswer {
                    asked,
                    peer: received.peer,
                    stats: parse(&received.answer)?,
                })
            });
            let answered = Monotonic::now();
            let mut state = self.lock();
            if state.stop {
                return;
            }
            let before = state.seen.clone();
            state.seen.take(answer);
            tell(&before, &state.seen);
            loop {
                let due = asked.0 + period(answered.since(asked), state.is_read);
                let wait = due.saturating_sub(Monotonic::now().0);
                if state.stop {
                    return;
                }
                if wait.is_zero() {
                    break;
                }
                let woken = self.changed.wait_timeout(state, wait);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// From one question to the next. A server that is slow rests at least as long as it took.
fn period(took: Duration, is_read: bool) -> Duration {
    let interval = if is_read { INTERVAL } else { UNREAD_INTERVAL };
    interval.max(took * 2)
}

impl ControlSeen {
    fn take(&mut self, answer: Result<ControlAnswer, PumaError>) {
        match answer {
            Ok(answer) => {
                self.answer = Some(answer);
                self.failure = None;
            }
            Err(error) => {
                // Only who is slow still is who answered last.
                if !matches!(error, PumaError::Timeout) {
                    self.answer = None;
                }
                self.failure = Some(error.off());
            }
        }
    }

    /// Without an answer that is too old, whatever the reason.
    fn at(&self, now: Monotonic) -> Self {
        let mut seen = self.clone();
        seen.answer = seen.answer.filter(|it| now.since(it.asked) <= KEPT);
        if seen.answer.is_none() && seen.failure.is_none() {
            seen.failure = Some(Off {
                reason: format!("no answer for {} s", KEPT.as_secs()),
                grant: None,
            });
        }
        seen
    }
}

/// Logs what has changed.
fn tell(before: &ControlSeen, now: &ControlSeen) {
    let address = &now.address;
    match &now.failure {
        failure if *failure == before.failure => {}
        Some(off) => log::warn!("puma's control server {address}: {}", off.reason),
        None => log::info!("puma's control server {address} answers"),
    }
}

#[cfg(test)]
mod tests;
