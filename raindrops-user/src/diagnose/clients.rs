//! Verdicts on clients that keep a server busy without use: they do not take their answers, or have
//! left before they got one.

use std::time::Duration;

use super::{
    Severity, Subject,
    finding::{Code, Finding, evidence},
    scene::{Hands, Scene, Team},
    words,
};
use crate::{
    render::units::plural,
    view::{Listener, Worker, WriteEnd},
};

/// An event loop has room for this many writers that are blocked.
const MANY_WRITERS: u64 = 100;

/// An event loop has room for this many clients that have left.
const MANY_GONE: u64 = 20;

/// One client that gave up is no pile.
const FEWEST_GONE: u64 = 2;

/// A server with few threads has half of them blocked now and then. This is no longer now and then.
const SLOW: Duration = Duration::from_secs(3);

/// Work of this age for a client that has left is wasted; a client may also just have said that it
/// sends no more.
const WASTED: Duration = Duration::from_secs(5);

/// A server that gets to its clients' ends has closed by then.
const LEFT: Duration = Duration::from_secs(9);

/// As long may it take to close one connection, for what a busy server has of them to be a pile.
const PASSING: Duration = Duration::from_secs(1);

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
    let is_trouble = somebody_waits(scene, team) || all.is_some_and(|all| blocked >= all);
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

pub(super) fn gone(scene: &Scene<'_>) -> Vec<Finding> {
    let listeners = scene.view.listeners.iter();
    listeners
        .filter_map(|it| half_closed(scene, it).or_else(|| left_open(scene, it)))
        .collect()
}

/// Clients of a listener have left, no turn is open that could be for them, and the server does not
/// close: it leaks them, or never reads.
fn left_open(scene: &Scene<'_>, listener: &Listener) -> Option<Finding> {
    let recent = &listener.recent;
    let over = Duration::from_millis(recent.over_ms);
    let connections = listener.connections.as_ref()?;
    let (gone, here) = (connections.half_closed?, connections.active?);
    let turns = listener.turns.as_ref()?;
    // Who said only that he sends no more may be waiting for his answer.
    let in_turns = turns.reading? + turns.calling? + turns.writing?;
    let kept = recent.half_closed_least?.checked_sub(in_turns)?;
    // A server that closes so many takes some time for each.
    let passing = recent.closes_per_s? * PASSING.as_secs_f64();
    if over < LEFT || kept < MANY_GONE || (kept as f64) < passing {
        return None;
    }
    let unread = turns.waiting.filter(|unread| *unread > 0);
    let sent = unread.map_or(String::new(), |unread| {
        format!("; {} nobody has read", plural(unread, "request"))
    });
    Some(Finding {
        code: Code::HalfClosedPileup,
        amount: gone,
        severity: Severity::Warning,
        subject: words::subject(listener),
        since: None,
        text: format!(
            "{}: {gone} of its {} have closed, the server has not and is in no turn for them: at \
             least {kept} at every look of the last {}{sent}",
            words::place(scene.view, listener),
            plural(gone + here, "client"),
            words::time(over)
        ),
        evidence: evidence([
            ("half_closed", Some(gone)),
            ("active", Some(here)),
            ("left_open", Some(kept)),
            ("over_ms", Some(recent.over_ms)),
            ("unread", unread),
        ]),
        next: "see whether the server still reads and why it does not close (CLOSE-WAIT in ss): \
               it forgets connections, or cannot get to them; each costs it a descriptor"
            .to_owned(),
    })
}

