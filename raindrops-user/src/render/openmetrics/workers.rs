//! Series of workers and of servers, and who runs what.

use std::collections::BTreeMap;

use super::{
    continuity::Continuity,
    listeners::{Key, Phases},
    sample::Sample,
};
use crate::{
    fact::Fact,
    view::{View, Worker},
};

/// Who runs something, as labels say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Empty where there is none, or none is known.
    pub(super) container: String,
    /// The unit, else the server's kind; empty where neither is known.
    pub(super) service: String,
}

/// The view's workers by their pids.
#[derive(Debug)]
pub(super) struct Who<'v>(BTreeMap<u32, &'v Worker>);

impl<'v> Who<'v> {
    pub(super) fn of(view: &'v View) -> Self {
        Self(view.workers.iter().map(|it| (it.pid, it)).collect())
    }

    /// Of what some processes do. While none of them can say it, it stays as it was.
    pub(super) fn place(
        &self,
        pids: impl Iterator<Item = u32>,
        kept: Option<&Place>,
        server: Option<&str>,
    ) -> Place {
        let workers: Vec<&&Worker> = pids.filter_map(|pid| self.0.get(&pid)).collect();
        let kind = || server.map(kind).unwrap_or_default().to_owned();
        let kept = kept.cloned().unwrap_or_default();
        Place {
            container: said(workers.iter().map(|it| &it.container))
                .map_or(kept.container, Option::unwrap_or_default),
            service: match said(workers.iter().map(|it| &it.unit)) {
                Some(unit) => unit.unwrap_or_else(kind),
                None if kept.service.is_empty() => kind(),
                None => kept.service,
            },
        }
    }
}

/// What several say: the first of those that name something, in the order of the alphabet.
fn said<'v>(facts: impl Iterator<Item = &'v Fact<String>> + Clone) -> Option<Option<String>> {
    let is_known = facts.clone().any(|fact| !fact.is_unknown());
    is_known.then(|| facts.filter_map(Fact::value).min().cloned())
}

/// Of `unicorn:4711`.
fn kind(server: &str) -> &str {
    server.split_once(':').map_or(server, |(kind, _)| kind)
}

/// A worker with its labels.
#[derive(Debug)]
pub(super) struct Process<'v> {
    pub(super) worker: &'v Worker,
    pub(super) labels: Vec<String>,
    accepts_left: u64,
    turns_left: u64,
}

pub(super) fn processes<'v>(view: &'v View, continuity: &Continuity) -> Vec<Process<'v>> {
    let who = Who::of(view);
    let workers = view.workers.iter();
    workers
        .filter(|worker| continuity.shows_worker(worker.pid))
        .map(|worker| {
            let server = worker.server.value();
            let kept = server.map(|server| continuity.of_server(server));
            let Place { container, service } = who.place(
                [worker.pid].into_iter(),
                kept.as_ref(),
                server.map(String::as_str),
            );
            let index = continuity.index(worker.pid);
            let index = index.map(|index| index.to_string());
            Process {
                worker,
                labels: vec![
                    worker.pid.to_string(),
                    index.unwrap_or_default(),
                    container,
                    service,
                ],
                accepts_left: continuity.accepts_left(worker.pid),
                turns_left: continuity.turns_left(worker.pid),
            }
        })
        .collect()
}

impl Process<'_> {
    /// Those of its info, which alone name the server.
    pub(super) fn labels_of_info(&self) -> Vec<String> {
        let server = self.worker.server.value().cloned();
        [self.labels.as_slice(), &[server.unwrap_or_default()]].concat()
    }

    pub(super) fn accepts(&self) -> Option<u64> {
        Some(self.worker.accepts?.saturating_add(self.accepts_left))
    }

    pub(super) fn turns(&self) -> Option<u64> {
        let turns = self.worker.turns.as_ref()?;
        Some(turns.total.saturating_add(self.turns_left))
    }

    pub(super) fn phases(&self) -> impl Iterator<Item = (String, Sample)> {
        let turns = self.worker.turns.as_ref();
        let phases = turns.map_or_else(Phases::default, |it| Phases {
            waiting: it.waiting,
            reading: it.reading,
            calling: it.calling,
            writing: it.writing,
            blocked: it.blocked,
        });
        phases.named()
    }
}

/// Servers of one kind that one unit runs in one container: an upgrade makes a second one for a
/// while.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Servers {
    pub(super) workers: u64,
    /// The greatest of them.
    pub(super) skew: Option<f64>,
}

/// Servers by their labels.
pub(super) fn servers(view: &View, continuity: &Continuity) -> BTreeMap<Vec<String>, Servers> {
    let mut all: BTreeMap<Vec<String>, Servers> = BTreeMap::new();
    let shown = shown(view, continuity);
    for server in &view.servers {
        if shown.get(&*server.id) == Some(&false) {
            continue;
        }
        let Place { container, service } = continuity.of_server(&server.id);
        let sum = all
            .entry(vec![server.kind.clone(), container, service])
            .or_default();
        sum.workers += server.workers.len() as u64;
        sum.skew = match (sum.skew, server.skew) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
    all
}

/// Of servers that have listeners or workers, whether one of those has series.
fn shown<'v>(view: &'v View, continuity: &Continuity) -> BTreeMap<&'v str, bool> {
    let workers = view.workers.iter().map(|worker| {
        let is_shown = continuity.shows_worker(worker.pid);
        (worker.server.value(), is_shown)
    });
    let listeners = view.listeners.iter().map(|listener| {
        let server = listener.server.value();
        let is_shown = || continuity.of_listener(&Key::of(listener)).is_some();
        (server, server.is_some() && is_shown())
    });
    let mut shown: BTreeMap<&str, bool> = BTreeMap::new();
    for (server, is_shown) in workers.chain(listeners) {
        if let Some(server) = server {
            *shown.entry(server).or_default() |= is_shown;
        }
    }
    shown
}
