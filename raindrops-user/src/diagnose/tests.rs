use std::time::Duration;

use super::{Diagnosis, Severity, diagnose, fixture};
use crate::view::{Class, Exits, Gap, View, Worker};

fn view() -> View {
    serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap()
}

#[test]
fn a_listener_that_drops_comes_first() {
    let diagnosis = diagnose(&view());
    let verdict = &diagnosis.verdicts[0];
    assert_eq!(
        serde_json::to_value(verdict).unwrap(),
        serde_json::json!({
            "verdict": "queue-dropping",
            "severity": "critical",
            "subject": {
                "listener": "4026531833:17", "address": "127.0.0.1:18080",
                "server": "unicorn:14387", "pid": null
            },
            "text": "127.0.0.1:18080 dropped 32 connection attempts (retries counted) in the \
                     last 10 s, 153 since 2026-11-22T00:00:00Z: its queue of 8 (the app's \
                     listen backlog) was full",
            "evidence": {
                "queued": 9, "limit": 8, "peak": 9, "overflows": 153, "recent_overflows": 32
            },
            "next": "see whether its workers are stuck or too few; then raise the app's \
                     listen backlog (unicorn: listen …, backlog: N) or add workers"
        })
    );
    assert_eq!(diagnosis.worst(), Some(Severity::Critical));
}

#[test]
fn recent_overflows_have_a_window_of_their_own_and_never_exceed_the_total() {
    let mut view = view();
    let listener = &mut view.listeners[0];
    listener.recent.over_ms = 10_900;
    listener.recent.overflows = Some(386);
    listener.recent.overflows_over_ms = 9_400;
    listener.queue.overflows = Some(357);
    let verdict = &diagnose(&view).verdicts[0];
    let found = "dropped 357 connection attempts (retries counted) in the last 10 s, 357 since";
    assert!(verdict.text.contains(found), "{}", verdict.text);
    assert_eq!(verdict.evidence["recent_overflows"], 357);
}

#[test]
fn past_overflows_are_no_verdict_but_a_full_queue_is() {
    let mut view = view();
    view.gaps.clear();
    view.listeners[0].recent.overflows = Some(0);
    let codes = |diagnosis: &Diagnosis| -> Vec<String> {
        diagnosis
            .verdicts
            .iter()
            .map(|verdict| verdict.verdict.clone())
            .collect()
    };
    assert_eq!(codes(&diagnose(&view)), ["queue-full"]);

    view.listeners[0].queue.queued = Some(8);
    assert_eq!(diagnose(&view).worst(), None);
}

#[test]
fn an_old_view_is_blindness_before_all_else() {
    let fresh = diagnose(&view());
    let aged = fresh.clone().aged(Duration::from_millis(14_500));
    assert_eq!(aged.verdicts[1..], fresh.verdicts);
    assert_eq!(aged.verdicts[0].verdict, "blind");
    assert_eq!(
        aged.verdicts[0].text,
        "figures are 14 s old: the sampler hangs"
    );
    assert_eq!(aged.worst(), Some(Severity::Critical));
}

#[test]
fn the_host_part_lists_every_source() {
    let diagnosis = diagnose(&view());
    let names: Vec<_> = diagnosis.host.iter().map(|it| it.source.as_str()).collect();
    assert_eq!(names, ["bpf", "sock_diag", "proc"]);
    let json = serde_json::to_string(&diagnosis).unwrap();
    assert_eq!(serde_json::from_str::<Diagnosis>(&json).unwrap(), diagnosis);
}

