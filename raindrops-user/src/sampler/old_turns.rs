//! Which threads are worth a look at what they are at: those at turns that are old.
//!
//! Told from the last view, because turns are known when it is merged; the answer is in a later one.

use std::collections::BTreeSet;

use crate::{
    ids::{Pid, Tid},
    source::proc::MOST_ASKED,
    view::Worker,
};

/// A turn that takes longer may be stuck, in microseconds.
const OLD_US: u64 = 1_000_000;

/// Of each worker the thread at its oldest turn, where that is old; as many as may be asked about.
pub(super) fn old_turns(workers: &[Worker]) -> BTreeSet<(Pid, Tid)> {
    let mut found: Vec<(u64, Pid, Tid)> = workers
        .iter()
        .filter_map(|worker| {
            let turns = worker.turns.as_ref()?;
            let age = turns.oldest_us.filter(|age| *age >= OLD_US)?;
            Some((age, Pid(worker.pid), Tid(turns.oldest_thread?)))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    let found = found.into_iter().take(MOST_ASKED);
    found.map(|(_, pid, tid)| (pid, tid)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::old_turns;
    use crate::{
        ids::{Pid, Tid},
        view::Worker,
    };

    fn worker(pid: u32, oldest_us: Option<u64>, thread: Option<u32>) -> Worker {
        let worker = json!({
            "pid": pid, "comm": "ruby", "title": "ruby", "index": null, "state": "S",
            "listeners": [],
            "turns": {
                "total": 1, "answer": {"count": 0, "sum_us": 0, "max_us": 0},
                "oldest_us": oldest_us, "oldest_thread": thread,
            },
        });
        serde_json::from_value(worker).unwrap()
    }

    #[test]
    fn asks_for_threads_at_old_turns() {
        let without_turns = Worker {
            turns: None,
            ..worker(1, None, None)
        };
        let workers = [
            without_turns,
            worker(2, None, None),
            worker(3, Some(999_999), Some(3)),
            worker(4, Some(1_000_000), Some(44)),
            worker(5, Some(2_000_000), None),
        ];
        assert_eq!(old_turns(&workers), [(Pid(4), Tid(44))].into());
    }

    #[test]
    fn asks_for_the_oldest_where_there_are_too_many() {
        let workers: Vec<Worker> = (1..=40)
            .map(|pid| worker(pid, Some(1_000_000 + u64::from(pid)), Some(pid)))
            .collect();
        let oldest: BTreeSet<_> = (25..=40).map(|pid| (Pid(pid), Tid(pid))).collect();
        assert_eq!(old_turns(&workers), oldest);
    }
}
