//! What goes on from one view to the next, so that series do.
//!
//! A counter that falls looks to Prometheus like a restart: all that is left then counts as new. So
//! what a socket has counted stays in the sum of its address when it closes, and what a worker has
//! counted at a listener that it has left. Labels stay what they were while nobody can say what they
//! are: in an incident, when all workers are gone, a series must not begin anew. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    listeners::{Key, Totals, by_key},
    workers::{Place, Who},
};
use crate::view::{Listener, View, Worker};

/// Sockets of an address that are gone and might be back: a reading can have missed them.
const APART: usize = 64;
/// How long an address may be without a socket and go on when it is back.
const AWAY_NS: u64 = 300 * 1_000_000_000;
/// How many such addresses there may be.
const MOST_AWAY: usize = 256;

/// What views before this one have to say.
#[derive(Clone, Debug, Default)]
pub struct Continuity {
    listeners: BTreeMap<Key, Kept>,
    servers: BTreeMap<String, Place>,
    /// What a process has counted and its figures do not tell any more.
    workers: BTreeMap<u32, Left>,
    gaps: BTreeMap<String, u64>,
}

/// Of one address.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) place: Place,
    /// The last figures of sockets that are gone.
    gone: VecDeque<(String, Totals)>,
    /// The sum of more of them.
    long_gone: Option<Totals>,
    seen_ns: u64,
}

#[derive(Clone, Debug, Default)]
struct Left {
    /// Of listeners that it does not serve any more, by their ids.
    accepts: BTreeMap<String, u64>,
    turns: u64,
}

impl Left {
    fn is_something(&self) -> bool {
        self.turns != 0 || self.accepts.values().any(|accepts| *accepts != 0)
    }
}

impl Kept {
    /// The figures of an address, those of its former sockets included.
    pub(super) fn on_top_of(&self, totals: Totals) -> Totals {
        let gone = self.gone.iter().map(|(_, totals)| totals);
        gone.chain(&self.long_gone)
            .fold(totals, |sum, gone| sum.and(gone))
    }

    fn has_counted(&self) -> bool {
        !self.gone.is_empty() || self.long_gone.is_some()
    }

    fn part_with(&mut self, listener: &Listener) {
        let totals = Totals::of(listener);
        self.gone.push_back((listener.id.clone(), totals));
        while self.gone.len() > APART
            && let Some((_, oldest)) = self.gone.pop_front()
        {
            self.long_gone = Some(match self.long_gone.take() {
                Some(before) => before.either(&oldest),
                None => oldest,
            });
        }
    }
}

impl Continuity {
    /// Of the first view.
    #[must_use]
    pub fn of(view: &View) -> Self {
        let mut first = Self::default();
        first.take(&Self::default(), None, view);
        first
    }

    /// Of a view that comes after `before`, which these are of.
    #[must_use]
    pub fn next(&self, before: &View, view: &View) -> Self {
        let mut next = Self::default();
        next.take(self, Some(before), view);
        next
    }

    fn take(&mut self, last: &Self, before: Option<&View>, view: &View) {
        let who = Who::of(view);
        for server in &view.servers {
            let workers = server.workers.iter().copied();
            let kept = last.servers.get(&server.id);
            let place = who.place(workers, kept, Some(&server.id));
            self.servers.insert(server.id.clone(), place);
        }
        self.take_listeners(last, before, view, &who);
        self.take_workers(last, before, view);
        self.gaps.clone_from(&last.gaps);
        let mut now: BTreeMap<&str, u64> = BTreeMap::new();
        for gap in &view.gaps {
            let count = now.entry(&gap.what).or_default();
            *count = count.saturating_add(gap.count);
        }
        for (what, count) in now {
            let most = self.gaps.entry(what.to_owned()).or_default();
            *most = (*most).max(count);
        }
    }

