//! What goes on from one view to the next, so that series do.
//!
//! A counter that falls looks to Prometheus like a restart: all that is left then counts as new. So
//! what a socket has counted stays in the sum of its address when it closes, and what a worker has
//! counted at a listener that it has left. Labels stay what they were while nobody can say what they
//! are: in an incident, when all workers are gone, a series must not begin anew. And what has series
//! keeps them, where not everything can.
//!
//! All of it is made at each view, by who samples: what has not changed is shared with the view
//! before.

mod changes;
mod kept;
mod slabs;

use std::{collections::BTreeMap, sync::Arc};

pub(super) use self::kept::Kept;
use self::{
    changes::{Changes, OfAddress, Served},
    kept::WorkerKept,
    slabs::Slabs,
};
use super::{
    bound::{Bounds, Candidate, Chosen, Rank, choose},
    listeners::{Key, by_key},
    sample::Sample,
    workers::{Place, Who},
    write::Labels,
};
use crate::view::{Listener, View, Worker, slabs::Slab};

/// How long an address may be without a socket and go on when it is back, and how long a socket that
/// is gone may be missed.
const AWAY_NS: u64 = 300 * 1_000_000_000;
/// How many such addresses there may be.
const MOST_AWAY: usize = 256;
/// Sockets of all addresses that are gone and told apart.
const MOST_APART: usize = 2048;

/// What views before this one have to say.
#[derive(Clone, Debug, Default)]
pub struct Continuity {
    /// Addresses that have series, and those that had them and may be back.
    listeners: BTreeMap<Key, Arc<Kept>>,
    servers: BTreeMap<String, Place>,
    /// Processes that have series.
    workers: BTreeMap<u32, Arc<WorkerKept>>,
    slabs: Slabs,
    left_out: LeftOut,
    gaps: BTreeMap<String, u64>,
}

/// How many have no series, because there are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) listeners: u64,
    /// Addresses whose sockets have no lines of their own.
    pub(super) members: u64,
    pub(super) workers: u64,
}

impl Continuity {
    /// Of the first view.
    #[must_use]
    pub fn of(view: &View, bounds: Bounds) -> Self {
        let mut first = Self::default();
        first.take(&Self::default(), None, view, bounds);
        first
    }

    /// Of a view that comes after `before`, which these are of.
    #[must_use]
    pub fn next(&self, before: &View, view: &View, bounds: Bounds) -> Self {
        let mut next = Self::default();
        next.take(self, Some(before), view, bounds);
        next
    }

