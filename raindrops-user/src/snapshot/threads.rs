//! The threads of one process, and which of them is stalled.
//!
//! Apart because the choice is made twice: by the reader, which looks at what that thread is at,
//! and by the merge, which shows it. It knows no clock.

use std::{collections::BTreeMap, time::Duration};

use crate::ids::{Monotonic, StartTicks, Tid};

/// The threads that one look at a process found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threads {
    /// When it was looked at.
    pub looked: Monotonic,
    pub by_id: BTreeMap<Tid, Thread>,
    /// None was left out because there are too many, or because it could not be read.
    pub complete: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub started: StartTicks,
    /// Name, at most 15 bytes unless somebody forges `/proc`.
    pub comm: Vec<u8>,
    /// State letter of `/proc/PID/task/TID/stat`.
    pub state: char,
    /// Only where [`cannot_run`].
    pub stall: Option<Stall>,
}

/// How long a thread has been unable to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The first of the looks that all found it in the same state, and without having run since.
    pub since: Monotonic,
    /// How often it had got a processor; `None` where the kernel does not tell.
    pub runs: Option<u64>,
}

/// What a thread is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// State letter.
    pub state: char,
    /// Name of the system call that it is in, or `syscall N` for one that has none.
    pub syscall: Option<String>,
    /// Kernel function that it waits in.
    pub wchan: Option<String>,
}

/// Whether a thread in this state is stopped (T, t) or cannot be interrupted (D).
#[must_use]
pub const fn cannot_run(state: char) -> bool {
    matches!(state, 'D' | 'T' | 't')
}

impl Threads {
    /// The thread that more than one look has found unable to run, and for how long. `preferred` if
    /// it is one, else whichever has been so for the longest, of equal ones the lowest id.
    #[must_use]
    pub fn stalled(&self, preferred: Option<Tid>) -> Option<(Tid, &Thread, Duration)> {
        let stalled = self.by_id.iter().filter_map(|(tid, thread)| {
            let time = self.looked.since(thread.stall?.since);
            (!time.is_zero()).then_some((*tid, thread, time))
        });
        stalled.min_by_key(|&(tid, _, time)| (Some(tid) != preferred, std::cmp::Reverse(time), tid))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Stall, Thread, Threads};
    use crate::ids::{Monotonic, StartTicks, Tid};

    const fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    /// Threads by id, stalled since so many seconds; looked at after 100.
    fn threads(stalls: &[(u32, Option<u64>)]) -> Threads {
        let thread = |&(tid, since): &(u32, Option<u64>)| {
            let stall = since.map(|since| Stall {
                since: at(since),
                runs: None,
            });
            let thread = Thread {
                started: StartTicks(1),
                comm: b"ruby".to_vec(),
                state: if since.is_some() { 'D' } else { 'S' },
                stall,
            };
            (Tid(tid), thread)
        };
        Threads {
            looked: at(100),
            by_id: stalls.iter().map(thread).collect(),
            complete: true,
        }
    }

    #[test]
    fn the_stalled_thread_is_the_preferred_or_the_longest_or_the_lowest() {
        for (stalls, preferred, expected) in [
            (&[][..], None, None),
            (&[(7, None), (8, None)], Some(7), None),
            // Seen so only once.
            (&[(7, Some(100))], Some(7), None),
            (&[(7, None), (8, Some(99))], None, Some((8, 1))),
            (&[(7, Some(90)), (8, Some(80))], None, Some((8, 20))),
            (&[(7, Some(90)), (8, Some(90))], None, Some((7, 10))),
            (&[(7, Some(90)), (8, Some(80))], Some(7), Some((7, 10))),
            (&[(7, None), (8, Some(80))], Some(7), Some((8, 20))),
            (&[(7, Some(100)), (8, Some(80))], Some(7), Some((8, 20))),
        ] {
            let threads = threads(stalls);
            let found = threads.stalled(preferred.map(Tid));
            let found = found.map(|(tid, _, time)| (tid.0, time.as_secs()));
            assert_eq!(found, expected, "{stalls:?} {preferred:?}");
        }
    }
}