    fn take_listeners(&mut self, last: &Self, before: Option<&View>, view: &View, who: &Who<'_>) {
        let there: BTreeSet<&str> = view.listeners.iter().map(|it| it.id.as_str()).collect();
        let before = before.map(by_key).unwrap_or_default();
        let is_gone = |listener: &&&Listener| !there.contains(listener.id.as_str());
        let is_recent = |kept: &Kept| view.monotonic_ns.saturating_sub(kept.seen_ns) < AWAY_NS;
        let mut now = by_key(view);
        let mut away = Vec::new();
        for (key, members) in &before {
            if !now.contains_key(key) {
                let mut kept = last.listeners.get(key).cloned().unwrap_or_default();
                // One socket that ends ends its series, and a new one begins at 0.
                if members.len() > 1 || kept.has_counted() {
                    members.iter().for_each(|it| kept.part_with(it));
                    away.push((key.clone(), kept));
                }
            }
        }
        let others = last
            .listeners
            .iter()
            .filter(|(key, _)| !now.contains_key(key) && !before.contains_key(key));
        away.extend(others.map(|(key, kept)| (key.clone(), kept.clone())));
        away.retain(|(_, kept)| is_recent(kept));
        away.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.seen_ns));
        away.truncate(MOST_AWAY);
        self.listeners.extend(away);
        while let Some((key, members)) = now.pop_first() {
            let kept = last.listeners.get(&key).filter(|kept| is_recent(kept));
            let mut kept = kept.cloned().unwrap_or_default();
            let parted = before.get(&key).into_iter().flatten().filter(is_gone);
            parted.for_each(|it| kept.part_with(it));
            kept.gone.retain(|(id, _)| !there.contains(id.as_str()));
            kept.seen_ns = view.monotonic_ns;
            kept.place = self.place_of(&kept.place, &members, who);
            self.listeners.insert(key, kept);
        }
    }

    fn place_of(&self, kept: &Place, members: &[&Listener], who: &Who<'_>) -> Place {
        let workers = members.iter().flat_map(|it| it.workers.iter().flatten());
        let server = members.iter().find_map(|it| it.server.value());
        let of_server = server.and_then(|server| self.servers.get(server));
        let known = if *kept == Place::default() {
            of_server
        } else {
            Some(kept)
        };
        who.place(workers.copied(), known, server.map(String::as_str))
    }

    fn take_workers(&mut self, last: &Self, before: Option<&View>, view: &View) {
        let before: BTreeMap<u32, &Worker> = before
            .into_iter()
            .flat_map(|view| &view.workers)
            .map(|worker| (worker.pid, worker))
            .collect();
        for worker in &view.workers {
            let Some(was) = before.get(&worker.pid) else {
                continue;
            };
            if was.started_at != worker.started_at {
                continue;
            }
            let mut left = last.workers.get(&worker.pid).cloned().unwrap_or_default();
            for part in &was.listeners {
                left.accepts
                    .insert(part.id.clone(), part.accepts.unwrap_or(0));
            }
            for part in &worker.listeners {
                left.accepts.remove(&part.id);
            }
            let total = |worker: &Worker| worker.turns.as_ref().map(|turns| turns.total);
            if let (Some(was), Some(now)) = (total(was), total(worker)) {
                left.turns += was.saturating_sub(now);
            }
            if left.is_something() {
                self.workers.insert(worker.pid, left);
            }
        }
    }

    pub(super) fn of_listener(&self, key: &Key) -> Option<&Kept> {
        self.listeners.get(key)
    }

    /// Accepts of a process that its figures do not tell any more.
    pub(super) fn accepts_left(&self, pid: u32) -> u64 {
        let left = self.workers.get(&pid);
        left.map_or(0, |left| left.accepts.values().sum())
    }

    /// The same of its turns.
    pub(super) fn turns_left(&self, pid: u32) -> u64 {
        self.workers.get(&pid).map_or(0, |left| left.turns)
    }

    pub(super) fn of_server(&self, id: &str) -> Place {
        self.servers.get(id).cloned().unwrap_or_default()
    }

    /// The most that was missing at one time, which of what is only ever added to is the total.
    pub(super) const fn gaps(&self) -> &BTreeMap<String, u64> {
        &self.gaps
    }
}

#[cfg(test)]
mod tests;
