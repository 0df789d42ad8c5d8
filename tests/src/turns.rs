//! Turns as a view shows them, summed over what belongs together.

use anyhow::{Context as _, Result};
use raindrops_user::view::{Listener, Turns, View, WorkerTurns};

use crate::{daemon::Daemon, lookup, wait};

/// What connections are doing; unknown as soon as a part of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doing {
    pub waiting: Option<u64>,
    pub reading: Option<u64>,
    pub calling: Option<u64>,
    pub writing: Option<u64>,
    pub blocked: Option<u64>,
    pub idle: Option<u64>,
}

/// What has been done on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub turns: u64,
    pub answers: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Doing {
    const NOTHING: Self = Self {
        waiting: Some(0),
        reading: Some(0),
        calling: Some(0),
        writing: Some(0),
        blocked: Some(0),
        idle: Some(0),
    };

    /// Of listeners, by their addresses.
    pub fn of_listeners(view: &View, addresses: &[String]) -> Result<Self> {
        let turns = each(view, addresses)?.into_iter();
        Ok(turns.fold(Self::NOTHING, |sum, it| {
            let Turns {
                waiting,
                reading,
                calling,
                writing,
                blocked,
                idle,
                ..
            } = *it;
            sum.plus(Self {
                waiting,
                reading,
                calling,
                writing,
                blocked,
                idle,
            })
        }))
    }

    /// Of processes, on all their listeners.
    pub fn of_workers(view: &View, pids: &[u32]) -> Result<Self> {
        let turns = each_worker(view, pids)?.into_iter();
        Ok(turns.fold(Self::NOTHING, |sum, it| {
            let WorkerTurns {
                waiting,
                reading,
                calling,
                writing,
                blocked,
                idle,
                ..
            } = *it;
            sum.plus(Self {
                waiting,
                reading,
                calling,
                writing,
                blocked,
                idle,
            })
        }))
    }

    fn plus(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
        Self {
            waiting: sum(self.waiting, other.waiting),
            reading: sum(self.reading, other.reading),
            calling: sum(self.calling, other.calling),
            writing: sum(self.writing, other.writing),
            blocked: sum(self.blocked, other.blocked),
            idle: sum(self.idle, other.idle),
        }
    }
}

impl Done {
    /// On listeners, by their addresses.
    pub fn on_listeners(view: &View, addresses: &[String]) -> Result<Self> {
        let turns = each(view, addresses)?;
        let sum = |figure: fn(&Turns) -> u64| turns.iter().map(|it| figure(it)).sum();
        Ok(Self {
            turns: sum(|it| it.total),
            answers: sum(|it| it.answer.count),
            bytes_in: sum(|it| it.bytes_in),
            bytes_out: sum(|it| it.bytes_out),
        })
    }
}

/// Turns of processes, on all their listeners.
pub fn of_workers(view: &View, pids: &[u32]) -> Result<u64> {
    let turns = each_worker(view, pids)?;
    Ok(turns.iter().map(|it| it.total).sum())
}

/// The turns of a listener, which must have some.
pub fn of(listener: &Listener) -> Result<&Turns> {
    let turns = listener.turns.as_ref();
    turns.with_context(|| format!("{} has no turns", listener.address))
}

/// Of each listener of these addresses.
pub fn each<'a>(view: &'a View, addresses: &[String]) -> Result<Vec<&'a Turns>> {
    let mut turns = Vec::new();
    for address in addresses {
        let listeners = lookup::listeners(view, address);
        anyhow::ensure!(!listeners.is_empty(), "no listener at {address}");
        for listener in listeners {
            turns.push(of(listener)?);
        }
    }
    Ok(turns)
}

fn each_worker<'a>(view: &'a View, pids: &[u32]) -> Result<Vec<&'a WorkerTurns>> {
    let of = |pid: &u32| {
        let worker = lookup::worker(view, *pid)?;
        let turns = worker.turns.as_ref();
        turns.with_context(|| format!("worker {pid} has no turns"))
    };
    pids.iter().map(of).collect()
}

impl Daemon {
    /// A view whose gauges of turns are of a look that began after now.
    pub fn looked_anew(&self, addresses: &[String]) -> Result<View> {
        let now = wait::monotonic_ns();
        self.until("a later look at the connections", |view| {
            each(view, addresses).is_ok_and(|turns| {
                turns.iter().all(|turns| {
                    let age = turns.age_ms;
                    age.is_some_and(|age| wait::before_ns(view.monotonic_ns, age) >= now)
                })
            })
        })
    }
}
