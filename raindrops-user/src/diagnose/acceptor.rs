//! Verdicts on a queue that nobody empties, although those who could are neither stuck nor busy:
//! they hold as many clients as they want, or there is nobody.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use super::{
    Severity, Subject,
    finding::{Code, Finding, evidence},
    scene::{Hands, PATIENCE, Scene, Waiting, last_accept},
    stuck::Stuck,
    words,
};
use crate::{
    fact::Fact,
    render::units::plural,
    view::{Class, Listener, Worker},
};

/// A server that is just starting has its socket before it accepts.
const STARTING: Duration = Duration::from_secs(3);

pub(super) fn findings(scene: &Scene<'_>, stuck: &BTreeMap<u32, Stuck<'_>>) -> Vec<Finding> {
    let listeners = scene.view.listeners.iter();
    listeners
        .filter_map(|listener| {
            let queue = scene.queue(listener)?;
            at_limit(scene, listener, queue, stuck)
                .or_else(|| nobody(scene, listener, queue, stuck))
        })
        .collect()
}

/// What keeps a worker from accepting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Told elsewhere: stuck, or all its threads in turns.
    HandsFull,
    /// It has so many clients, and could do more for them.
    Clients(u64),
    /// It has one thread and no limit: it waits for these to send a request.
    Silent(u64),
}

/// Workers that hold clients, are not busy with them, and have stopped accepting. The limit itself
/// is the server's own (worker_connections) and cannot be seen.
fn at_limit(
    scene: &Scene<'_>,
    listener: &Listener,
    queue: Waiting,
    stuck: &BTreeMap<u32, Stuck<'_>>,
) -> Option<Finding> {
    if queue.lasted < PATIENCE {
        return None;
    }
    let workers = scene.serving(listener)?;
    let reasons: Vec<Reason> = workers
        .iter()
        .map(|worker| reason(scene, worker, stuck))
        .collect::<Option<_>>()?;
    let holding: Vec<(&Worker, u64)> = workers
        .iter()
        .zip(&reasons)
        .filter_map(|(worker, reason)| match reason {
            Reason::Clients(clients) => Some((*worker, *clients)),
            Reason::HandsFull | Reason::Silent(_) => None,
        })
        .collect();
    if holding.is_empty() {
        return silent(scene, listener, queue, &workers, &reasons);
    }
    let (most, _) = holding.iter().max_by_key(|(_, clients)| *clients)?;
    let clients: u64 = holding.iter().map(|(_, clients)| clients).sum();
    let hands: Option<Vec<Hands>> = holding.iter().map(|(it, _)| scene.hands(it)).collect();
    let busy = hands.map(|hands| {
        let busy: u64 = hands.iter().map(|hands| hands.busy).sum();
        let all: u64 = hands.iter().map(|hands| hands.all).sum();
        (busy, all)
    });
    let who = match holding.len() {
        1 => format!("{} holds", words::worker(scene.view, most)),
        _ => format!(
            "{} hold",
            words::workers(scene.view, holding.len(), listener.server.value())
        ),
    };
    let though = busy.map_or(String::new(), |(busy, all)| {
        format!(" (of {}, {busy} in turns)", plural(all, "thread"))
    });
    Some(Finding {
        code: Code::WorkerAtLimit,
        amount: queue.count,
        severity: Severity::Warning,
        subject: Subject {
            pid: Some(most.pid),
            ..words::subject(listener)
        },
        since: Some(queue.since),
        text: format!(
            "{}: {who} {} and accept{} no more{though}; {}",
            words::place(scene.view, listener),
            plural(clients, "client"),
            if holding.len() == 1 { "s" } else { "" },
            words::in_queue(queue)
        ),
        evidence: evidence([
            ("clients", Some(clients)),
            ("workers", Some(holding.len() as u64)),
            ("threads", busy.map(|(_, all)| all)),
            ("threads_busy", busy.map(|(busy, _)| busy)),
            ("queued", Some(queue.count)),
            ("waiting_ms", Some(words::to_millis(queue.lasted))),
        ]),
        next: "raise its limit of connections per worker (worker_connections), shorten its \
               keep-alive timeout, or add workers"
            .to_owned(),
    })
}

/// Workers of one thread each that read from clients who do not send: nobody else gets a turn, and
/// no turn is open that would show it.
fn silent(
    scene: &Scene<'_>,
    listener: &Listener,
    queue: Waiting,
    workers: &[&Worker],
    reasons: &[Reason],
) -> Option<Finding> {
    let waits = workers.iter().zip(reasons);
    let waiting: Vec<(&Worker, u64)> = waits
        .filter_map(|(worker, reason)| match reason {
            Reason::Silent(clients) => Some((*worker, *clients)),
            Reason::HandsFull | Reason::Clients(_) => None,
        })
        .collect();
    let (first, _) = waiting.first()?;
    let clients: u64 = waiting.iter().map(|(_, clients)| clients).sum();
    let (who, pid) = match waiting.len() {
        1 => (
            format!("{} waits", words::worker(scene.view, first)),
            Some(first.pid),
        ),
        count => {
            let who = words::workers(scene.view, count, listener.server.value());
            (format!("{who} wait"), None)
        }
    };
    Some(Finding {
        code: Code::SlowClients,
        amount: queue.count,
        severity: Severity::Warning,
        subject: Subject {
            pid,
            ..words::subject(listener)
        },
        since: Some(queue.since),
        text: format!(
            "{}: {who} for {} that {} sent nothing, or not all, of a request; {}",
            words::place(scene.view, listener),
            plural(clients, "client"),
            if clients == 1 { "has" } else { "have" },
            words::in_queue(queue)
        ),
        evidence: evidence([
            ("clients", Some(clients)),
            ("workers", Some(waiting.len() as u64)),
            ("queued", Some(queue.count)),
            ("waiting_ms", Some(words::to_millis(queue.lasted))),
        ]),
        next: "put a proxy that buffers requests in front of it (nginx), or shorten its read \
               timeout"
            .to_owned(),
    })
}

