use crate::{
    diagnose::fixture::{
        all_calling, calling, check, inside, puma, serving, slow, turns, verdicts,
    },
    fact::Fact,
    view::{
        Class,
        puma::{Puma, PumaSource, PumaWorker},
    },
};

#[test]
fn requests_wait_inside_a_worker() {
    check(&[
        (
            "one pool is full, the other is not",
            puma,
            |view| {
                slow(view);
                calling(view, 0, 4, 0.9);
                inside(view, 0, 5, 3.0);
            },
            &["warning pool-shortage"],
        ),
        (
            "both are",
            puma,
            |view| {
                slow(view);
                all_calling(view, 4, 0.9);
                inside(view, 0, 5, 3.0);
                inside(view, 1, 2, 3.0);
            },
            &["warning workers-saturated", "warning pool-shortage"],
        ),
        (
            "threads that read themselves what an acceptor has taken",
            || serving("gunicorn", Class::Direct, 1, 3),
            |view| {
                slow(view);
                calling(view, 0, 3, 0.9);
                inside(view, 0, 17, 3.0);
            },
            &["warning workers-saturated", "warning pool-shortage"],
        ),
        (
            "for no longer than a spike",
            puma,
            |view| {
                slow(view);
                calling(view, 0, 4, 0.9);
                inside(view, 0, 5, 2.1);
            },
            &[],
        ),
        (
            "a thread is free",
            puma,
            |view| {
                slow(view);
                calling(view, 0, 3, 0.9);
                inside(view, 0, 5, 3.0);
            },
            &[],
        ),
        (
            "steady load: something waits in every look, for a moment each",
            puma,
            |view| {
                calling(view, 0, 4, 0.01);
                inside(view, 0, 5, 600.0);
            },
            &[],
        ),
        (
            "others answer much, this one nothing",
            puma,
            |view| {
                calling(view, 0, 4, 0.9);
                turns(&mut view.workers[0]).last_answer_age_us = Some(400_000);
                inside(view, 0, 5, 3.0);
            },
            &["warning pool-shortage"],
        ),
        (
            "since when is not known",
            puma,
            |view| {
                slow(view);
                calling(view, 0, 4, 0.9);
                turns(&mut view.workers[0]).waiting = Some(5);
            },
            &[],
        ),
    ]);
}

#[test]
fn the_worker_with_most_is_named_with_what_puma_says() {
    let verdict = verdicts(puma, |view| {
        slow(view);
        all_calling(view, 4, 0.9);
        inside(view, 0, 2, 3.2);
        inside(view, 1, 5, 3.2);
        view.servers[0].puma = Fact::Is(Puma {
            source: PumaSource::Control,
            age_ms: Some(900),
            started_at: None,
            phase: None,
            booted_workers: None,
            old_workers: None,
            workers: vec![PumaWorker {
                pid: Some(102),
                index: Some(1),
                phase: None,
                booted: None,
                started_at: None,
                last_checkin: None,
                backlog: Some(5),
                running: Some(4),
                busy_threads: Some(9),
                pool_capacity: Some(0),
                max_threads: Some(4),
                requests_count: None,
            }],
        });
    })
    .swap_remove(1);
    assert_eq!(verdict.subject.pid, Some(102));
    assert_eq!(
        verdict.text,
        "5 requests wait inside worker 102 of puma:100 now, some have in every look for 3.0s: \
         all its 4 threads are in turns; so do 2 in 1 other worker"
    );
    assert_eq!(
        serde_json::to_value(&verdict.evidence).unwrap(),
        serde_json::json!({
            "waiting": 7, "waiting_ms": 3_000, "short_workers": 2, "workers": 2, "threads": 4,
            "oldest_turn_ms": 900, "puma_backlog": 5, "puma_max_threads": 4
        })
    );
}
