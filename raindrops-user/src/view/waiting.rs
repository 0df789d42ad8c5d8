//! Since when connections have been waiting for a thread, from one view to the next. Pure.
//!
//! A single look cannot tell whether what waits has just come; every look finding some can.

use std::{collections::BTreeMap, time::SystemTime};

use super::View;

/// What the last view showed as waiting, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// By id.
    listeners: BTreeMap<String, SystemTime>,
    /// By process and start.
    workers: BTreeMap<(u32, Option<SystemTime>), SystemTime>,
}

impl Waiting {
    /// Writes into a view since when every look has found something waiting. What is not known to wait
    /// now begins anew.
    pub fn carry(&mut self, view: &mut View) {
        let now = view.taken_at;
        let since = |waiting: Option<u64>, before: Option<&SystemTime>| {
            waiting
                .filter(|waiting| *waiting > 0)
                .map(|_| before.copied().unwrap_or(now))
        };
        let before = std::mem::take(self);
        for listener in &mut view.listeners {
            let Some(turns) = &mut listener.turns else {
                continue;
            };
            turns.waiting_since = since(turns.waiting, before.listeners.get(&listener.id));
            let known = turns.waiting_since.map(|at| (listener.id.clone(), at));
            self.listeners.extend(known);
        }
        for worker in &mut view.workers {
            let key = (worker.pid, worker.started_at);
            let Some(turns) = &mut worker.turns else {
                continue;
            };
            turns.waiting_since = since(turns.waiting, before.workers.get(&key));
            self.workers.extend(turns.waiting_since.map(|at| (key, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Waiting;
    use crate::view::View;

    #[test]
    fn waiting_is_told_since_the_first_of_the_looks_that_found_some() {
        let mut view: View =
            serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap();
        let began = view.taken_at;
        let mut waiting = Waiting::default();
        for (second, count, expected) in [
            (0, Some(0), None),
            (1, Some(2), Some(1)),
            (2, Some(1), Some(1)),
            (3, None, None),
            (4, Some(5), Some(4)),
            (5, Some(0), None),
        ] {
            view.taken_at = began + Duration::from_secs(second);
            let turns = view.workers[0].turns.as_mut().unwrap();
            turns.waiting = count;
            let id = view.listeners.iter_mut().find(|it| it.turns.is_some());
            id.unwrap().turns.as_mut().unwrap().waiting = count;
            waiting.carry(&mut view);
            let expected = expected.map(|second| began + Duration::from_secs(second));
            let of_worker = view.workers[0].turns.as_ref().unwrap().waiting_since;
            let listener = view.listeners.iter().find(|it| it.turns.is_some());
            let of_listener = listener.unwrap().turns.as_ref().unwrap().waiting_since;
            assert_eq!((of_worker, of_listener), (expected, expected), "{second}");
        }
    }
}
