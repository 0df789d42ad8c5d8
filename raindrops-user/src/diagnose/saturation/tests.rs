use crate::{
    diagnose::fixture::{
        all_calling, calling, check, inside, listener_turns, nginx, no_accepts, no_answers, puma,
        queue, slow, stalled, turns, unicorn, verdicts, writing,
    },
    view::{Class, View, WriteEnd},
};

#[test]
fn all_workers_are_in_turns() {
    check(&[
        (
            "connections wait for single threads",
            unicorn,
            |view| {
                slow(view);
                all_calling(view, 1, 0.9);
                queue(view, 14, 12.0);
            },
            &["warning workers-saturated"],
        ),
        (
            "for pools",
            puma,
            |view| {
                slow(view);
                all_calling(view, 4, 0.9);
                queue(view, 14, 12.0);
            },
            &["warning workers-saturated"],
        ),
        (
            "nothing has been accepted or answered for long",
            unicorn,
            |view| {
                all_calling(view, 1, 60.0);
                queue(view, 14, 60.0);
                no_accepts(view, 60.0);
                no_answers(view, 60.0);
            },
            &["warning workers-saturated"],
        ),
        (
            "a spike that is absorbed",
            unicorn,
            |view| {
                slow(view);
                all_calling(view, 1, 0.9);
                queue(view, 40, 1.9);
            },
            &[],
        ),
        (
            "steady load: something waits in every sample, for a moment each",
            unicorn,
            |view| {
                all_calling(view, 1, 0.01);
                queue(view, 8, 600.0);
            },
            &[],
        ),
        (
            "nothing waits",
            unicorn,
            |view| {
                slow(view);
                all_calling(view, 1, 0.9);
            },
            &[],
        ),
        (
            "one worker is free",
            unicorn,
            |view| {
                slow(view);
                calling(view, 0, 1, 0.9);
                queue(view, 14, 12.0);
            },
            &[],
        ),
        (
            "one thread is free",
            puma,
            |view| {
                slow(view);
                all_calling(view, 4, 0.9);
                calling(view, 1, 3, 0.9);
                queue(view, 14, 12.0);
            },
            &[],
        ),
        (
            "loops have no number of threads",
            nginx,
            |view| {
                slow(view);
                all_calling(view, 1, 0.9);
                queue(view, 14, 12.0);
            },
            &[],
        ),
        (
            "a worker in its first turn, which no thread has answered yet",
            unicorn,
            |view| {
                slow(view);
                all_calling(view, 1, 0.9);
                queue(view, 14, 12.0);
                view.workers[1].threads_seen = Some(0);
                view.workers[1].threads_busy = Some(0);
            },
            &["warning workers-saturated"],
        ),
        (
            "writing counts",
            unicorn,
            |view| {
                slow(view);
                writing(view, 0, 1, 0, 0.9);
                calling(view, 1, 1, 0.9);
                queue(view, 14, 12.0);
            },
            &["warning workers-saturated"],
        ),
        (
            "but not where idle keep-alive connections look the same",
            unicorn,
            |view| {
                slow(view);
                writing(view, 0, 1, 0, 0.9);
                calling(view, 1, 1, 0.9);
                queue(view, 14, 12.0);
                listener_turns(view).write_end = WriteEnd::NextRead;
            },
            &[],
        ),
        (
            "single threads that wait for the rest of requests",
            unicorn,
            |view| {
                slow(view);
                queue(view, 14, 12.0);
                for worker in &mut view.workers {
                    turns(worker).reading = Some(1);
                }
            },
            &["warning workers-saturated"],
        ),
        (
            "one of them is stopped",
            unicorn,
            |view| {
                slow(view);
                all_calling(view, 1, 0.9);
                queue(view, 14, 12.0);
                stalled(view, 0, "T", 12.0);
            },
            &["warning stuck-worker", "warning workers-saturated"],
        ),
        (
            "one of them is stopped with nothing to do, and can help nobody",
            unicorn,
            |view| {
                slow(view);
                calling(view, 1, 1, 0.9);
                queue(view, 14, 12.0);
                stalled(view, 0, "T", 12.0);
            },
            &["warning stuck-worker", "warning workers-saturated"],
        ),
        (
            "one thread is stuck in a long turn, another is free",
            puma,
            |view| {
                slow(view);
                all_calling(view, 4, 0.9);
                calling(view, 0, 3, 12.0);
                queue(view, 14, 12.0);
            },
            &["warning stuck-worker"],
        ),
        (
            "all of them are: they are not too few",
            unicorn,
            |view| {
                slow(view);
                all_calling(view, 1, 12.0);
                queue(view, 14, 12.0);
                stalled(view, 0, "T", 12.0);
                stalled(view, 1, "T", 12.0);
            },
            &["critical stuck-worker", "critical stuck-worker"],
        ),
        (
            "the queue is full",
            unicorn,
            |view| {
                slow(view);
                all_calling(view, 1, 0.9);
                queue(view, 65, 12.0);
            },
            &["warning workers-saturated", "warning queue-full"],
        ),
        (
            "the queue drops",
            unicorn,
            |view| {
                slow(view);
                all_calling(view, 1, 0.9);
                queue(view, 65, 12.0);
                view.listeners[0].recent.overflows = Some(12);
            },
            &["critical workers-saturated", "critical queue-dropping"],
        ),
    ]);
}

