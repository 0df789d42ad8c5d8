//! The last ten seconds, from marks set once a second.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use raindrops_ebpf::miss::Miss;

use super::durations::Counts;
use crate::{
    ids::{Monotonic, Pid, StartTicks},
    snapshot::{BpfSnapshot, ListenerCounts, ListenerKey, WorkerKey},
};

/// How far back recent figures reach.
pub const WINDOW: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_secs(1);

/// Totals of one listener at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Totals {
    accepts: u64,
    closes: u64,
    /// At that time.
    half_closed: u64,
    wait: Counts,
    /// `None` where turns are not followed.
    answer: Option<Counts>,
}

impl Totals {
    fn of(snapshot: &BpfSnapshot, key: &ListenerKey, counts: &ListenerCounts) -> Self {
        let turns = snapshot.turns.as_ref();
        let turns = turns.and_then(|turns| turns.listeners.get(key));
        Self {
            accepts: counts.accepts(),
            closes: counts.closes(),
            half_closed: counts.half_closed,
            wait: Counts::of(&counts.wait),
            answer: turns.map(|turns| Counts::of(&turns.answer)),
        }
    }
}

#[derive(Clone, Debug)]
struct Mark {
    at: Monotonic,
    listeners: BTreeMap<ListenerKey, Totals>,
    /// Accepts.
    workers: BTreeMap<WorkerKey, u64>,
}

/// Marks of the last ten seconds, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Marks(VecDeque<Mark>);

/// What one listener did in the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub over: Duration,
    pub accepts: u64,
    pub closes: u64,
    /// The fewest at any mark, and now.
    pub half_closed_least: u64,
    pub wait: Counts,
    /// Of turns that were answered; `None` where turns are not followed.
    pub answer: Option<Counts>,
}

impl Marks {
    /// Takes note of a snapshot, at most once a second.
    pub fn note(&mut self, snapshot: &BpfSnapshot) {
        let at = snapshot.taken;
        if self.0.back().is_some_and(|last| at.since(last.at) < STEP) {
            return;
        }
        let listeners = snapshot
            .listeners
            .iter()
            .map(|(key, counts)| (*key, Totals::of(snapshot, key, counts)))
            .collect();
        let workers = snapshot
            .workers
            .iter()
            .map(|(key, counts)| (*key, counts.accepts))
            .collect();
        self.0.push_back(Mark {
            at,
            listeners,
            workers,
        });
        // The first mark stays until the second is old enough to reach over the window.
        while self
            .0
            .get(1)
            .is_some_and(|second| at.since(second.at) >= WINDOW)
        {
            self.0.pop_front();
        }
    }

    /// How far back the marks reach.
    #[must_use]
    pub fn reach(&self, now: Monotonic) -> Duration {
        self.0
            .front()
            .map_or(Duration::ZERO, |first| now.since(first.at))
    }

    /// What a listener has done since the oldest mark; one that was not there then began at zero.
    #[must_use]
    pub fn change(&self, snapshot: &BpfSnapshot, key: &ListenerKey) -> Option<Change> {
        let now = Totals::of(snapshot, key, snapshot.listeners.get(key)?);
        let first = self.0.front()?;
        let over = snapshot.taken.since(first.at);
        let half_closed = |mark: &Mark| mark.listeners.get(key).map_or(0, |it| it.half_closed);
        let half_closed_least = self
            .0
            .iter()
            .map(half_closed)
            .fold(now.half_closed, u64::min);
        Some(match first.listeners.get(key) {
            Some(before) => Change {
                over,
                accepts: now.accepts.saturating_sub(before.accepts),
                closes: now.closes.saturating_sub(before.closes),
                half_closed_least,
                wait: now.wait.since(&before.wait),
                answer: match (now.answer, &before.answer) {
                    (Some(now), Some(before)) => Some(now.since(before)),
                    (now, _) => now,
                },
            },
            None => Change {
                over,
                accepts: now.accepts,
                closes: now.closes,
                half_closed_least,
                wait: now.wait,
                answer: now.answer,
            },
        })
    }

