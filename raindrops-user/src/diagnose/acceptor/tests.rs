use crate::{
    diagnose::fixture::{
        calling, check, inside, listener_turns, nginx, no_accepts, puma, queue, serving, stalled,
        unicorn, verdicts,
    },
    view::{Class, View},
};

/// Event loops that hold this many idle clients and have stopped accepting.
fn full(view: &mut View, clients: u64) {
    queue(view, 14, 12.0);
    no_accepts(view, 12.0);
    for worker in &mut view.workers {
        worker.clients = Some(clients);
    }
}

#[test]
fn workers_that_hold_as_many_as_they_want() {
    check(&[
        (
            "idle keep-alive clients take every place of a loop",
            nginx,
            |view| full(view, 8),
            &["warning worker-at-limit"],
        ),
        (
            "of a pool",
            puma,
            |view| full(view, 8),
            &["warning worker-at-limit"],
        ),
        (
            "one of two, while the other's threads are all in turns",
            puma,
            |view| {
                full(view, 8);
                calling(view, 1, 4, 0.5);
            },
            &["warning worker-at-limit"],
        ),
        (
            "a single thread has no limit: it waits for a client that sends nothing",
            unicorn,
            |view| {
                full(view, 1);
                calling(view, 1, 1, 0.5);
            },
            &["warning slow-clients"],
        ),
        (
            "connections have only just come",
            nginx,
            |view| {
                full(view, 8);
                queue(view, 14, 0.9);
            },
            &[],
        ),
        (
            "one of them accepts",
            nginx,
            |view| {
                full(view, 8);
                view.workers[1].last_accept_age_us = Some(900_000);
                view.listeners[0].recent.accepts_per_s = Some(100.0);
            },
            &[],
        ),
        (
            "one of them has no client: something else keeps it",
            nginx,
            |view| {
                full(view, 8);
                view.workers[1].clients = Some(0);
            },
            &[],
        ),
        (
            "connections are older than the daemon, so that one may be in a turn",
            puma,
            |view| {
                full(view, 8);
                listener_turns(view).complete = false;
            },
            &[],
        ),
        (
            "all are in turns: they are too few",
            unicorn,
            |view| {
                full(view, 1);
                calling(view, 0, 1, 0.5);
                calling(view, 1, 1, 0.5);
            },
            &["warning workers-saturated"],
        ),
        (
            "its loop is busy: it leaves something unread",
            || serving("node", Class::Loop, 1, 1),
            |view| {
                full(view, 8);
                inside(view, 0, 1, 0.5);
            },
            &[],
        ),
        (
            "how it works is not known yet",
            || serving("puma", Class::Learning, 2, 4),
            |view| full(view, 8),
            &[],
        ),
    ]);
}

#[test]
fn how_many_it_holds() {
    let all = verdicts(puma, |view| full(view, 8)).swap_remove(0);
    assert_eq!(
        all.text,
        "127.0.0.1:8080: 2 workers of puma:100 hold 16 clients and accept no more (of 8 threads, \
         0 in turns); 14 connections wait in its queue, which has not been empty for 12s"
    );
    let one = verdicts(
        || serving("node", Class::Loop, 1, 1),
        |view| full(view, 512),
    )
    .swap_remove(0);
    assert_eq!(
        one.text,
        "127.0.0.1:8080: worker 101 of node:100 holds 512 clients and accepts no more; 14 \
         connections wait in its queue, which has not been empty for 12s"
    );
    assert_eq!(one.subject.pid, Some(101));
}

#[test]
fn whom_single_threads_wait_for() {
    let verdict = verdicts(unicorn, |view| full(view, 1)).swap_remove(0);
    assert_eq!(
        verdict.text,
        "127.0.0.1:8080: 2 workers of unicorn:100 wait for 2 clients that have sent nothing, or \
         not all, of a request; 14 connections wait in its queue, which has not been empty for 12s"
    );
    assert_eq!(
        serde_json::to_value(&verdict.evidence).unwrap(),
        serde_json::json!({"clients": 2, "workers": 2, "queued": 14, "waiting_ms": 12_000})
    );
}

