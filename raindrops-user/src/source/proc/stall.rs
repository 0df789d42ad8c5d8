//! Since when a thread has been unable to run: a decision without a clock, of two looks at it.
//!
//! Looks are a second apart, and a healthy thread that reads from a disk is in D now and then. That
//! two looks find it so says little; that it has not got a processor in between says that it was so
//! all the time. The looks themselves are the ledger: each hands on what the one before found.

use crate::{
    ids::Monotonic,
    snapshot::{Stall, Thread},
};

/// `now`: of a look that found the thread unable to run. `before`: what the look before found under
/// its id.
pub(super) fn stall(
    now: Monotonic,
    thread: &Thread,
    runs: Option<u64>,
    before: Option<&Thread>,
) -> Stall {
    let since = before
        .filter(|before| before.started == thread.started && before.state == thread.state)
        .and_then(|before| before.stall)
        .filter(|stall| match (stall.runs, runs) {
            (Some(before), Some(now)) => before == now,
            _ => true,
        })
        .map_or(now, |stall| stall.since);
    Stall { since, runs }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::stall;
    use crate::{
        ids::{Monotonic, StartTicks},
        snapshot::{Stall, Thread},
    };

    const fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn thread(started: u64, state: char, stall: Option<Stall>) -> Thread {
        Thread {
            started: StartTicks(started),
            comm: b"ruby".to_vec(),
            state,
            stall,
        }
    }

    #[test]
    fn lasts_while_each_look_finds_the_same_state_of_a_thread_that_has_not_run() {
        let stalled = |runs| Some(Stall { since: at(3), runs });
        for (before, state, runs, since) in [
            (None, 'T', Some(7), 9),
            (Some((1, 'S', None)), 'T', Some(7), 9),
            (Some((1, 'T', stalled(Some(7)))), 'T', Some(7), 3),
            (Some((1, 'D', stalled(Some(7)))), 'D', Some(7), 3),
            // It has been in D twice.
            (Some((1, 'D', stalled(Some(7)))), 'D', Some(8), 9),
            // Stopped, then traced.
            (Some((1, 'T', stalled(Some(7)))), 't', Some(7), 9),
            // Another thread, by the same id.
            (Some((2, 'T', stalled(Some(7)))), 'T', Some(7), 9),
            // The kernel does not tell, or only now.
            (Some((1, 'T', stalled(None))), 'T', None, 3),
            (Some((1, 'T', stalled(None))), 'T', Some(7), 3),
        ] {
            let before = before.map(|(started, state, stall)| thread(started, state, stall));
            let now = thread(1, state, None);
            let expected = Stall {
                since: at(since),
                runs,
            };
            let found = stall(at(9), &now, runs, before.as_ref());
            assert_eq!(found, expected, "{before:?} {state} {runs:?}");
        }
    }
}