/// Most of a listener's clients have left, and the server works on.
fn half_closed(scene: &Scene<'_>, listener: &Listener) -> Option<Finding> {
    let connections = listener.connections.as_ref()?;
    let (gone, here) = (connections.half_closed?, connections.active?);
    let turns = listener.turns.as_ref()?;
    // Else the oldest may be an idle keep-alive connection.
    let turns = Some(turns).filter(|turns| turns.write_end == WriteEnd::Seen)?;
    let oldest = Duration::from_micros(turns.oldest_us?);
    let workers = scene.serving(listener).unwrap_or_default();
    let hands: Option<Vec<Hands>> = workers.iter().map(|it| scene.hands(it)).collect();
    let threads: Option<u64> = hands
        .map(|hands| hands.iter().map(|hands| hands.all).sum())
        .filter(|threads| *threads > 0);
    let many = threads.map_or(MANY_GONE, |threads| threads.div_ceil(2).max(FEWEST_GONE));
    if gone < many.min(MANY_GONE) || gone < here || oldest < WASTED {
        return None;
    }
    Some(Finding {
        code: Code::HalfClosedPileup,
        amount: gone,
        severity: Severity::Warning,
        subject: words::subject(listener),
        since: None,
        text: format!(
            "{}: {} of its {} have closed, the server has not: it seems to work for nobody, at one \
             turn for {}",
            words::place(scene.view, listener),
            gone,
            plural(gone + here, "client"),
            words::time(oldest)
        ),
        evidence: evidence([
            ("half_closed", Some(gone)),
            ("active", Some(here)),
            ("threads", threads),
            ("oldest_turn_ms", Some(words::to_millis(oldest))),
        ]),
        next: "make the server give up before its clients do: a timeout for each request that is \
               shorter than theirs"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        diagnose::fixture::{
            calling, check, inside, listener_turns, nginx, no_accepts, no_answers, puma, queue,
            unicorn, verdicts, writing,
        },
        view::{View, WriteEnd},
    };

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

    fn left(view: &mut View, half_closed: u64, active: u64) {
        let connections = view.listeners[0].connections.as_mut().unwrap();
        connections.half_closed = Some(half_closed);
        connections.active = Some(active);
    }

    #[test]
    fn clients_that_have_left() {
        check(&[
            (
                "both workers work for clients that gave up",
                unicorn,
                |view| {
                    calling(view, 0, 1, 6.0);
                    calling(view, 1, 1, 6.0);
                    no_accepts(view, 6.0);
                    no_answers(view, 6.0);
                    left(view, 2, 0);
                },
                &["warning half-closed-pileup"],
            ),
            (
                "they have only just left",
                puma,
                |view| {
                    listener_turns(view).oldest_us = Some(4_900_000);
                    left(view, 4, 0);
                },
                &[],
            ),
            (
                "half of eight threads",
                puma,
                |view| {
                    listener_turns(view).oldest_us = Some(5_000_000);
                    left(view, 4, 4);
                },
                &["warning half-closed-pileup"],
            ),
            (
                "most clients are still there",
                puma,
                |view| {
                    listener_turns(view).oldest_us = Some(5_000_000);
                    left(view, 4, 5);
                },
                &[],
            ),
            (
                "an event loop has room for some",
                nginx,
                |view| {
                    listener_turns(view).oldest_us = Some(5_000_000);
                    left(view, 19, 0);
                },
                &[],
            ),
            (
                "but not for many",
                nginx,
                |view| {
                    listener_turns(view).oldest_us = Some(5_000_000);
                    left(view, 20, 0);
                },
                &["warning half-closed-pileup"],
            ),
            (
                "what seems a turn may be an idle keep-alive connection",
                puma,
                |view| {
                    let turns = listener_turns(view);
                    turns.oldest_us = Some(5_000_000);
                    turns.write_end = WriteEnd::NextRead;
                    left(view, 4, 0);
                },
                &[],
            ),
            ("they are in no turn", nginx, |view| left(view, 20, 0), &[]),
            (
                "that is why the queue drops",
                nginx,
                |view| {
                    listener_turns(view).oldest_us = Some(5_000_000);
                    left(view, 20, 0);
                    queue(view, 64, 0.5);
                    no_accepts(view, 0.5);
                    view.listeners[0].recent.overflows = Some(12);
                },
                &["critical half-closed-pileup", "critical queue-dropping"],
            ),
        ]);
    }

    /// So many have been half-closed at every look of ten seconds, in no turn.
    fn kept(view: &mut View, half_closed: u64) {
        left(view, half_closed, 500);
        view.listeners[0].recent.half_closed_least = Some(half_closed);
        view.listeners[0].recent.closes_per_s = Some(2.0);
    }

    #[test]
    fn clients_that_have_left_and_are_in_no_turn() {
        check(&[
            (
                "a server that leaks them",
                puma,
                |view| kept(view, 20),
                &["warning half-closed-pileup"],
            ),
            ("few", puma, |view| kept(view, 19), &[]),
            (
                "an event loop",
                nginx,
                |view| kept(view, 20),
                &["warning half-closed-pileup"],
            ),
            (
                "they come and go",
                puma,
                |view| {
                    kept(view, 20);
                    view.listeners[0].recent.half_closed_least = Some(3);
                },
                &[],
            ),
            (
                "each for less than a second",
                nginx,
                |view| {
                    kept(view, 20);
                    view.listeners[0].recent.closes_per_s = Some(21.0);
                },
                &[],
            ),
            (
                "they may be waiting for their answers",
                nginx,
                |view| {
                    kept(view, 21);
                    writing(view, 0, 2, 0, 900.0);
                },
                &[],
            ),
            (
                "it has not been looked at for long",
                nginx,
                |view| {
                    kept(view, 20);
                    view.listeners[0].recent.over_ms = 8_900;
                },
                &[],
            ),
            (
                "how many are in turns is not known",
                puma,
                |view| {
                    kept(view, 20);
                    listener_turns(view).calling = None;
                },
                &[],
            ),
        ]);
        let verdict = verdicts(nginx, |view| {
            kept(view, 30);
            listener_turns(view).waiting = Some(30);
        })
        .swap_remove(0);
        assert_eq!(
            verdict.text,
            "127.0.0.1:8080: 30 of its 530 clients have closed, the server has not and is in no \
             turn for them: at least 30 at every look of the last 10s; 30 requests nobody has read"
        );
    }

    #[test]
    fn how_many_have_left() {
        let verdict = verdicts(puma, |view| {
            listener_turns(view).oldest_us = Some(42_000_000);
            left(view, 7, 1);
        })
        .swap_remove(0);
        assert_eq!(
            verdict.text,
            "127.0.0.1:8080: 7 of its 8 clients have closed, the server has not: it seems to work \
             for nobody, at one turn for 42s"
        );
    }
}
