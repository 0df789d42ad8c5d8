//! `/stats` as puma's control server answers it, for pumactl and who else asks puma: of the watched
//! server that the token names, be it a puma or not.
//!
//! The shape is that of puma 5.6. What puma itself said goes before what is estimated; what nobody can
//! know is left out, also where puma always has it.

use std::{collections::BTreeSet, time::SystemTime};

use serde::Serialize;

use super::tokens::Tokens;
use crate::{
    select,
    view::{
        Server, View, Worker,
        puma::{Puma, PumaSource, PumaWorker},
    },
};

/// Of puma 5 to 8, but for `stats`. They change a server, or tell what only it can know.
const OTHER_COMMANDS: [&str; 13] = [
    "gc",
    "gc-stats",
    "halt",
    "phased-restart",
    "refork",
    "reload-worker-directory",
    "restart",
    "start",
    "status",
    "stop",
    "thread-backtraces",
    "worker-count-down",
    "worker-count-up",
];

/// How puma words it; pumactl looks at the status only.
pub const WRONG_TOKEN: &str = "Invalid auth token";
pub const UNSUPPORTED: &str = "Unsupported action";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Stats,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// JSON without a line end: pumactl takes what is behind the last one.
    Stats(String),
    WrongToken,
    /// Why there is nothing, in one line.
    Nothing(String),
}

/// Only the last part of a path counts, as puma has it. Paths under `/v1/` are ours.
#[must_use]
pub fn command(path: &str) -> Option<Command> {
    let last = path
        .rsplit_once('/')
        .filter(|_| !path.starts_with("/v1/"))?
        .1;
    if last == "stats" {
        return Some(Command::Stats);
    }
    OTHER_COMMANDS.contains(&last).then_some(Command::Other)
}

/// `tokens` is `None` where no file of tokens is configured.
#[must_use]
pub fn answer(
    view: &View,
    tokens: Option<&Tokens>,
    command: Command,
    query: Option<&str>,
) -> Answer {
    let Some(tokens) = tokens else {
        if command == Command::Other {
            return Answer::Nothing(UNSUPPORTED.to_owned());
        }
        return Answer::Nothing(
            "no token names a server here; start raindrops serve with --puma-token-file FILE"
                .to_owned(),
        );
    };
    let mut given = query.into_iter().flat_map(|it| it.split(['&', ';']));
    let given = given.find_map(|pair| pair.strip_prefix("token="));
    let Some(target) = given.and_then(|given| tokens.target(given)) else {
        return Answer::WrongToken;
    };
    if command == Command::Other {
        return Answer::Nothing(UNSUPPORTED.to_owned());
    }
    match server(view, target) {
        Ok(server) => Answer::Stats(stats(view, server)),
        Err(why) => Answer::Nothing(why),
    }
}

/// The only server that an id, a kind, or the address of a listener means.
fn server<'v>(view: &'v View, target: &str) -> Result<&'v Server, String> {
    if let Some(server) = view.servers.iter().find(|server| server.id == target) {
        return Ok(server);
    }
    let of_kind = view.servers.iter().filter(|server| server.kind == target);
    let of_kind: Vec<&Server> = of_kind.collect();
    let found = if of_kind.is_empty() {
        let listeners = select::listeners(view, target).unwrap_or_default();
        let ids: BTreeSet<&String> = listeners
            .iter()
            .filter_map(|listener| listener.server.value())
            .collect();
        let named = view.servers.iter().filter(|it| ids.contains(&it.id));
        named.collect()
    } else {
        of_kind
    };
    match found[..] {
        [server] => Ok(server),
        [] => Err(format!(
            "the token names {target:?}, which is no server that runs now; there are {}",
            some_of(&view.servers.iter().collect::<Vec<_>>())
        )),
        [..] => Err(format!(
            "the token names {target:?}, which is several servers: {}; name an address or an id \
             in the file of tokens",
            some_of(&found)
        )),
    }
}

fn some_of(servers: &[&Server]) -> String {
    if servers.is_empty() {
        return "none".to_owned();
    }
    select::some_of(servers.iter().map(|server| server.id.as_str()))
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Stats {
    Cluster(Cluster),
    Single(Single),
}

/// Fields in puma's order.
#[derive(Debug, Serialize)]
struct Cluster {
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    workers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    booted_workers: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_workers: Option<u64>,
    worker_status: Vec<Status>,
}

#[derive(Debug, Serialize)]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    booted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_checkin: Option<String>,
    last_status: Pool,
}

