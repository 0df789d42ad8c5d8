//! Where questions are handed in: one thread, one question at a time, a few that wait, and an end to
//! everybody's patience.
//!
//! Apart from the reading, of which it knows only how long it took. Who asks what somebody else waits
//! for shares the answer, as it was rendered for that one; and after each answer the thread rests for
//! nine times as long. So nobody makes the daemon work more by asking more.

use std::{
    collections::VecDeque,
    fmt::{self, Formatter},
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{Answer, Unlisted};
use crate::view::connections::Question;

/// Questions that wait while one is being answered.
const WAITING: usize = 4;

/// After an answer, nothing is read for so many times as long as it took.
const REST: u32 = 9;

/// Longer than this, what took so long was waiting rather than work.
const LONGEST_REST: Duration = Duration::from_secs(5);

type Render<T> = Box<dyn FnOnce(Answer) -> T + Send>;
type Tell<T> = Box<dyn FnOnce(T) + Send>;

struct Job<T> {
    question: Question,
    /// When the last of those who ask has left.
    until: Instant,
    render: Render<T>,
    tell: Vec<Tell<T>>,
}

/// What is handed in, and what becomes of it.
struct Queue<T> {
    waiting: VecDeque<Job<T>>,
    /// Nothing is read before.
    rests_until: Instant,
    /// Nobody will ask any more.
    is_left: bool,
    /// Nobody will answer any more.
    is_over: bool,
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    changed: Condvar,
}

/// Its thread ends with it.
pub struct Desk<T>(Arc<Shared<T>>);

impl<T> fmt::Debug for Desk<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl<T: Clone + 'static> Desk<T> {
    /// Starts the thread, in the network namespace of the calling one.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn open(
        mut read: impl FnMut(&Question, Instant) -> Answer + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                rests_until: Instant::now(),
                is_left: false,
                is_over: false,
            }),
            changed: Condvar::new(),
        });
        let desk = Self(Arc::clone(&shared));
        thread::Builder::new()
            .name("connections".to_owned())
            .spawn(move || {
                let serving = Serving(&shared);
                while let Some(job) = serving.next() {
                    let began = Instant::now();
                    let told = (job.render)(read(&job.question, job.until));
                    for tell in job.tell {
                        tell(told.clone());
                    }
                    let now = Instant::now();
                    shared.queue().rests_until = now + rest(now - began);
                }
            })?;
        Ok(desk)
    }

    /// Hands a question in. `tell` is called on the desk's thread with what `render` made of the
    /// answer, or somebody else's who asked the same, unless its turn does not come before `until`.
    ///
    /// # Errors
    /// When too many wait already, or nothing will be read for most of the time until `until`.
    pub fn ask(
        &self,
        question: Question,
        until: Instant,
        render: impl FnOnce(Answer) -> T + Send + 'static,
        tell: impl FnOnce(T) + Send + 'static,
    ) -> Result<(), Unlisted> {
        let mut queue = self.0.queue();
        if queue.is_over {
            return Err(Unlisted {
                error: "the thread that reads connections has ended".to_owned(),
                hint: "restart the daemon, whose log says why".to_owned(),
            });
        }
        let now = Instant::now();
        let left = queue.rests_until.saturating_duration_since(now);
        // It also takes a while to read them.
        if left > until.saturating_duration_since(now) / 2 {
            return Err(Unlisted {
                error: "connections have just been read, which took long".to_owned(),
                hint: format!("ask again in {} seconds", left.as_secs() + 1),
            });
        }
        let mut waiting = queue.waiting.iter_mut();
        if let Some(same) = waiting.find(|job| job.question == question) {
            same.until = same.until.max(until);
            same.tell.push(Box::new(tell));
            return Ok(());
        }
        if queue.waiting.len() == WAITING {
            return Err(Unlisted {
                error: "others are being told of connections, and more wait".to_owned(),
                hint: "ask again in a second".to_owned(),
            });
        }
        queue.waiting.push_back(Job {
            question,
            until,
            render: Box::new(render),
            tell: vec![Box::new(tell)],
        });
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<T> Drop for Desk<T> {
    fn drop(&mut self) {
        self.0.queue().is_left = true;
        self.0.changed.notify_one();
    }
}

impl<T> Shared<T> {
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's side. Nobody waits for it once it has ended, by whatever way.
struct Serving<'s, T>(&'s Shared<T>);

impl<T> Serving<'_, T> {
    /// The next question that somebody waits for, when it may be read.
    fn next(&self) -> Option<Job<T>> {
        let mut queue = self.0.queue();
        loop {
            if queue.is_left {
                return None;
            }
            let now = Instant::now();
            let rest = queue.rests_until.saturating_duration_since(now);
            if rest.is_zero() {
                // Who has waited for so long has left.
                queue.waiting.retain(|job| now < job.until);
                if let Some(job) = queue.waiting.pop_front() {
                    return Some(job);
                }
            }
            let changed = &self.0.changed;
            queue = if rest.is_zero() {
                changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = changed.wait_timeout(queue, rest);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

impl<T> Drop for Serving<'_, T> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.is_over = true;
        queue.waiting.clear();
    }
}

/// How long nothing is read after what `took` so long.
fn rest(took: Duration) -> Duration {
    took.saturating_mul(REST).min(LONGEST_REST)
}

#[cfg(test)]
mod tests;