/// Nobody has anything to do, and nobody accepts.
fn forgotten(view: &mut View, seconds: f64) {
    queue(view, 5, seconds);
    no_accepts(view, 30.0);
    for worker in &mut view.workers {
        worker.clients = Some(0);
        worker.last_accept_age_us = None;
    }
}

#[test]
fn listeners_that_nobody_accepts_from() {
    check(&[
        (
            "its workers are idle",
            unicorn,
            |view| forgotten(view, 12.0),
            &["warning no-acceptor"],
        ),
        (
            "its server may be starting",
            unicorn,
            |view| forgotten(view, 2.9),
            &[],
        ),
        (
            "only its first sample, before the daemon began, is so old",
            unicorn,
            |view| {
                forgotten(view, 12.0);
                view.since = view.taken_at;
            },
            &[],
        ),
        (
            "a worker has a client, so it may be busy",
            || serving("unicorn", Class::Learning, 2, 1),
            |view| {
                forgotten(view, 12.0);
                view.workers[1].clients = Some(1);
            },
            &[],
        ),
        (
            "a worker has accepted meanwhile",
            || serving("unicorn", Class::Learning, 2, 1),
            |view| {
                forgotten(view, 12.0);
                view.workers[1].last_accept_age_us = Some(11_000_000);
            },
            &[],
        ),
        (
            "who accepts is not seen",
            unicorn,
            |view| {
                forgotten(view, 12.0);
                view.workers[0].accepts = None;
            },
            &[],
        ),
        (
            "only the master holds it, and does not accept",
            unicorn,
            |view| {
                forgotten(view, 12.0);
                view.listeners[0].workers = Some(Vec::new());
                view.listeners[0].holders = Some(vec![100]);
            },
            &["warning no-acceptor"],
        ),
        (
            "only a holder has it, and yet somebody accepts",
            unicorn,
            |view| {
                forgotten(view, 12.0);
                view.listeners[0].workers = Some(Vec::new());
                view.listeners[0].recent.accepts_per_s = Some(0.1);
            },
            &[],
        ),
        (
            "no process has it",
            unicorn,
            |view| {
                forgotten(view, 12.0);
                view.listeners[0].workers = Some(Vec::new());
                view.listeners[0].holders = Some(Vec::new());
            },
            &["warning no-acceptor"],
        ),
        (
            "who has it may not be read",
            unicorn,
            |view| {
                forgotten(view, 12.0);
                view.listeners[0].workers = None;
                view.listeners[0].holders = None;
            },
            &[],
        ),
        (
            "nothing waits: systemd holds it for a service that has not been needed yet",
            unicorn,
            |view| {
                view.listeners[0].workers = Some(Vec::new());
                view.listeners[0].holders = Some(vec![1]);
            },
            &[],
        ),
        (
            "its workers are stopped",
            unicorn,
            |view| {
                forgotten(view, 12.0);
                stalled(view, 0, "T", 12.0);
                stalled(view, 1, "T", 12.0);
            },
            &["critical stuck-worker", "critical stuck-worker"],
        ),
        (
            "its queue drops",
            unicorn,
            |view| {
                forgotten(view, 12.0);
                view.listeners[0].recent.overflows = Some(12);
            },
            &["critical no-acceptor", "critical queue-dropping"],
        ),
    ]);
}

#[test]
fn who_should_accept() {
    let text = |change| verdicts(unicorn, change).swap_remove(0).text;
    assert_eq!(
        text(|view| forgotten(view, 12.0)),
        "127.0.0.1:8080: 5 connections wait in its queue, which has not been empty for 12s, and \
         2 workers of unicorn:100 have no client and accept nothing"
    );
    assert_eq!(
        text(|view| {
            forgotten(view, 12.0);
            view.listeners[0].workers = Some(Vec::new());
            view.listeners[0].holders = Some(vec![100]);
        }),
        "127.0.0.1:8080: 5 connections wait in its queue, which has not been empty for 12s, and \
         process 100, which holds it, accepts nothing"
    );
}
