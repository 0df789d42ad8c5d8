//! Which row comes first.

use std::cmp::Reverse;

use super::super::past::Figures;
use crate::{
    diagnose::Diagnosis,
    render::text::listeners::{place, trouble, worst},
    view::{Listener, Worker},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::top) enum Order {
    /// Who needs somebody first.
    Trouble,
    Queue,
    Overflows,
    Wait,
    Accepts,
    Address,
}

impl Order {
    const ALL: [Self; 6] = [
        Self::Trouble,
        Self::Queue,
        Self::Overflows,
        Self::Wait,
        Self::Accepts,
        Self::Address,
    ];

    pub(super) fn next(self) -> Self {
        self.shifted(1)
    }

    pub(super) fn before(self) -> Self {
        self.shifted(Self::ALL.len() - 1)
    }

    fn shifted(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|it| *it == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }

    pub(in crate::top) const fn name(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Queue => "queue",
            Self::Overflows => "overflows",
            Self::Wait => "wait",
            Self::Accepts => "accepts",
            Self::Address => "address",
        }
    }

    pub(super) fn sort(self, listeners: &mut [&Listener], diagnosis: &Diagnosis) {
        listeners.sort_by_cached_key(|it| {
            let severity = match self {
                Self::Trouble => worst(it, &diagnosis.verdicts),
                _ => None,
            };
            let rank = if self == Self::Address {
                0
            } else {
                trouble(it)
            };
            (
                Reverse(self.amounts(it)),
                Reverse(severity),
                rank,
                place(it),
            )
        });
    }

    /// What decides before all else, the most first.
    fn amounts(self, listener: &Listener) -> (Option<u64>, Option<u64>) {
        let recent = &listener.recent;
        match self {
            Self::Trouble | Self::Address => (None, None),
            Self::Queue => (listener.queue.queued.map(u64::from), None),
            Self::Overflows => (recent.overflows, listener.queue.overflows),
            Self::Wait => (recent.wait.as_ref().and_then(|it| it.p99_us), None),
            Self::Accepts => (recent.accepts_per_s.map(hourly), None),
        }
    }

    /// What was, in the same order as far as it is known.
    pub(super) fn of_past(self, figures: &Figures) -> Reverse<(Option<u64>, Option<u64>)> {
        let wide = |it: Option<u32>| it.map(u64::from);
        Reverse(match self {
            Self::Trouble => (wide(figures.overflows), wide(figures.queued)),
            Self::Queue => (wide(figures.queued), None),
            Self::Overflows => (wide(figures.overflows), None),
            Self::Wait => (wide(figures.wait_p99_us), None),
            Self::Accepts => (figures.accepts_per_s.map(|it| hourly(f64::from(it))), None),
            Self::Address => (None, None),
        })
    }

    /// The oldest turn is a worker's trouble; its place is its number.
    pub(super) fn sort_workers(self, workers: &mut [&Worker]) {
        workers.sort_by_key(|it| {
            let turns = it.turns.as_ref();
            let amount = match self {
                Self::Trouble | Self::Wait => turns.and_then(|it| it.oldest_us),
                Self::Queue | Self::Overflows => turns.and_then(|it| it.waiting),
                Self::Accepts => it.accepts,
                Self::Address => None,
            };
            let is_stuck = self == Self::Trouble && it.stalled.is_some();
            (Reverse(is_stuck), Reverse(amount), it.index, it.pid)
        });
    }
}

/// A rate that has an order.
fn hourly(per_s: f64) -> u64 {
    (per_s * 3_600.0) as u64
}