#[derive(Debug, Serialize)]
struct Single {
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(flatten)]
    pool: Pool,
}

/// Empty where nothing is known, as puma has it of a worker that has not reported yet.
#[derive(Debug, Serialize)]
struct Pool {
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_capacity: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_threads: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_count: Option<u64>,
}

fn stats(view: &View, server: &Server) -> String {
    let others;
    let known = match server.puma.value() {
        Some(puma) => puma,
        None => {
            others = of_no_puma(view, server);
            &others
        }
    };
    let stats = if is_single(server, known) {
        Stats::Single(single(server, known))
    } else {
        Stats::Cluster(cluster(view, server, known))
    };
    // A type of ours serializes.
    serde_json::to_string(&stats).unwrap_or_default()
}

/// Without workers: the process that serves is the only one.
fn is_single(server: &Server, known: &Puma) -> bool {
    match known.source {
        PumaSource::Control => known.workers.len() == 1 && known.workers[0].index.is_none(),
        PumaSource::Estimate => server.master.is_none() && known.workers.len() <= 1,
    }
}

fn cluster(view: &View, server: &Server, known: &Puma) -> Cluster {
    Cluster {
        started_at: known.started_at.or(server.started_at).map(time),
        workers: known.workers.len(),
        phase: known.phase,
        booted_workers: known.booted_workers.or_else(|| {
            let booted: Option<Vec<bool>> = known.workers.iter().map(|it| it.booted).collect();
            let booted = booted?.into_iter().filter(|it| *it);
            Some(booted.count() as u64)
        }),
        old_workers: known.old_workers,
        worker_status: known.workers.iter().map(|it| status(view, it)).collect(),
    }
}

fn status(view: &View, worker: &PumaWorker) -> Status {
    let process = view.workers.iter().find(|it| Some(it.pid) == worker.pid);
    let began = process.and_then(|process| process.started_at);
    Status {
        started_at: worker.started_at.or(began).map(time),
        pid: worker.pid,
        index: worker.index,
        phase: worker.phase,
        booted: worker.booted,
        last_checkin: worker.last_checkin.clone(),
        last_status: pool(worker),
    }
}

fn single(server: &Server, known: &Puma) -> Single {
    let worker = known.workers.first().cloned().unwrap_or_default();
    Single {
        started_at: known.started_at.or(server.started_at).map(time),
        pool: pool(&worker),
    }
}

fn pool(worker: &PumaWorker) -> Pool {
    Pool {
        backlog: worker.backlog,
        running: worker.running,
        pool_capacity: worker.pool_capacity,
        max_threads: worker.max_threads,
        requests_count: worker.requests_count,
    }
}

/// As puma writes it.
fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The same figures of another server: of what its threads and turns show, in puma's words.
fn of_no_puma(view: &View, server: &Server) -> Puma {
    let one_thread = server.kind == "unicorn";
    let seen = |pid: u32| view.workers.iter().find(|worker| worker.pid == pid);
    let worker = |pid: &u32| match seen(*pid) {
        Some(worker) => of_worker(view, worker, one_thread),
        None => PumaWorker {
            pid: Some(*pid),
            ..PumaWorker::default()
        },
    };
    let mut workers: Vec<PumaWorker> = server.workers.iter().map(worker).collect();
    workers.sort_by_key(|worker| (worker.index, worker.pid));
    Puma {
        source: PumaSource::Estimate,
        age_ms: None,
        started_at: None,
        phase: None,
        booted_workers: None,
        old_workers: None,
        workers,
    }
}

fn of_worker(view: &View, worker: &Worker, one_thread: bool) -> PumaWorker {
    // How many threads another may have is not to be seen.
    let only = one_thread.then_some(1);
    let busy = worker.threads_busy.map(u64::from);
    // One that is older has answered requests that nobody has counted.
    let is_younger = worker.started_at.is_some_and(|it| it >= view.since);
    let turns = worker.turns.as_ref();
    PumaWorker {
        pid: Some(worker.pid),
        index: worker.index,
        // It is numbered by the title that it has once it is ready.
        booted: worker.index.map(|_| true),
        backlog: turns.and_then(|turns| turns.waiting),
        running: only.or(worker.threads_seen.map(u64::from)),
        busy_threads: busy,
        pool_capacity: only.zip(busy).map(|(only, busy)| only.saturating_sub(busy)),
        max_threads: only,
        requests_count: turns
            .filter(|turns| is_younger && turns.complete)
            .map(|turns| turns.total),
        ..PumaWorker::default()
    }
}

#[cfg(test)]
mod tests;
