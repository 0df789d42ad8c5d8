use crate::{
    diagnose::{
        Severity, diagnose,
        fixture::{
            ADDRESS, calling, check, inside, long_turn, nginx, no_accepts, puma, queue, serving,
            stalled, turns, unicorn, verdicts,
        },
    },
    view::{Class, Place, View},
};

#[test]
fn stopped_with_work() {
    check(&[
        (
            "inside a request",
            unicorn,
            |view| {
                calling(view, 0, 1, 1.5);
                stalled(view, 0, "T", 1.2);
            },
            &["warning stuck-worker"],
        ),
        (
            "while a connection waits",
            unicorn,
            |view| {
                stalled(view, 0, "T", 1.2);
                queue(view, 1, 0.1);
            },
            &["warning stuck-worker"],
        ),
        (
            "with data unread",
            nginx,
            |view| {
                stalled(view, 0, "T", 1.2);
                inside(view, 0, 3, 1.2);
            },
            &["warning stuck-worker"],
        ),
        (
            "for a moment",
            unicorn,
            |view| {
                calling(view, 0, 1, 0.95);
                stalled(view, 0, "T", 0.9);
            },
            &[],
        ),
        (
            "with nothing to do",
            unicorn,
            |view| stalled(view, 0, "T", 60.0),
            &[],
        ),
        (
            "the only process of its server",
            || serving("node", Class::Loop, 1, 1),
            |view| {
                stalled(view, 0, "T", 1.2);
                inside(view, 0, 3, 1.2);
            },
            &["critical stuck-worker"],
        ),
        (
            "since when is not known, and connections wait",
            unicorn,
            |view| {
                view.workers[0].state = "T".to_owned();
                queue(view, 1, 1.0);
            },
            &["warning stuck-worker"],
        ),
        (
            "since when is not known, and one has just come",
            unicorn,
            |view| {
                view.workers[0].state = "T".to_owned();
                queue(view, 1, 0.9);
            },
            &[],
        ),
        (
            "traced, as strace does at every system call",
            unicorn,
            |view| {
                view.workers[0].state = "t".to_owned();
                queue(view, 1, 1.0);
            },
            &[],
        ),
        (
            "held by a debugger",
            unicorn,
            |view| {
                calling(view, 0, 1, 4.5);
                stalled(view, 0, "t", 4.2);
            },
            &["warning stuck-worker"],
        ),
        (
            "while the queue drops",
            unicorn,
            |view| {
                calling(view, 0, 1, 1.5);
                stalled(view, 0, "T", 1.2);
                queue(view, 65, 0.5);
                view.listeners[0].recent.overflows = Some(12);
            },
            &["critical stuck-worker", "critical queue-dropping"],
        ),
    ]);
}

#[test]
fn in_uninterruptible_sleep_with_work() {
    check(&[
        (
            "in its turn",
            unicorn,
            |view| {
                calling(view, 0, 1, 1.4);
                stalled(view, 0, "D", 1.1);
            },
            &["warning stuck-worker"],
        ),
        (
            "a short turn: it reads from a disk",
            unicorn,
            |view| {
                calling(view, 0, 1, 0.4);
                stalled(view, 0, "D", 1.1);
            },
            &[],
        ),
        (
            "the thread of the oldest turn",
            puma,
            |view| {
                calling(view, 0, 1, 1.4);
                stalled(view, 0, "D", 1.1);
            },
            &["warning stuck-worker"],
        ),
        (
            "another thread",
            puma,
            |view| {
                calling(view, 0, 1, 0.9);
                stalled(view, 0, "D", 1.1);
                view.workers[0].stalled.as_mut().unwrap().thread = 77;
            },
            &[],
        ),
        (
            "while connections wait that it could accept",
            || serving("unicorn", Class::Direct, 1, 1),
            |view| {
                stalled(view, 0, "D", 1.1);
                queue(view, 3, 1.1);
                no_accepts(view, 1.1);
            },
            &["critical stuck-worker"],
        ),
        (
            "while it accepts",
            || serving("unicorn", Class::Direct, 1, 1),
            |view| {
                stalled(view, 0, "D", 1.1);
                queue(view, 3, 1.1);
            },
            &[],
        ),
    ]);
}

/// What clients sent lies unread; the worker has done nothing else for as long.
fn unread(view: &mut View, seconds: f64) {
    inside(view, 0, 3, seconds);
    let worker = &mut view.workers[0];
    worker.last_accept_age_us = Some((seconds * 1e6) as u64);
    turns(worker).last_answer_age_us = Some((seconds * 1e6) as u64);
}

#[test]
fn data_is_left_unread() {
    check(&[
        (
            "by a loop",
            nginx,
            |view| unread(view, 3.0),
            &["warning stuck-worker"],
        ),
        ("for a moment", nginx, |view| unread(view, 2.1), &[]),
        (
            "by one that answers",
            nginx,
            |view| {
                unread(view, 3.0);
                turns(&mut view.workers[0]).last_answer_age_us = Some(1_900_000);
            },
            &[],
        ),
        (
            "by one that accepts",
            nginx,
            |view| {
                unread(view, 3.0);
                view.workers[0].last_accept_age_us = Some(1_900_000);
            },
            &[],
        ),
        (
            "by one of which that is not known",
            nginx,
            |view| {
                unread(view, 3.0);
                view.workers[0].accepts = None;
                view.workers[0].last_accept_age_us = None;
            },
            &[],
        ),
        (
            "by threads that have nothing else to do",
            puma,
            |view| unread(view, 3.0),
            &["warning stuck-worker"],
        ),
        (
            "by threads of which one is in a turn",
            puma,
            |view| {
                unread(view, 3.0);
                calling(view, 0, 1, 0.9);
            },
            &[],
        ),
    ]);
}