    fn take(&mut self, last: &Self, before: Option<&View>, view: &View, bounds: Bounds) {
        let who = Who::of(view);
        for server in &view.servers {
            let workers = server.workers.iter().copied();
            let kept = last.servers.get(&server.id);
            let place = who.place(workers, kept, Some(&server.id));
            self.servers.insert(server.id.clone(), place);
        }
        let there = by_key(view);
        self.take_listeners(last, before, view, &there, &who, bounds);
        self.take_workers(last, before, view, &there, bounds);
        let of_server = |server: &str| self.servers.get(server).cloned();
        self.slabs = last.slabs.next(before, view, &who, of_server);
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

    fn take_listeners(
        &mut self,
        last: &Self,
        before: Option<&View>,
        view: &View,
        there: &BTreeMap<Key, Vec<&Listener>>,
        who: &Who<'_>,
        bounds: Bounds,
    ) {
        let mut changes = Changes::between(before, view);
        let since_ns = before.map_or(0, |before| before.monotonic_ns);
        let recent = last.recent(view.monotonic_ns);
        let chosen = choose_listeners(there, &recent, bounds);
        let with_members = choose_members(there, &chosen.shown, &recent, bounds);
        self.left_out.listeners = chosen.left_out;
        self.left_out.members = with_members.left_out;
        let away = recent.iter().filter(|(key, _)| !there.contains_key(*key));
        self.listeners = away_now(away, &mut changes, since_ns);
        for (key, rank) in chosen.shown {
            let members = there.get(&key).map_or(&[][..], Vec::as_slice);
            let mut of_it = changes.take(&key);
            let mut kept = match recent.get(&key) {
                Some(kept) => Arc::clone(kept),
                None => {
                    // It had no series, so that nothing goes on.
                    of_it = OfAddress::default();
                    Arc::default()
                }
            };
            let place = self.place_of(&kept.place, members, who);
            let known = (rank, with_members.shown.contains_key(&key), None);
            if known != (kept.rank, kept.shows_members, kept.away_since_ns) || place != kept.place {
                let kept = Arc::make_mut(&mut kept);
                (kept.rank, kept.shows_members, kept.away_since_ns) = known;
                kept.place = place;
            }
            let is_back = |it: &&&Listener| kept.is_missed(&it.id);
            let back: Vec<&&Listener> = members.iter().filter(is_back).collect();
            for listener in back {
                Arc::make_mut(&mut kept).take_back(listener);
            }
            of_it.apply(&mut kept, since_ns);
            self.listeners.insert(key, kept);
        }
        self.forget_long_gone(view.monotonic_ns);
    }

    /// What is kept of addresses that have sockets, or had some a while ago.
    fn recent(&self, now_ns: u64) -> BTreeMap<&Key, &Arc<Kept>> {
        let is_recent = |kept: &Kept| {
            let away = kept.away_since_ns;
            away.is_none_or(|since| now_ns.saturating_sub(since) < AWAY_NS)
        };
        let all = self.listeners.iter();
        all.filter(|(_, kept)| is_recent(kept)).collect()
    }

    /// Tells sockets no more apart that are gone for long, or the longest where there are too many.
    fn forget_long_gone(&mut self, now_ns: u64) {
        let all = || self.listeners.values().flat_map(|kept| &kept.gone);
        let mut until_ns = now_ns.checked_sub(AWAY_NS);
        if let Some(too_many @ 1..) = all().count().checked_sub(MOST_APART) {
            let mut times: Vec<u64> = all().map(|gone| gone.since_ns).collect();
            times.sort_unstable();
            until_ns = until_ns.max(times.get(too_many - 1).copied());
        }
        let Some(until_ns) = until_ns else { return };
        for kept in self.listeners.values_mut() {
            if kept.has_gone_until(until_ns) {
                Arc::make_mut(kept).forget_until(until_ns);
            }
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

    fn take_workers(
        &mut self,
        last: &Self,
        before: Option<&View>,
        view: &View,
        there: &BTreeMap<Key, Vec<&Listener>>,
        bounds: Bounds,
    ) {
        let before: BTreeMap<u32, &Worker> = before
            .into_iter()
            .flat_map(|view| &view.workers)
            .map(|worker| (worker.pid, worker))
            .collect();
        let kept = |worker: &Worker| {
            let kept = last.workers.get(&worker.pid);
            kept.filter(|kept| kept.started_at == worker.started_at)
        };
        let served = Served::of(there, |key| self.listeners.contains_key(key));
        let candidates = view.workers.iter().filter_map(|worker| {
            let (rank, kept) = (served.rank(worker)?, kept(worker));
            Some(Candidate {
                rank: kept.map_or(rank, |kept| kept.rank.min(rank)),
                is_shown: kept.is_some(),
                key: worker.pid,
                size: 1,
            })
        });
        let chosen = choose(candidates.collect(), bounds.workers);
        self.left_out.workers = (view.workers.len() - chosen.shown.len()) as u64;
        for worker in &view.workers {
            let Some(rank) = chosen.shown.get(&worker.pid) else {
                continue;
            };
            let mut now = kept(worker).cloned().unwrap_or_default();
            if let Some(was) = before.get(&worker.pid)
                && kept(worker).is_some()
                && let Some(after) = now.after(was, worker)
            {
                now = Arc::new(after);
            }
            let known = (worker.started_at, *rank, now.index.or(worker.index));
            if known != (now.started_at, now.rank, now.index) {
                let now = Arc::make_mut(&mut now);
                (now.started_at, now.rank, now.index) = known;
            }
            self.workers.insert(worker.pid, now);
        }
    }

    /// `None` where an address has no series.
    pub(super) fn of_listener(&self, key: &Key) -> Option<&Kept> {
        self.listeners.get(key).map(|kept| &**kept)
    }

    /// Whether a process has series.
    pub(super) fn shows_worker(&self, pid: u32) -> bool {
        self.workers.contains_key(&pid)
    }

    /// The number of a worker that its series have.
    pub(super) fn index(&self, pid: u32) -> Option<u32> {
        self.workers.get(&pid)?.index
    }

    /// Accepts of a process that its figures do not tell any more.
    pub(super) fn accepts_left(&self, pid: u32) -> u64 {
        self.workers.get(&pid).map_or(0, |kept| kept.accepts())
    }

    /// The same of its turns.
    pub(super) fn turns_left(&self, pid: u32) -> u64 {
        self.workers.get(&pid).map_or(0, |kept| kept.turns())
    }

    /// Of the server whose slab it is; empty where it is no server's.
    pub(super) fn service_of(&self, slab: &Slab) -> String {
        self.slabs.service(slab)
    }

    /// What slabs have counted that have ended, by the labels of its series.
    pub(super) fn counted_by_ended_slabs(&self) -> BTreeMap<Labels, Sample> {
        self.slabs.ended()
    }

    pub(super) fn of_server(&self, id: &str) -> Place {
        self.servers.get(id).cloned().unwrap_or_default()
    }

    pub(super) const fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// The most that was missing at one time, which of what is only ever added to is the total.
    pub(super) const fn gaps(&self) -> &BTreeMap<String, u64> {
        &self.gaps
    }
}

fn choose_listeners(
    there: &BTreeMap<Key, Vec<&Listener>>,
    last: &BTreeMap<&Key, &Arc<Kept>>,
    bounds: Bounds,
) -> Chosen<Key> {
    let candidates = there.iter().map(|(key, members)| {
        let (rank, kept) = (Rank::of(members), last.get(key));
        Candidate {
            rank: kept.map_or(rank, |kept| kept.rank.min(rank)),
            is_shown: kept.is_some(),
            key,
            size: 1,
        }
    });
    choose(candidates.collect(), bounds.listeners).owned()
}

/// Of the addresses that have series, those with several sockets, of which each has a line.
fn choose_members(
    there: &BTreeMap<Key, Vec<&Listener>>,
    shown: &BTreeMap<Key, Rank>,
    last: &BTreeMap<&Key, &Arc<Kept>>,
    bounds: Bounds,
) -> Chosen<Key> {
    let candidates = shown.iter().filter_map(|(key, rank)| {
        Some(Candidate {
            rank: *rank,
            is_shown: last.get(key).is_some_and(|kept| kept.shows_members),
            key,
            size: there
                .get(key)
                .map(Vec::len)
                .filter(|sockets| *sockets > 1)?,
        })
    });
    choose(candidates.collect(), bounds.members).owned()
}

/// Of addresses without a socket, those that go on if they are back: which have been so, or have
/// been several sockets.
fn away_now<'a>(
    without: impl Iterator<Item = (&'a &'a Key, &'a &'a Arc<Kept>)>,
    changes: &mut Changes<'_>,
    since_ns: u64,
) -> BTreeMap<Key, Arc<Kept>> {
    let mut away = Vec::new();
    for (key, kept) in without {
        let mut kept = Arc::clone(kept);
        if kept.away_since_ns.is_none() {
            let of_it = changes.take(key);
            // One socket that ends ends its series, and a new one begins at 0.
            if of_it.gone.len() < 2 && !kept.has_counted() {
                continue;
            }
            of_it.apply(&mut kept, since_ns);
            Arc::make_mut(&mut kept).away_since_ns = Some(since_ns);
        }
        away.push((key, kept));
    }
    away.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.away_since_ns));
    away.truncate(MOST_AWAY);
    let away = away.into_iter();
    away.map(|(key, kept)| (Key::clone(key), kept)).collect()
}

#[cfg(test)]
mod tests;
