//! Verdicts on clients that keep a server busy without use: they do not take their answers, or have
//! left before they got one.

pub(super) mod gone;

use std::time::Duration;

use super::{
    Severity, Subject,
    finding::{Code, Finding, evidence},
    scene::{Hands, Scene, Team},
    words,
};
use crate::{
    render::units::plural,
    view::{Class, Worker},
};

/// An event loop has room for this many writers that are blocked.
const MANY_WRITERS: u64 = 100;

/// A server with few threads has half of them blocked now and then. This is no longer now and then.
const SLOW: Duration = Duration::from_secs(3);

pub(super) fn slow(scene: &Scene<'_>) -> Vec<Finding> {
    let teams = scene.teams();
    teams
        .iter()
        .filter_map(|team| slow_clients(scene, team))
        .collect()
}

fn slow_clients(scene: &Scene<'_>, team: &Team<'_>) -> Option<Finding> {
    let blocked_of = |worker: &Worker| worker.turns.as_ref()?.blocked;
    let blocked: u64 = team.workers.iter().filter_map(|it| blocked_of(it)).sum();
    let oldest = team.workers.iter().filter_map(|worker| {
        let turns = worker.turns.as_ref()?;
        turns.oldest_us.filter(|_| turns.blocked > Some(0))
    });
    let oldest = Duration::from_micros(oldest.max()?);
    if oldest < SLOW {
        return None;
    }
    let all = threads(scene, team);
    let of = match all {
        Some(all) if blocked * 2 >= all => plural(all, "thread"),
        Some(_) => return None,
        None => {
            let clients = team.workers.iter().map(|it| it.clients);
            let clients: u64 = clients.sum::<Option<_>>()?;
            if blocked < MANY_WRITERS || blocked * 2 < clients {
                return None;
            }
            plural(clients, "client")
        }
    };
    // A download over a slow line is what a server is for, until somebody has to wait for it or
    // nobody is left for the next one.
    let is_trouble =
        somebody_waits(scene, team) || all.is_some_and(|all| blocked >= all && are_all_known(team));
    let severity = if is_trouble {
        Severity::Warning
    } else {
        Severity::Info
    };
    let server = team.server.map_or_else(
        || format!("process {}", team.workers[0].pid),
        |id| scene.view.server_label(id),
    );
    Some(Finding {
        code: Code::SlowClients,
        amount: blocked,
        severity,
        subject: of_team(scene, team),
        since: None,
        text: format!(
            "{server}: {blocked} of its {of} {} blocked by clients that do not take their answers; the \
             oldest turn is {} old",
            if blocked == 1 { "is" } else { "are" },
            words::time(oldest)
        ),
        evidence: evidence([
            ("blocked", Some(blocked)),
            ("threads", all),
            ("clients", team.workers.iter().map(|it| it.clients).sum()),
            ("oldest_turn_ms", Some(words::to_millis(oldest))),
        ]),
        next: "put a server that buffers answers in front of it (nginx), or limit how long a \
               client may take"
            .to_owned(),
    })
}

/// Whether the team has no more threads than those that are known to answer: one that reads its own
/// requests may have others that have not had to.
fn are_all_known(team: &Team<'_>) -> bool {
    let mut workers = team.workers.iter();
    workers.all(|it| it.class == Some(Class::Handoff) || it.threads == Some(1))
}

/// Threads of a server that has one for each turn; `None` for event loops, and where not known.
fn threads(scene: &Scene<'_>, team: &Team<'_>) -> Option<u64> {
    let hands = team.workers.iter().map(|worker| scene.hands(worker));
    let hands: Vec<Hands> = hands.collect::<Option<_>>()?;
    Some(hands.iter().map(|hands| hands.all).sum())
}

fn somebody_waits(scene: &Scene<'_>, team: &Team<'_>) -> bool {
    let mut listeners = team.workers.iter().flat_map(|worker| scene.served(worker));
    listeners.any(|listener| scene.has_to_wait(listener))
}

/// The server, with its listener where that is only one.
fn of_team(scene: &Scene<'_>, team: &Team<'_>) -> Subject {
    let only = scene.only_listener(&team.workers);
    Subject {
        server: team.server.cloned(),
        pid: match team.workers[..] {
            [worker] => Some(worker.pid),
            _ => None,
        },
        ..only.map(words::subject).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnose::fixture::{check, inside, nginx, puma, queue, unicorn, verdicts, writing};

    #[test]
    fn clients_that_do_not_take_their_answers() {
        check(&[
            (
                "half of the threads write to stalled readers",
                puma,
                |view| writing(view, 0, 4, 4, 20.0),
                &["info slow-clients"],
            ),
            (
                "and connections wait",
                puma,
                |view| {
                    writing(view, 0, 4, 4, 20.0);
                    queue(view, 60, 1.2);
                },
                &["warning slow-clients"],
            ),
            (
                "and connections wait for a moment each",
                puma,
                |view| {
                    writing(view, 0, 4, 4, 20.0);
                    queue(view, 2, 60.0);
                },
                &["info slow-clients"],
            ),
            (
                "and requests wait inside",
                puma,
                |view| {
                    writing(view, 0, 4, 4, 20.0);
                    inside(view, 0, 60, 1.3);
                },
                &["warning slow-clients"],
            ),
            (
                "all of the threads",
                puma,
                |view| {
                    writing(view, 0, 4, 4, 20.0);
                    writing(view, 1, 4, 4, 3.0);
                },
                &["warning slow-clients"],
            ),
            (
                "fewer than half",
                puma,
                |view| writing(view, 0, 3, 3, 20.0),
                &[],
            ),
            (
                "they have only begun",
                puma,
                |view| writing(view, 0, 4, 4, 2.9),
                &[],
            ),
            (
                "paused streams, which the clients take",
                puma,
                |view| writing(view, 0, 4, 0, 20.0),
                &[],
            ),
            (
                "one of two single threads",
                unicorn,
                |view| writing(view, 0, 1, 1, 4.0),
                &["info slow-clients"],
            ),
            (
                "long downloads to slow clients from an event loop",
                nginx,
                |view| writing(view, 0, 4, 4, 600.0),
                &[],
            ),
            (
                "very many of them",
                nginx,
                |view| writing(view, 0, 200, 150, 600.0),
                &["info slow-clients"],
            ),
            (
                "very many of them, and connections wait",
                nginx,
                |view| {
                    writing(view, 0, 200, 150, 600.0);
                    queue(view, 60, 1.2);
                },
                &["warning slow-clients"],
            ),
            (
                "of how many clients is not known",
                nginx,
                |view| {
                    writing(view, 0, 200, 150, 600.0);
                    view.workers[1].clients = None;
                },
                &[],
            ),
            (
                "a part of very many clients",
                nginx,
                |view| {
                    writing(view, 0, 200, 150, 600.0);
                    view.workers[0].clients = Some(299);
                },
                &[],
            ),
        ]);
    }

    #[test]
    fn how_many_threads_are_blocked() {
        let verdict = verdicts(puma, |view| writing(view, 0, 4, 4, 20.0)).swap_remove(0);
        assert_eq!(
            verdict.text,
            "puma:100: 4 of its 8 threads are blocked by clients that do not take their answers; \
             the oldest turn is 20s old"
        );
        assert_eq!(
            (verdict.evidence["blocked"], verdict.evidence["threads"]),
            (4, 8)
        );
    }
}