/// The other worker is busy, connections wait, and of this one it is not known how it works.
fn learning(view: &mut View, clients: u64, idle: u64) {
    slow(view);
    let threads = view.workers[0].threads_seen.unwrap_or(1);
    calling(view, 0, threads, 0.9);
    queue(view, 14, 12.0);
    let worker = &mut view.workers[1];
    worker.class = Some(Class::Learning);
    (worker.threads_seen, worker.threads_busy) = (None, None);
    worker.clients = Some(clients);
    turns(worker).idle = Some(idle);
    turns(worker).calling = (clients == idle).then_some(0);
    turns(worker).waiting = turns(worker).calling;
}

#[test]
fn of_one_it_is_not_known_how_it_works() {
    check(&[
        (
            "it has a request, and the other one thread",
            unicorn,
            |view| learning(view, 1, 0),
            &["warning workers-saturated"],
        ),
        ("it has none", unicorn, |view| learning(view, 3, 3), &[]),
        (
            "as many requests as the other has threads",
            puma,
            |view| learning(view, 9, 5),
            &["warning workers-saturated"],
        ),
        (
            "fewer: a thread of its may be free",
            puma,
            |view| learning(view, 8, 5),
            &[],
        ),
        (
            "as many, but more of its own threads have answered",
            puma,
            |view| {
                learning(view, 9, 5);
                view.workers[1].threads_seen = Some(5);
            },
            &[],
        ),
        (
            "it leaves requests unread",
            puma,
            |view| {
                learning(view, 6, 5);
                inside(view, 1, 1, 3.0);
            },
            &["warning workers-saturated"],
        ),
        (
            "which have just come",
            puma,
            |view| {
                learning(view, 6, 5);
                inside(view, 1, 1, 2.1);
            },
            &[],
        ),
        (
            "it has not begun to accept",
            puma,
            |view| {
                learning(view, 0, 0);
                view.workers[1].accepts = Some(0);
                view.workers[1].last_accept_age_us = None;
            },
            &["warning workers-saturated"],
        ),
        (
            "nothing at all is known of it",
            puma,
            |view| {
                learning(view, 0, 0);
                (view.workers[1].class, view.workers[1].turns) = (None, None);
            },
            &[],
        ),
        (
            "and the other has a free thread",
            puma,
            |view| {
                learning(view, 9, 5);
                calling(view, 0, 3, 0.9);
            },
            &[],
        ),
        (
            "of neither",
            puma,
            |view| {
                learning(view, 9, 5);
                view.workers[0].class = Some(Class::Learning);
            },
            &[],
        ),
        (
            "and the other is a loop",
            nginx,
            |view| learning(view, 9, 0),
            &[],
        ),
    ]);
    let verdict = verdicts(unicorn, |view| learning(view, 1, 0)).swap_remove(0);
    assert_eq!(
        verdict.text,
        "127.0.0.1:8080: the only thread of 1 worker of unicorn:100 is in a turn, the oldest of \
         them 900ms old, and no room in 1 more worker still being learnt; 14 connections wait in \
         its queue, which has not been empty for 12s; a wait takes about 7.0s"
    );
    assert_eq!(
        (
            verdict.evidence["workers"],
            verdict.evidence["learning_workers"]
        ),
        (1, 1)
    );
}

#[test]
fn how_many_threads_for_what_waits() {
    let verdict = verdicts(puma, |view| {
        slow(view);
        all_calling(view, 4, 0.9);
        queue(view, 14, 12.0);
        inside(view, 0, 5, 9.2);
        inside(view, 1, 5, 9.2);
    })
    .swap_remove(0);
    assert_eq!(
        verdict.text,
        "127.0.0.1:8080: all 8 threads of 2 workers of puma:100 are in turns, the oldest of \
         them 900ms old; 14 connections wait in its queue, which has not been empty for 12s, 10 \
         requests wait inside the workers now, some have in every look for 9.0s; a wait takes \
         about 7.0s"
    );
    assert_eq!(
        serde_json::to_value(&verdict.evidence).unwrap(),
        serde_json::json!({
            "workers": 2, "threads": 8, "oldest_turn_ms": 900, "queued": 14,
            "queued_ms": 12_000, "waiting": 10, "waiting_ms": 9_000, "delay_ms": 7_000
        })
    );
}

#[test]
fn a_server_is_named_once_by_where_most_waits() {
    let verdicts = verdicts(unicorn, |view| {
        slow(view);
        all_calling(view, 1, 0.9);
        queue(view, 14, 12.0);
        let mut other = view.listeners[0].clone();
        other.id = "1:18".to_owned();
        other.address = "/run/app.sock".to_owned();
        other.queue.queued = Some(15);
        view.listeners.push(other);
    });
    let found: Vec<_> = verdicts
        .iter()
        .map(|it| (it.verdict.as_str(), it.subject.address.as_deref()))
        .collect();
    assert_eq!(found, [("workers-saturated", Some("/run/app.sock"))]);
}