/// `None` when nothing known keeps it from accepting, or that it accepts.
fn reason(scene: &Scene<'_>, worker: &Worker, stuck: &BTreeMap<u32, Stuck<'_>>) -> Option<Reason> {
    if stuck.get(&worker.pid).is_some_and(Stuck::is_whole) {
        return Some(Reason::HandsFull);
    }
    if last_accept(worker)? < PATIENCE {
        return None;
    }
    let hands = scene.hands(worker);
    if hands.is_some_and(Hands::are_full) {
        return Some(Reason::HandsFull);
    }
    let turns = worker.turns.as_ref()?;
    // A loop that leaves something unread is busy with something.
    let is_free = match worker.class? {
        Class::Loop => turns.waiting == Some(0),
        Class::Direct | Class::Handoff => hands.is_some(),
        Class::Learning => false,
    };
    let clients = worker.clients.filter(|clients| *clients > 0)?;
    let has_one_thread = hands.is_some_and(|hands| hands.all == 1);
    let reason = if worker.class == Some(Class::Direct) && has_one_thread {
        Reason::Silent(clients)
    } else {
        Reason::Clients(clients)
    };
    (is_free && scene.is_whole(worker)).then_some(reason)
}

/// Nobody holds the socket, nobody who holds it serves it, or those who serve it do nothing at all.
fn nobody(
    scene: &Scene<'_>,
    listener: &Listener,
    queue: Waiting,
    stuck: &BTreeMap<u32, Stuck<'_>>,
) -> Option<Finding> {
    if queue.lasted < STARTING {
        return None;
    }
    // Those whom we take for mere holders may accept all the same.
    let is_accepted = listener.recent.accepts_per_s.is_some_and(|rate| rate > 0.0);
    let who = match (listener.holders.as_deref(), listener.workers.as_deref()) {
        (Some([]), _) | (Some(_), Some([])) if is_accepted => return None,
        (Some([]), _) => Nobody::Holds,
        (Some(holders), Some([])) => Nobody::Serves(holders),
        _ => Nobody::Accepts(idle(scene, listener, queue, stuck)?),
    };
    let pid = match &who {
        Nobody::Serves([pid]) => Some(*pid),
        Nobody::Accepts(workers) if workers.len() == 1 => Some(workers[0].pid),
        Nobody::Holds | Nobody::Serves(_) | Nobody::Accepts(_) => None,
    };
    Some(Finding {
        code: Code::NoAcceptor,
        amount: queue.count,
        severity: Severity::Warning,
        subject: Subject {
            pid,
            ..words::subject(listener)
        },
        since: Some(queue.since),
        text: format!(
            "{}: {}, and {}",
            words::place(scene.view, listener),
            words::in_queue(queue),
            who.text(scene, listener)
        ),
        evidence: evidence([
            ("queued", Some(queue.count)),
            ("waiting_ms", Some(words::to_millis(queue.lasted))),
            (
                "holders",
                listener.holders.as_ref().map(|it| it.len() as u64),
            ),
            (
                "workers",
                listener.workers.as_ref().map(|it| it.len() as u64),
            ),
        ]),
        next: who.next().to_owned(),
    })
}

enum Nobody<'v> {
    Holds,
    Serves(&'v [u32]),
    Accepts(Vec<&'v Worker>),
}

/// The workers of a listener, if all of them have nothing to do and accept nothing.
fn idle<'v>(
    scene: &Scene<'v>,
    listener: &Listener,
    queue: Waiting,
    stuck: &BTreeMap<u32, Stuck<'_>>,
) -> Option<Vec<&'v Worker>> {
    let workers = scene.serving(listener).filter(|it| !it.is_empty())?;
    let accepts_nothing = match scene.last_accept(listener) {
        Fact::Unknown => false,
        Fact::Nothing => true,
        Fact::Is(age) => age >= queue.lasted,
    };
    let has_none = |worker: &&Worker| {
        worker.clients.or(worker.active) == Some(0) && !stuck.contains_key(&worker.pid)
    };
    (accepts_nothing && workers.iter().all(has_none)).then_some(workers)
}

impl Nobody<'_> {
    fn text(&self, scene: &Scene<'_>, listener: &Listener) -> String {
        match self {
            Self::Holds => "no process holds this socket".to_owned(),
            Self::Serves([pid]) => format!("process {pid}, which holds it, accepts nothing"),
            Self::Serves(holders) => format!(
                "none of the {} that hold it accepts",
                plural(holders.len() as u64, "process")
            ),
            Self::Accepts(workers) => match workers[..] {
                [worker] => format!(
                    "{} (state {}) has no client and accepts nothing",
                    words::worker(scene.view, worker),
                    worker.state
                ),
                _ => format!(
                    "{} have no client and accept nothing",
                    words::workers(scene.view, workers.len(), listener.server.value())
                ),
            },
        }
    }

    const fn next(&self) -> &'static str {
        match self {
            Self::Holds => {
                "a descriptor of it is on its way to another process, or the kernel itself serves \
                 it; if neither, restart what should listen there"
            }
            Self::Serves(_) => {
                "see whether its server is starting, has ended, or has left the socket to a \
                 process that only holds it"
            }
            Self::Accepts(_) => {
                "see whether it is starting; if not, what it does instead of accepting"
            }
        }
    }
}
