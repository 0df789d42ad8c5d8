//! What is kept of one address, and of one worker.
//!
//! Apart from [`super`], which decides what is kept of which view.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use super::super::{bound::Rank, listeners::Totals, workers::Place};
use crate::view::{Listener, Worker};

/// Sockets of an address, and listeners of a worker, that are gone and are told apart.
pub(super) const APART: usize = 64;

/// Of one address.
#[derive(Clone, Debug, Default)]
pub(in crate::render::openmetrics) struct Kept {
    pub(in crate::render::openmetrics) place: Place,
    /// Each of its sockets has a line of its own.
    pub(in crate::render::openmetrics) shows_members: bool,
    pub(super) rank: Rank,
    /// When it last had a socket; `None` while it has one.
    pub(super) away_since_ns: Option<u64>,
    /// Sockets that are gone and might be back: a reading can have missed them.
    pub(super) gone: VecDeque<Arc<Gone>>,
    /// What others have counted that are not there to tell.
    sum: Option<Totals>,
}

/// The last figures of a socket that is gone.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) id: String,
    totals: Totals,
    pub(super) since_ns: u64,
}

impl Kept {
    /// The figures of an address, those of its former sockets included.
    pub(in crate::render::openmetrics) fn on_top_of(&self, totals: Totals) -> Totals {
        let gone = self.gone.iter().map(|gone| &gone.totals);
        gone.chain(&self.sum)
            .fold(totals, |sum, gone| sum.and(gone))
    }

    pub(super) fn has_counted(&self) -> bool {
        !self.gone.is_empty() || self.sum.is_some()
    }

    /// Whether a socket is told apart that is gone.
    pub(super) fn is_missed(&self, id: &str) -> bool {
        self.gone.iter().any(|gone| gone.id == id)
    }

    pub(super) fn part_with(&mut self, listener: &Listener, since_ns: u64) {
        self.gone.push_back(Arc::new(Gone {
            id: listener.id.clone(),
            totals: Totals::of(listener),
            since_ns,
        }));
        while self.gone.len() > APART {
            self.forget_oldest();
        }
    }

    /// Tells those no more apart that are gone since then or longer.
    pub(super) fn forget_until(&mut self, since_ns: u64) {
        while self.has_gone_until(since_ns) {
            self.forget_oldest();
        }
    }

    pub(super) fn has_gone_until(&self, since_ns: u64) -> bool {
        self.gone.front().is_some_and(|it| it.since_ns <= since_ns)
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.gone.pop_front() {
            self.add(&oldest.totals);
        }
    }

    /// One that was missed is back, with what it has counted and is not counted twice.
    pub(super) fn take_back(&mut self, listener: &Listener) {
        let is_it = |gone: &Arc<Gone>| gone.id == listener.id;
        if let Some(index) = self.gone.iter().position(is_it)
            && let Some(gone) = self.gone.remove(index)
        {
            self.add(&gone.totals.less(&Totals::of(listener)));
        }
    }

    /// A socket has begun anew: it was shut down and listens again.
    pub(super) fn begin_anew(&mut self, was: &Listener, now: &Listener) {
        self.add(&Totals::of(was).less(&Totals::of(now)));
    }

    fn add(&mut self, more: &Totals) {
        if more.is_nothing() {
            return;
        }
        self.sum = Some(match self.sum.take() {
            Some(before) => before.either(more),
            None => more.clone(),
        });
    }
}

/// Of one worker that has series.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerKept {
    pub(super) started_at: Option<SystemTime>,
    pub(super) rank: Rank,
    /// Once it was told: a process may give itself any title at any time.
    pub(super) index: Option<u32>,
    /// Accepts on listeners that it does not serve any more, by their ids.
    left: VecDeque<(String, u64)>,
    /// On more of them.
    accepts: u64,
    turns: u64,
}

impl WorkerKept {
    /// The same process one view later; `None` where it leaves nothing behind.
    pub(super) fn after(&self, was: &Worker, now: &Worker) -> Option<Self> {
        let is_served = |id: &str| now.listeners.iter().any(|part| part.id == id);
        let parted = was.listeners.iter().filter(|part| {
            let is_left = part.accepts.is_some_and(|accepts| accepts > 0) && !is_served(&part.id);
            is_left && self.left.iter().all(|(id, _)| *id != part.id)
        });
        let parted: Vec<_> = parted.collect();
        let total = |worker: &Worker| worker.turns.as_ref().map(|turns| turns.total);
        let fallen = total(was).zip(total(now));
        let fallen = fallen.map_or(0, |(was, now)| was.saturating_sub(now));
        let is_back = self.left.iter().any(|(id, _)| is_served(id));
        if parted.is_empty() && fallen == 0 && !is_back {
            return None;
        }
        let mut kept = self.clone();
        kept.left.retain(|(id, _)| !is_served(id));
        let parted = parted.into_iter();
        kept.left
            .extend(parted.map(|part| (part.id.clone(), part.accepts.unwrap_or(0))));
        while kept.left.len() > APART
            && let Some((_, accepts)) = kept.left.pop_front()
        {
            kept.accepts = kept.accepts.saturating_add(accepts);
        }
        kept.turns = kept.turns.saturating_add(fallen);
        Some(kept)
    }

    pub(super) fn accepts(&self) -> u64 {
        let left = self.left.iter().map(|(_, accepts)| *accepts);
        left.fold(self.accepts, u64::saturating_add)
    }

    pub(super) const fn turns(&self) -> u64 {
        self.turns
    }
}
