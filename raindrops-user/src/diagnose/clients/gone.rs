//! Clients that have left, while the server works for them or leaves their connections open.
//!
//! Separate from those that are slow: these need no server's help any more.

use std::time::Duration;

use crate::{
    diagnose::{
        Severity,
        finding::{Code, Finding, evidence},
        scene::{Hands, Scene},
        words,
    },
    render::units::plural,
    view::{Listener, WriteEnd},
};

/// An event loop has room for this many clients that have left.
const MANY_GONE: u64 = 20;

/// One client that gave up is no pile.
const FEWEST_GONE: u64 = 2;

/// Work of this age for a client that has left is wasted; a client may also just have said that it
/// sends no more.
const WASTED: Duration = Duration::from_secs(5);

/// A server that gets to its clients' ends has closed by then.
const LEFT: Duration = Duration::from_secs(9);

/// As long may it take to close one connection, for what a busy server has of them to be a pile.
const PASSING: Duration = Duration::from_secs(1);

pub(in crate::diagnose) fn findings(scene: &Scene<'_>) -> Vec<Finding> {
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
            calling, check, listener_turns, nginx, no_accepts, no_answers, puma, queue, unicorn,
            verdicts, writing,
        },
        view::{View, WriteEnd},
    };

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
