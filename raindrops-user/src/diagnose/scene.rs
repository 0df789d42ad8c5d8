//! The view as verdicts look at it: who serves what, how long connections have waited, which hands
//! are full.
//!
//! Separate because several verdicts must mean the same by "waits", "busy" and "accepts". What the
//! view does not know stays unknown here: a verdict says nothing rather than guess.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use crate::{
    fact::Fact,
    view::{Class, Listener, View, Worker, WriteEnd},
};

/// Connections that wait for less than this may just have come.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// A spike that is worked off within this time is what a queue is for.
pub(super) const SPIKE: Duration = Duration::from_secs(2);

/// Under full load something waits in every sample, for a moment each. From this on a client
/// notices.
pub(super) const NOTICEABLE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Scene<'v> {
    pub view: &'v View,
    workers: BTreeMap<u32, &'v Worker>,
    listeners: BTreeMap<&'v str, &'v Listener>,
}

/// Work that has waited in every look for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub count: u64,
    pub since: SystemTime,
    pub lasted: Duration,
}

/// Threads of a worker that answer, and how many of them are in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hands {
    pub busy: u64,
    pub all: u64,
}

impl Hands {
    pub const fn are_full(self) -> bool {
        self.busy >= self.all
    }
}

/// Workers of one server, or one process whose server is not known.
#[derive(Debug)]
pub(super) struct Team<'v> {
    pub server: Option<&'v String>,
    pub workers: Vec<&'v Worker>,
}

impl<'v> Scene<'v> {
    pub fn new(view: &'v View) -> Self {
        Self {
            view,
            workers: view.workers.iter().map(|it| (it.pid, it)).collect(),
            listeners: view
                .listeners
                .iter()
                .map(|it| (it.id.as_str(), it))
                .collect(),
        }
    }

