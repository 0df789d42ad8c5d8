//! The verdict that requests wait inside a worker, because its pool has no free thread. The kernel's
//! queue does not show them.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{
    Severity, Subject,
    finding::{Code, Finding, evidence},
    scene::{Hands, NOTICEABLE, SPIKE, Scene, Team, Waiting, oldest_turn},
    words,
};
use crate::{
    render::units::plural,
    view::{Class, Worker, puma::PumaSource},
};

/// A worker that has accepted more than its threads can do; no other can take it.
struct Short<'v> {
    worker: &'v Worker,
    waiting: Waiting,
    hands: Hands,
}

/// At most one for each server, which names the worker in which most waits.
pub(super) fn findings(scene: &Scene<'_>) -> Vec<Finding> {
    let teams = scene.teams();
    teams
        .iter()
        .filter_map(|team| {
            let workers = team.workers.iter();
            let short: Vec<Short<'_>> = workers.filter_map(|it| short(scene, it)).collect();
            shortage(scene, team, &short)
        })
        .collect()
}

fn short<'v>(scene: &Scene<'v>, worker: &'v Worker) -> Option<Short<'v>> {
    let hands = scene.hands(worker).filter(|hands| hands.are_full())?;
    let has_pool = worker.class == Some(Class::Handoff) || hands.all > 1;
    let waiting = scene
        .inside_of(worker)
        .filter(|waiting| has_pool && waiting.lasted >= SPIKE)?;
    let slow = scene.served(worker).any(|listener| {
        let delay = scene
            .inside(listener)
            .and_then(|inside| Scene::inside_delay(listener, inside));
        delay.is_some_and(|delay| delay >= NOTICEABLE)
    });
    // Others' answers may hide that this one gives none.
    let last_answer = worker.turns.as_ref().and_then(|it| it.last_answer_age_us);
    let silent = last_answer.map_or_else(
        || oldest_turn(worker).is_some_and(|age| age >= SPIKE),
        |age| Duration::from_micros(age) >= NOTICEABLE,
    );
    (slow || silent).then_some(Short {
        worker,
        waiting,
        hands,
    })
}

fn shortage(scene: &Scene<'_>, team: &Team<'_>, short: &[Short<'_>]) -> Option<Finding> {
    let worst = short.iter().max_by_key(|it| it.waiting.count)?;
    let waiting: u64 = short.iter().map(|it| it.waiting.count).sum();
    let only = scene.only_listener(&[worst.worker]);
    let more = match short.len() - 1 {
        0 => String::new(),
        more => format!(
            "; so do {} in {}",
            waiting - worst.waiting.count,
            plural(more as u64, "other worker")
        ),
    };
    let puma = said_by_puma(scene, worst.worker);
    Some(Finding {
        code: Code::PoolShortage,
        amount: waiting,
        severity: Severity::Warning,
        subject: Subject {
            server: team.server.cloned(),
            pid: Some(worst.worker.pid),
            ..only.map(words::subject).unwrap_or_default()
        },
        since: short.iter().map(|it| it.waiting.since).min(),
        text: format!(
            "{}: {}{more}",
            words::waits_now(
                worst.waiting,
                "request",
                &format!(" inside {}", words::worker(scene.view, worst.worker))
            ),
            match worst.hands.all {
                1 => "its only thread is in a turn".to_owned(),
                all => format!("all its {all} threads are in turns"),
            },
        ),
        evidence: evidence([
            ("waiting", Some(waiting)),
            ("waiting_ms", Some(words::to_millis(worst.waiting.lasted))),
            ("short_workers", Some(short.len() as u64)),
            ("workers", Some(team.workers.len() as u64)),
            ("threads", Some(worst.hands.all)),
            (
                "oldest_turn_ms",
                oldest_turn(worst.worker).map(words::to_millis),
            ),
            ("puma_backlog", puma.and_then(|puma| puma.0)),
            ("puma_max_threads", puma.and_then(|puma| puma.1)),
        ]),
        next: match short.len() {
            all if all == team.workers.len() => {
                "see what the turns wait for; if they must take so long, raise the threads of \
                 each worker or add workers"
            }
            _ => {
                "see what its turns wait for; no other worker can take what this one has \
                 accepted, so let each accept less (fewer connections, a shorter keep-alive \
                 timeout)"
            }
        }
        .to_owned(),
    })
}

/// Backlog and most threads, where puma's control server told them.
fn said_by_puma(scene: &Scene<'_>, worker: &Worker) -> Option<(Option<u64>, Option<u64>)> {
    let server = worker.server.value()?;
    let server = scene.view.servers.iter().find(|it| it.id == *server)?;
    let puma = server.puma.value()?;
    let of_worker = puma.workers.iter().find(|it| it.pid == Some(worker.pid))?;
    (puma.source == PumaSource::Control).then_some((of_worker.backlog, of_worker.max_threads))
}