/// Check that nothing that a healthy host does is called wrong.
#[test]
fn healthy_mixes() {
    fixture::check(&[
        (
            "steady load on single threads",
            fixture::unicorn,
            |_| {},
            &[],
        ),
        (
            "steady load that keeps all threads busy",
            fixture::puma,
            |view| {
                fixture::queue(view, 6, 600.0);
                for worker in 0..2 {
                    fixture::calling(view, worker, 4, 0.02);
                    fixture::inside(view, worker, 3, 600.0);
                }
            },
            &[],
        ),
        (
            "an event loop in whose queue every sample finds something",
            fixture::nginx,
            |view| {
                fixture::queue(view, 9, 600.0);
                view.listeners[0].recent.accepts_per_s = Some(30_000.0);
                for worker in 0..2 {
                    fixture::calling(view, worker, 40, 0.02);
                    fixture::inside(view, worker, 3, 600.0);
                }
            },
            &[],
        ),
        (
            "20 idle keep-alive clients, and nothing else",
            fixture::puma,
            |view| {
                fixture::no_accepts(view, 60.0);
                fixture::no_answers(view, 60.0);
                for worker in &mut view.workers {
                    worker.clients = Some(10);
                }
            },
            &[],
        ),
        (
            "long downloads to slow clients",
            fixture::nginx,
            |view| {
                fixture::writing(view, 0, 4, 4, 900.0);
                fixture::writing(view, 1, 40, 40, 900.0);
            },
            &[],
        ),
        (
            "long polling on a loop",
            fixture::nginx,
            |view| {
                for worker in 0..2 {
                    fixture::calling(view, worker, 500, 29.0);
                }
                view.listeners[0].recent.answer = Some(fixture::lately(160, 30_000_000));
            },
            &[],
        ),
        (
            "long polling on threads, as many as there are",
            fixture::puma,
            |view| {
                for worker in 0..2 {
                    fixture::calling(view, worker, 4, 29.0);
                }
                view.listeners[0].recent.answer = Some(fixture::lately(3, 30_000_000));
                fixture::listener_turns(view).answer = fixture::durations(1000, 30_000_000);
            },
            &[],
        ),
        (
            "long polling just after the start: nothing has been answered yet",
            fixture::puma,
            |view| {
                for worker in 0..2 {
                    fixture::calling(view, worker, 4, 20.0);
                }
                fixture::no_answers(view, 20.0);
                fixture::listener_turns(view).answer.count = 0;
            },
            &[],
        ),
        (
            "a restart in phases: one worker is new, one drains",
            fixture::puma,
            |view| {
                view.servers[0].exits = Some(Exits {
                    count: 1,
                    over_ms: 60_000,
                    median_life_ms: 86_400_000,
                });
                let new = &mut view.workers[1];
                new.started_at = Some(view.taken_at - Duration::from_secs(2));
                (new.accepts, new.last_accept_age_us) = (Some(0), None);
                (new.class, new.clients) = (Some(Class::Learning), Some(0));
                (new.threads_seen, new.threads_busy) = (None, None);
                fixture::calling(view, 0, 2, 0.9);
                view.workers[0].last_accept_age_us = Some(3_000_000);
                fixture::queue(view, 3, 0.8);
            },
            &[],
        ),
        (
            "a spike that is absorbed",
            fixture::puma,
            |view| {
                fixture::queue(view, 60, 1.5);
                for worker in 0..2 {
                    fixture::calling(view, worker, 4, 0.3);
                    fixture::inside(view, worker, 9, 1.5);
                }
                view.listeners[0].recent.accepts_per_s = Some(20.0);
                view.listeners[0].recent.wait = Some(fixture::lately(200, 1_400_000));
            },
            &[],
        ),
        (
            "a spike that fills the queue for an instant",
            fixture::unicorn,
            |view| {
                fixture::queue(view, 65, 0.6);
                view.listeners[0].queue.full_since =
                    Some(view.taken_at - Duration::from_millis(300));
            },
            &["info queue-full"],
        ),
        (
            "clients that say that they send no more",
            fixture::unicorn,
            |view| {
                fixture::calling(view, 0, 1, 0.9);
                fixture::calling(view, 1, 1, 0.9);
                let connections = view.listeners[0].connections.as_mut().unwrap();
                (connections.half_closed, connections.active) = (Some(2), Some(0));
            },
            &[],
        ),
    ]);
}