    pub fn worker(&self, pid: u32) -> Option<&'v Worker> {
        self.workers.get(&pid).copied()
    }

    /// Who serves a listener; `None` when it is not known, or nothing is known of one of them.
    pub fn serving(&self, listener: &Listener) -> Option<Vec<&'v Worker>> {
        let pids = listener.workers.as_ref()?.iter();
        pids.map(|pid| self.worker(*pid)).collect()
    }

    pub fn served(&self, worker: &Worker) -> impl Iterator<Item = &'v Listener> {
        let parts = worker.listeners.iter();
        parts.filter_map(|part| self.listeners.get(part.id.as_str()).copied())
    }

    /// The listener that all of these serve, if none of them serves another.
    pub fn only_listener(&self, workers: &[&Worker]) -> Option<&'v Listener> {
        let mut served = workers.iter().flat_map(|worker| self.served(worker));
        let first = served.next()?;
        served.all(|it| it.id == first.id).then_some(first)
    }

    pub fn teams(&self) -> Vec<Team<'v>> {
        let mut teams: BTreeMap<(Option<&String>, u32), Vec<&Worker>> = BTreeMap::new();
        for worker in &self.view.workers {
            let server = worker.server.value();
            let alone = if server.is_none() { worker.pid } else { 0 };
            teams.entry((server, alone)).or_default().push(worker);
        }
        let teams = teams.into_iter();
        teams
            .map(|((server, _), workers)| Team { server, workers })
            .collect()
    }

    pub fn peers(&self, worker: &Worker) -> impl Iterator<Item = &'v Worker> {
        let (pid, server) = (worker.pid, worker.server.value().cloned());
        self.view.workers.iter().filter(move |peer| {
            peer.pid != pid && server.is_some() && peer.server.value() == server.as_ref()
        })
    }

    /// Connections in the kernel's queue, at the time when it was read.
    pub fn queue(&self, listener: &Listener) -> Option<Waiting> {
        let queue = &listener.queue;
        let age = Duration::from_millis(queue.age_ms.unwrap_or(0));
        self.waiting(queue.queued.map(u64::from), queue.waiting_since, age)
    }

    /// Requests of a listener that have arrived in its processes and that no thread works on.
    pub fn inside(&self, listener: &Listener) -> Option<Waiting> {
        let turns = listener.turns.as_ref()?;
        let age = Duration::from_millis(turns.age_ms.unwrap_or(0));
        self.waiting(turns.waiting, turns.waiting_since, age)
    }

    /// Requests that have arrived in a worker and that none of its threads works on.
    pub fn inside_of(&self, worker: &Worker) -> Option<Waiting> {
        let turns = worker.turns.as_ref()?;
        let looks = self
            .served(worker)
            .filter_map(|it| it.turns.as_ref()?.age_ms);
        let age = Duration::from_millis(looks.max().unwrap_or(0));
        self.waiting(turns.waiting, turns.waiting_since, age)
    }

    fn waiting(
        &self,
        count: Option<u64>,
        since: Option<SystemTime>,
        age: Duration,
    ) -> Option<Waiting> {
        let count = count.filter(|count| *count > 0)?;
        // Before that there was one look, and then none for as long as it takes to start.
        let since = since?.max(self.view.since);
        let lasted = self.view.taken_at.duration_since(since).ok()?;
        Some(Waiting {
            count,
            since,
            lasted: lasted.checked_sub(age)?,
        })
    }

    /// How long a connection waits in this queue, as far as can be told; the longest of what tells
    /// it. Nobody knows which one of them is how old.
    pub fn queue_delay(&self, listener: &Listener, queue: Waiting) -> Option<Duration> {
        let head = match self.last_accept(listener) {
            Fact::Unknown => None,
            Fact::Nothing => Some(queue.lasted),
            Fact::Is(age) => Some(age.min(queue.lasted)),
        };
        let recent = &listener.recent;
        let by_rate = recent.accepts_per_s.map(|rate| drained(queue, rate));
        let median = recent.wait.as_ref().and_then(|wait| wait.p50_us);
        [head, by_rate, median.map(Duration::from_micros)]
            .into_iter()
            .flatten()
            .max()
    }

    /// The same of requests inside its processes.
    pub fn inside_delay(listener: &Listener, inside: Waiting) -> Option<Duration> {
        let answers = listener.recent.answer.as_ref()?.count;
        let over = Duration::from_millis(listener.recent.over_ms).as_secs_f64();
        (over > 0.0).then(|| drained(inside, answers as f64 / over))
    }

    /// Whether connections or requests of a listener have waited for some time, and it is noticed.
    pub fn has_to_wait(&self, listener: &Listener) -> bool {
        let noticed = |waiting: Waiting, delay: Option<Duration>| {
            waiting.lasted >= PATIENCE && delay.is_some_and(|delay| delay >= NOTICEABLE)
        };
        let queue = self.queue(listener);
        let inside = self.inside(listener);
        queue.is_some_and(|queue| noticed(queue, self.queue_delay(listener, queue)))
            || inside.is_some_and(|inside| noticed(inside, Self::inside_delay(listener, inside)))
    }

    /// Time since any process that serves it accepted anything, from whichever listener.
    pub fn last_accept(&self, listener: &Listener) -> Fact<Duration> {
        let Some(workers) = self.serving(listener) else {
            return Fact::Unknown;
        };
        if workers.iter().any(|worker| worker.accepts.is_none()) {
            return Fact::Unknown;
        }
        Fact::known(workers.into_iter().filter_map(last_accept).min())
    }

    /// `None`: an event loop, or not known. A loop has a hand for every connection.
    pub fn hands(&self, worker: &Worker) -> Option<Hands> {
        let turns = worker.turns.as_ref()?;
        let seen = worker.threads_seen.filter(|seen| *seen > 0);
        let ends_seen = self.sees_ends(worker);
        // Where the end of an answer is not seen, an idle keep-alive connection counts as writing.
        let writing = if ends_seen { turns.writing? } else { 0 };
        let known = worker.threads_busy.filter(|_| ends_seen).map(u64::from);
        let (busy, all) = match worker.class? {
            Class::Direct => {
                // Its threads wait themselves for the rest of a request.
                let busy = turns.calling? + turns.reading.unwrap_or(0) + writing;
                (busy.max(known.unwrap_or(0)), seen.or(worker.threads)?)
            }
            Class::Handoff => (known.unwrap_or(turns.calling? + writing), seen?),
            Class::Loop | Class::Learning => return None,
        };
        let all = u64::from(all);
        Some(Hands {
            busy: busy.min(all),
            all,
        })
    }

    /// Whether the end of an answer is seen on all listeners of a worker.
    fn sees_ends(&self, worker: &Worker) -> bool {
        let mut turns = self.served(worker).filter_map(|it| it.turns.as_ref());
        turns.all(|turns| turns.write_end == WriteEnd::Seen)
    }

    /// Every connection of this worker is looked at, and when its answer ends, so that a thread
    /// that seems idle is.
    pub fn is_whole(&self, worker: &Worker) -> bool {
        let whole = |it: &Listener| it.turns.as_ref().is_some_and(|turns| turns.complete);
        worker.turns.is_some() && self.served(worker).all(whole) && self.sees_ends(worker)
    }

    /// It could take on work: a free thread, a loop that leaves nothing unread, or one of which only
    /// that is known that it is in no turn at all.
    pub fn has_room(&self, worker: &Worker) -> bool {
        let Some(turns) = &worker.turns else {
            return false;
        };
        let free = match worker.class {
            Some(Class::Loop) => true,
            Some(Class::Learning) => {
                [turns.reading, turns.calling, turns.writing].map(|it| it == Some(0)) == [true; 3]
            }
            Some(Class::Direct | Class::Handoff) | None => {
                self.hands(worker).is_some_and(|hands| !hands.are_full())
            }
        };
        free && turns.waiting == Some(0) && worker.stalled.is_none() && self.is_whole(worker)
    }
}

/// Time since a worker accepted; `None` when it has not, or that is not known.
pub(super) fn last_accept(worker: &Worker) -> Option<Duration> {
    worker.last_accept_age_us.map(Duration::from_micros)
}

pub(super) fn oldest_turn(worker: &Worker) -> Option<Duration> {
    let turns = worker.turns.as_ref()?;
    turns.oldest_us.map(Duration::from_micros)
}

/// How long it takes until so many are gone, at most as long as they have been seen.
fn drained(waiting: Waiting, per_second: f64) -> Duration {
    Duration::try_from_secs_f64(waiting.count as f64 / per_second)
        .map_or(waiting.lasted, |time| time.min(waiting.lasted))
}
