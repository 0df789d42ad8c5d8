//! The verdict that a server's workers are too few, or too slow: every thread of all of them is in a
//! turn, and more waits.
//!
//! An event loop has no number of threads that could be too few, so this is never said of one.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use super::{
    Severity,
    finding::{Code, Finding, evidence},
    scene::{Hands, NOTICEABLE, SPIKE, Scene, Waiting, oldest_turn},
    stuck::Stuck,
    words,
};
use crate::{
    render::units::plural,
    view::{Class, Listener, Worker},
};

/// What waits at one listener, in the kernel's queue and behind it.
struct Pressure<'v> {
    listener: &'v Listener,
    queue: Option<Waiting>,
    inside: Option<Waiting>,
    delay: Duration,
}

/// At most one for each server: of its listener at which most waits.
pub(super) fn findings(scene: &Scene<'_>, stuck: &BTreeMap<u32, Stuck<'_>>) -> Vec<Finding> {
    let mut worst: BTreeMap<(Option<&String>, &str), (u64, Finding)> = BTreeMap::new();
    for listener in &scene.view.listeners {
        let Some(pressure) = pressure(scene, listener) else {
            continue;
        };
        let Some(finding) = all_in_turns(scene, &pressure, stuck) else {
            continue;
        };
        let server = listener.server.value();
        let alone = if server.is_none() {
            listener.id.as_str()
        } else {
            ""
        };
        let amount = pressure.amount();
        let known = worst.get(&(server, alone)).map(|(known, _)| *known);
        if known.is_none_or(|known| amount > known) {
            worst.insert((server, alone), (amount, finding));
        }
    }
    worst.into_values().map(|(_, finding)| finding).collect()
}

impl Pressure<'_> {
    fn amount(&self) -> u64 {
        [self.queue, self.inside]
            .into_iter()
            .flatten()
            .map(|waiting| waiting.count)
            .sum()
    }
}

/// What has waited there for longer than a spike lasts, and each for a time that a client notices.
fn pressure<'v>(scene: &Scene<'v>, listener: &'v Listener) -> Option<Pressure<'v>> {
    let noticed = |waiting: Waiting, delay: Option<Duration>| {
        let delay = delay.filter(|delay| *delay >= NOTICEABLE)?;
        (waiting.lasted >= SPIKE).then_some((waiting, delay))
    };
    let queue = scene
        .queue(listener)
        .and_then(|queue| noticed(queue, scene.queue_delay(listener, queue)));
    let inside = scene
        .inside(listener)
        .and_then(|inside| noticed(inside, Scene::inside_delay(listener, inside)));
    let delay = queue
        .into_iter()
        .chain(inside)
        .map(|(_, delay)| delay)
        .max()?;
    Some(Pressure {
        listener,
        queue: queue.map(|(queue, _)| queue),
        inside: inside.map(|(inside, _)| inside),
        delay,
    })
}

/// Workers that serve a listener and are not stuck.
struct Full<'v> {
    /// All of their threads are in turns.
    workers: Vec<&'v Worker>,
    threads: u64,
    /// Of which that is not known yet, but that can take on no more either.
    learning: usize,
}

/// `None` when one of them may be idle, or when of none it is known that its threads are in turns.
fn full<'v>(
    scene: &Scene<'v>,
    pressure: &Pressure<'_>,
    serving: Vec<&'v Worker>,
) -> Option<Full<'v>> {
    let with_hands = serving.into_iter().map(|it| (it, scene.hands(it)));
    let (known, unknown): (Vec<_>, Vec<_>) = with_hands.partition(|(_, hands)| hands.is_some());
    let hands: Vec<Hands> = known.iter().filter_map(|(_, hands)| *hands).collect();
    // Those of one server have equal pools, and some of the threads may not have answered yet.
    let most = hands.iter().map(|hands| hands.all).max()?;
    let has_no_room = |worker: &Worker| {
        let is_learning = matches!(worker.class, None | Some(Class::Learning));
        is_learning && (is_laden(scene, worker, most) || takes_nothing(pressure, worker))
    };
    let is_full = hands.iter().all(|hands| hands.are_full())
        && unknown.iter().all(|(worker, _)| has_no_room(worker));
    is_full.then(|| Full {
        workers: known.into_iter().map(|(worker, _)| worker).collect(),
        threads: hands.iter().map(|hands| hands.all).sum(),
        learning: unknown.len(),
    })
}

