//! One listener of the ledger: what its samples add up to. Knows nothing of other listeners.

use std::time::SystemTime;

use super::{
    QueueHistory,
    attribution::{Award, Claim},
    recent::Recent,
};
use crate::{
    ids::{Cookie, Monotonic},
    snapshot::{ListenSocket, QueuePeak},
};

/// One listener.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) history: QueueHistory,
    cookie: Option<Cookie>,
    /// Of the last sample.
    pub(super) queued: Option<u32>,
    limit: Option<u32>,
    drops: Option<u32>,
    overflows: u64,
    /// What it shows of the running interval.
    pub(super) interval: Claim,
    recent: Recent,
    /// Longest queue of the running step of the history.
    pub(super) step_peak: Option<u32>,
    /// Whether an arrival went unseen since the peak was last forgotten; `None` until told.
    all_arrivals_seen: Option<bool>,
    /// Number of the last sample that had it.
    pub(super) generation: u64,
    pub(super) seen: Monotonic,
    /// A complete sample lacked it.
    pub(super) missing: bool,
}

impl Entry {
    pub(super) fn new(is_new: bool) -> Self {
        Self {
            history: QueueHistory {
                overflows_exact: true,
                ..QueueHistory::default()
            },
            cookie: None,
            queued: None,
            limit: None,
            // One that was made after the last sample began with none.
            drops: is_new.then_some(0),
            overflows: 0,
            interval: Claim::default(),
            recent: Recent::default(),
            step_peak: None,
            all_arrivals_seen: None,
            generation: 0,
            seen: Monotonic::from_nanos(0),
            missing: false,
        }
    }

    /// Whether the socket is still the same one; an inode number may come back.
    pub(super) fn is_of(&self, cookie: Option<Cookie>) -> bool {
        match (self.cookie, cookie) {
            (Some(known), Some(cookie)) => known == cookie,
            _ => true,
        }
    }

    pub(super) fn observe(&mut self, socket: &ListenSocket, taken: Monotonic, wall: SystemTime) {
        let ListenSocket {
            address: _,
            cookie,
            queued,
            limit,
            drops,
            bound_path: _,
        } = *socket;
        let risen = match (self.drops, drops) {
            (Some(before), Some(drops)) => u64::from(drops.wrapping_sub(before)),
            _ => 0,
        };
        self.interval.drops += risen;
        let history = &mut self.history;
        history.drops_total = match (history.drops_total, drops) {
            (Some(total), Some(_)) => Some(total + risen),
            (total, drops) => total.or(drops.map(u64::from)),
        };
        self.cookie = cookie.or(self.cookie);
        self.queued = queued;
        self.limit = limit;
        self.drops = drops;
        self.seen = taken;
        self.missing = false;
        self.mark_fullness();
        let history = &mut self.history;
        history.full_since = match (queued, limit) {
            (Some(queued), Some(limit)) if queued > limit => history.full_since.or(Some(wall)),
            _ => None,
        };
        history.waiting_since = queued
            .filter(|queued| *queued > 0)
            .and(history.waiting_since.or(Some(wall)));
        if let Some(queued) = queued {
            self.raise_peak(queued, taken, wall);
        }
    }

    fn raise_peak(&mut self, length: u32, at: Monotonic, wall: SystemTime) {
        self.recent.record_queued(at, length);
        self.step_peak = self.step_peak.max(Some(length));
        let history = &mut self.history;
        if history.peak.is_none_or(|peak| length > peak) {
            history.peak = Some(length);
            history.peak_at = Some(wall);
        }
    }

    /// Every arrival since the last call was seen; `longest` is the longest queue of them.
    pub(super) fn arrivals_seen(
        &mut self,
        longest: Option<QueuePeak>,
        now: Monotonic,
        wall: SystemTime,
    ) {
        self.history.peak_exact = *self.all_arrivals_seen.get_or_insert(true);
        let Some(QueuePeak { length, at }) = longest else {
            return;
        };
        let wall = wall.checked_sub(now.since(at)).unwrap_or(wall);
        self.raise_peak(length, at, wall);
        self.history.recent_peak = self.recent.peak(now);
    }

    pub(super) fn arrivals_unseen(&mut self) {
        self.all_arrivals_seen = Some(false);
        self.history.peak_exact = false;
    }

    pub(super) fn forget_peak(&mut self, wall: Option<SystemTime>) {
        self.history.peak = self.queued;
        self.history.peak_at = self.queued.and(wall);
        self.all_arrivals_seen = None;
    }

    /// The kernel drops while the queue is longer than its limit (`sk_acceptq_is_full`).
    fn mark_fullness(&mut self) {
        if let (Some(queued), Some(limit)) = (self.queued, self.limit) {
            self.interval.full |= queued > limit;
            self.interval.at_limit |= queued >= limit;
        }
    }

    /// An interval begins as the last one ended.
    pub(super) fn begin_interval(&mut self) {
        self.interval = Claim {
            defers: self.interval.defers,
            pending: self.interval.pending,
            ..Claim::default()
        };
        self.mark_fullness();
    }

    pub(super) fn take(&mut self, award: Award, taken: Monotonic, wall: SystemTime) {
        let Award {
            overflows,
            exact,
            defers,
            pending,
        } = award;
        self.interval.pending = pending;
        if defers {
            self.interval.defers = true;
            self.history.defer_accept = Some(true);
        }
        if overflows > 0 {
            self.overflows += overflows;
            self.history.overflows_exact &= exact;
            self.history.last_overflow = Some(wall);
            self.recent.record_overflows(taken, overflows);
        }
    }

    pub(super) fn publish(&mut self, counter_known: bool, taken: Monotonic) {
        let known = counter_known && self.drops.is_some();
        self.history.overflows = known.then_some(self.overflows);
        self.history.recent_overflows = known.then(|| self.recent.overflows(taken));
        self.history.recent_peak = self.recent.peak(taken);
    }
}