    /// How many connections each of these workers has accepted from some listeners since the oldest
    /// mark, and how long ago that was. One that had not accepted then began at zero; `None` where
    /// some may have accepted without being counted.
    #[must_use]
    pub fn accepts_by_worker(
        &self,
        snapshot: &BpfSnapshot,
        workers: &BTreeMap<Pid, StartTicks>,
        is_wanted: impl Fn(&ListenerKey) -> bool,
    ) -> Option<(BTreeMap<Pid, u64>, Duration)> {
        if snapshot.misses.contains_key(&Miss::WorkersFull) {
            return None;
        }
        let first = self.0.front()?;
        let mut accepts: BTreeMap<Pid, u64> = workers.keys().map(|pid| (*pid, 0)).collect();
        for (key, counts) in &snapshot.workers {
            if !is_wanted(&key.listener) || workers.get(&key.pid) != Some(&key.started) {
                continue;
            }
            if let Some(sum) = accepts.get_mut(&key.pid) {
                let before = first.workers.get(key).copied().unwrap_or(0);
                *sum += counts.accepts.saturating_sub(before);
            }
        }
        Some((accepts, snapshot.taken.since(first.at)))
    }
}

#[cfg(test)]
mod tests {
    use raindrops_ebpf::histogram::Histogram;

    use super::*;
    use crate::{
        ids::{Inode, NetnsId},
        snapshot::ListenerCounts,
    };

    const KEY: ListenerKey = ListenerKey {
        netns: NetnsId(1),
        inode: Inode(2),
    };

    fn snapshot(seconds: f64, accepts: u64) -> BpfSnapshot {
        let mut wait = Histogram::EMPTY;
        wait.buckets[30] = accepts;
        let counts = ListenerCounts {
            wait,
            ..ListenerCounts::UNTOUCHED
        };
        BpfSnapshot {
            turns: None,
            taken: Monotonic(Duration::from_secs_f64(seconds)),
            listeners: BTreeMap::from([(KEY, counts)]),
            workers: BTreeMap::new(),
            misses: BTreeMap::new(),
            skipped_accepts: 0,
            sees_arrivals: true,
        }
    }

    #[test]
    fn the_window_slides() {
        let mut marks = Marks::default();
        for tenth in 0..300 {
            marks.note(&snapshot(f64::from(tenth) / 10.0, u64::from(tenth as u32)));
        }
        let now = snapshot(29.95, 300);
        let change = marks.change(&now, &KEY).unwrap();
        assert!(
            change.over >= WINDOW && change.over < WINDOW + 2 * STEP,
            "{:?}",
            change.over
        );
        let expected = (change.over.as_secs_f64() * 10.0).round() as u64;
        assert!(
            change.accepts.abs_diff(expected) <= 1,
            "{} for {expected}",
            change.accepts
        );
        assert_eq!(change.wait.total(), change.accepts);
    }

    #[test]
    fn the_fewest_half_closed_are_those_of_any_mark() {
        let half_closed = |seconds: f64, count: u64| {
            let mut snapshot = snapshot(seconds, 100);
            snapshot.listeners.get_mut(&KEY).unwrap().half_closed = count;
            snapshot
        };
        let mut marks = Marks::default();
        for (second, count) in [(0.0, 30), (1.0, 22), (2.0, 40)] {
            marks.note(&half_closed(second, count));
        }
        let least = |now: u64| {
            let change = marks.change(&half_closed(2.5, now), &KEY);
            change.unwrap().half_closed_least
        };
        assert_eq!([least(50), least(21)], [22, 21]);
    }

    #[test]
    fn a_new_listener_began_at_zero() {
        let mut marks = Marks::default();
        let mut empty = snapshot(0.0, 0);
        empty.listeners.clear();
        marks.note(&empty);
        assert_eq!(marks.change(&snapshot(0.5, 7), &KEY).unwrap().accepts, 7);
    }
}