/// Check that one reading, which has no past, is not guessed from.
#[test]
fn a_single_reading_tells_only_what_it_sees() {
    let once = |view: &mut View| {
        view.since = view.taken_at;
        for worker in &mut view.workers {
            *worker = Worker {
                accepts: None,
                active: None,
                last_accept_age_us: None,
                class: None,
                threads_busy: None,
                threads_seen: None,
                clients: None,
                turns: None,
                stalled: None,
                ..worker.clone()
            };
        }
        let listener = &mut view.listeners[0];
        (listener.connections, listener.turns) = (None, None);
        listener.queue.queued = Some(20);
        listener.recent.accepts_per_s = None;
        listener.recent.wait = None;
        listener.recent.answer = None;
        listener.recent.overflows = None;
    };
    let codes = |change: &dyn Fn(&mut View)| {
        let mut view = fixture::unicorn();
        once(&mut view);
        change(&mut view);
        let verdicts = diagnose(&view).verdicts;
        let codes: Vec<_> = verdicts.into_iter().map(|it| it.verdict).collect();
        codes
    };
    assert_eq!(codes(&|_| {}), [""; 0]);
    assert_eq!(
        codes(&|view| view.workers[0].state = "T".to_owned()),
        [""; 0]
    );
    assert_eq!(
        codes(&|view| view.workers[0].state = "D".to_owned()),
        [""; 0]
    );
    assert_eq!(
        codes(&|view| view.listeners[0].workers = Some(Vec::new())),
        [""; 0]
    );
    assert_eq!(
        codes(&|view| view.listeners[0].queue.queued = Some(65)),
        ["queue-full"]
    );
    assert_eq!(
        codes(&|view| view.workers[0].fds = Some(1000)),
        ["fd-limit"]
    );
}

/// Check that what to act on comes before what follows from it, however large that is.
#[test]
fn the_first_verdict_is_the_one_to_act_on() {
    let mut view = fixture::unicorn();
    view.listeners[0].recent.accepts_per_s = Some(1.0);
    fixture::queue(&mut view, 65, 30.0);
    view.listeners[0].queue.full_since = Some(view.taken_at - Duration::from_secs(20));
    fixture::calling(&mut view, 0, 1, 30.0);
    fixture::calling(&mut view, 1, 1, 0.9);
    fixture::stalled(&mut view, 0, "T", 30.0);
    view.workers[1].fds = Some(930);
    view.gaps.push(Gap {
        what: "map-full".to_owned(),
        text: "connections not tracked: map full".to_owned(),
        count: 1_000_000,
        hint: String::new(),
        ..Gap::default()
    });
    let found = |view: &View| -> Vec<_> {
        let verdicts = diagnose(view).verdicts.into_iter();
        verdicts
            .map(|it| format!("{} {}", it.severity, it.verdict))
            .collect()
    };
    assert_eq!(
        found(&view),
        [
            "warning stuck-worker",
            "warning fd-limit",
            "warning workers-saturated",
            "warning queue-full",
            "warning blind",
        ]
    );
    view.listeners[0].recent.overflows = Some(7);
    view.listeners[0].queue.overflows = Some(7);
    assert_eq!(
        found(&view),
        [
            "critical stuck-worker",
            "critical workers-saturated",
            "critical queue-dropping",
            "warning fd-limit",
            "warning blind",
        ]
    );
}

#[test]
fn a_full_queue_says_since_when() {
    let full = |view: &mut View| {
        fixture::queue(view, 65, 12.0);
        view.listeners[0].queue.full_since = Some(view.taken_at - Duration::from_secs(10));
    };
    let verdict = fixture::verdicts(fixture::nginx, full).swap_remove(0);
    assert_eq!(
        verdict.text,
        "127.0.0.1:8080 has 65 connections waiting to be accepted: its queue of 64 (the app's \
         listen backlog) is full, for 10s in every sample"
    );
    let mut view = fixture::nginx();
    full(&mut view);
    view.listeners[0].recent.overflows = Some(7);
    view.listeners[0].queue.overflows = Some(9);
    let verdict = diagnose(&view).verdicts.swap_remove(0);
    assert_eq!(
        verdict.text,
        "127.0.0.1:8080 dropped 7 connection attempts (retries counted) in the last 10 s, 9 since \
         2026-11-22T00:02:03Z: its queue of 64 (the app's listen backlog) has been full since \
         2026-11-22T01:01:53Z"
    );
}