#[test]
fn who_and_for_how_long_and_where() {
    let text = |healthy, change| {
        let verdict = verdicts(healthy, change).swap_remove(0);
        (verdict.text, verdict.next)
    };
    assert_eq!(
        text(unicorn, |view| {
            calling(view, 0, 1, 14.0);
            stalled(view, 0, "T", 12.0);
            queue(view, 5, 12.0);
        }),
        (
            format!(
                "worker 101 of unicorn:100 has been stopped (state T) for 12s; a turn of 14s is \
                 open, 5 connections wait on {ADDRESS}"
            ),
            "see who stopped it; kill -CONT 101 lets it go on".to_owned()
        )
    );
    assert_eq!(
        text(puma, |view| {
            calling(view, 0, 1, 42.0);
            stalled(view, 0, "D", 40.0);
            let worker = &mut view.workers[0];
            turns(worker).oldest_thread = Some(115);
            let stalled = worker.stalled.as_mut().unwrap();
            stalled.thread = 115;
            stalled.thread_name = "puma srv tp 001".to_owned();
            stalled.syscall = Some("read".to_owned());
            stalled.wchan = Some("nfs_wait_bit_killable".to_owned());
        })
        .0,
        "thread 115 (puma srv tp 001) of worker 101 of puma:100 has been in uninterruptible \
         sleep (state D) for 40s; a turn of 42s is open; it is in read, in nfs_wait_bit_killable"
    );
    assert_eq!(
        text(puma, |view| {
            long_turn(view, 42.0, 12_000, 12_000);
            turns(&mut view.workers[0]).oldest_calling_thread = Some(115);
        })
        .0,
        "thread 115 of worker 101 of puma:100 has been in one turn for 42s, while turns of others \
         end and 99% are answered within 12ms"
    );
    let in_a_lock = |oldest_thread| {
        let mut view = puma();
        long_turn(&mut view, 42.0, 12_000, 12_000);
        let worker = &mut view.workers[0];
        worker.oldest_place = Some(Place {
            state: "S".to_owned(),
            syscall: Some("futex".to_owned()),
            wchan: Some("futex_wait_queue".to_owned()),
        });
        let turns = turns(worker);
        turns.oldest_calling_thread = Some(115);
        turns.oldest_thread = Some(oldest_thread);
        diagnose(&view).verdicts.swap_remove(0).text
    };
    assert_eq!(
        in_a_lock(115),
        "thread 115 of worker 101 of puma:100 has been in one turn for 42s (state S), while turns \
         of others end and 99% are answered within 12ms; it is in futex, in futex_wait_queue"
    );
    assert_eq!(
        in_a_lock(116),
        "thread 115 of worker 101 of puma:100 has been in one turn for 42s, while turns of others \
         end and 99% are answered within 12ms",
        "it is read of another thread"
    );
    assert_eq!(
        text(nginx, |view| unread(view, 3.2)).0,
        "worker 101 of nginx:100 has left something unread in every look for 3.0s, and has \
         answered and accepted nothing for 2.0s or more (state S); what 3 clients sent is unread"
    );
}

#[test]
fn many_by_one_cause_are_counted() {
    let mut view = serving("unicorn", Class::Direct, 500, 1);
    for worker in 0..499_u32 {
        let seconds = 5.0 + f64::from(worker);
        calling(&mut view, worker as usize, 1, seconds);
        stalled(&mut view, worker as usize, "D", seconds);
    }
    stalled(&mut view, 498, "T", 503.0);
    let verdicts = diagnose(&view).verdicts;
    let pids: Vec<_> = verdicts.iter().map(|it| it.subject.pid).collect();
    assert_eq!(pids, [Some(599), Some(598), Some(597), Some(596), None]);
    let rest = &verdicts[4];
    assert_eq!(
        (
            rest.text.as_str(),
            rest.severity,
            rest.evidence["stuck_workers"]
        ),
        (
            "495 workers of unicorn:100 are in uninterruptible sleep (state D) as well, the \
             longest for 8m19s",
            Severity::Warning,
            495
        )
    );
    assert_eq!(rest.subject.address.as_deref(), Some(ADDRESS));
}

#[test]
fn the_evidence_carries_its_units() {
    let verdict = verdicts(unicorn, |view| long_turn(view, 5.0, 12_000, 12_000)).swap_remove(0);
    assert_eq!(
        serde_json::to_value(&verdict).unwrap(),
        serde_json::json!({
            "verdict": "stuck-worker",
            "severity": "warning",
            "subject": {
                "listener": "1:17", "address": ADDRESS, "server": "unicorn:100", "pid": 101
            },
            "since": "2026-11-22T01:01:58.000Z",
            "text": "worker 101 of unicorn:100 has been in one turn for 5.0s (state S), while \
                     turns of others end and 99% are answered within 12ms",
            "evidence": {
                "stuck_ms": 5000, "turn_ms": 5000, "answer_p99_us": 12_000, "thread": 101
            },
            "next": "see what it waits for: /proc/101/task/101/stack, or a stack dump of the \
                     application"
        })
    );
}
