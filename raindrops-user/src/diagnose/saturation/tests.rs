use crate::{
    diagnose::fixture::{
        all_calling, calling, check, inside, listener_turns, nginx, no_accepts, no_answers, puma,
        queue, slow, stalled, turns, unicorn, verdicts, writing,
    },
    view::{Class, WriteEnd},
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
            "how one works is not known yet",
            unicorn,
            |view| {
                slow(view);
                all_calling(view, 1, 0.9);
                queue(view, 14, 12.0);
                view.workers[1].class = Some(Class::Learning);
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