/// It has as many requests as others have threads, or leaves some unread.
fn is_laden(scene: &Scene<'_>, worker: &Worker, threads: u64) -> bool {
    let leaves = scene.inside_of(worker).map(|waiting| waiting.lasted);
    let idle = worker.turns.as_ref().and_then(|turns| turns.idle);
    let with_work = worker.clients.zip(idle);
    let with_work = with_work.map(|(clients, idle)| clients.saturating_sub(idle));
    let threads = threads.max(worker.threads_seen.map_or(0, u64::from));
    leaves >= Some(SPIKE) || with_work >= Some(threads)
}

/// It has never accepted anything, though connections have waited in every sample: it is not ready.
fn takes_nothing(pressure: &Pressure<'_>, worker: &Worker) -> bool {
    pressure.queue.is_some() && worker.accepts == Some(0)
}

/// Every thread of every worker that serves it and is not stuck is in a turn, as far as they are
/// known, and the others are not idle.
fn all_in_turns(
    scene: &Scene<'_>,
    pressure: &Pressure<'_>,
    stuck: &BTreeMap<u32, Stuck<'_>>,
) -> Option<Finding> {
    let listener = pressure.listener;
    let is_stuck = |worker: &&Worker| stuck.get(&worker.pid).is_some_and(Stuck::is_whole);
    let (stuck, workers): (Vec<&Worker>, Vec<&Worker>) =
        scene.serving(listener)?.into_iter().partition(is_stuck);
    // When all are stuck, they are not too few.
    let full = full(scene, pressure, workers)?;
    let Full {
        workers, threads, ..
    } = &full;
    let stuck = stuck.len();
    let oldest = workers.iter().filter_map(|it| oldest_turn(it)).max();
    let since = [pressure.queue, pressure.inside]
        .into_iter()
        .flatten()
        .map(|waiting| waiting.since)
        .min();
    Some(Finding {
        code: Code::WorkersSaturated,
        amount: pressure.amount(),
        severity: Severity::Warning,
        subject: words::subject(listener),
        since,
        text: saturated_text(scene, pressure, &full, oldest, stuck),
        evidence: evidence([
            ("workers", Some(workers.len() as u64)),
            ("threads", Some(*threads)),
            (
                "learning_workers",
                Some(full.learning as u64).filter(|it| *it > 0),
            ),
            ("stuck_workers", Some(stuck as u64).filter(|it| *it > 0)),
            ("oldest_turn_ms", oldest.map(words::to_millis)),
            ("queued", pressure.queue.map(|it| it.count)),
            (
                "queued_ms",
                pressure.queue.map(|it| words::to_millis(it.lasted)),
            ),
            ("waiting", pressure.inside.map(|it| it.count)),
            (
                "waiting_ms",
                pressure.inside.map(|it| words::to_millis(it.lasted)),
            ),
            ("delay_ms", Some(words::to_millis(pressure.delay))),
        ]),
        next: if stuck > 0 {
            "see the stuck workers first: the others cannot do their work as well".to_owned()
        } else {
            "see what the turns wait for (a database, another service, the processor); if they \
             must take so long, add workers or threads"
                .to_owned()
        },
    })
}

fn saturated_text(
    scene: &Scene<'_>,
    pressure: &Pressure<'_>,
    full: &Full<'_>,
    oldest: Option<Duration>,
    stuck: usize,
) -> String {
    let listener = pressure.listener;
    let who = words::workers(scene.view, full.workers.len(), listener.server.value());
    let all = match full.threads {
        1 => format!("the only thread of {who} is in a turn"),
        threads => format!("all {threads} threads of {who} are in turns"),
    };
    let oldest = oldest.map_or(String::new(), |age| {
        format!(", the oldest of them {} old", words::time(age))
    });
    let stuck = match stuck {
        0 => String::new(),
        stuck => format!(", and {} stuck", plural(stuck as u64, "more worker")),
    };
    let learning = match full.learning {
        0 => String::new(),
        learning => format!(
            ", and no room in {} still being learnt",
            plural(learning as u64, "more worker")
        ),
    };
    let queue = pressure.queue.map(words::in_queue);
    let inside = pressure.inside;
    let inside = inside.map(|it| words::waits_now(it, "request", " inside the workers"));
    let waits: Vec<String> = queue.into_iter().chain(inside).collect();
    format!(
        "{}: {all}{oldest}{learning}{stuck}; {}; a wait takes about {}",
        words::place(scene.view, listener),
        waits.join(", "),
        words::time(pressure.delay)
    )
}
