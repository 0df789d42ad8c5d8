use std::mem::take;

use super::*;
use crate::{
    snapshot::{ListenerTurnCounts, TurnsSnapshot, WorkerTurnCounts},
    turns::{Found, Thread},
    view::{Class, Worker},
};

/// The workers are pools of two threads for which a third reads. Worker 20 serves :80 and has more
/// turns there than threads; worker 21 has one on a unix socket.
fn turning() -> Seen {
    let mut seen = seen();
    let found = |calling| Found {
        connections: calling,
        calling,
        ..Found::NONE
    };
    let on = |pid, inode, calling| {
        let key = WorkerKey {
            pid: Pid(pid),
            started: StartTicks(500),
            listener: key(inode),
        };
        let counts = WorkerTurnCounts {
            found: found(calling),
            ..WorkerTurnCounts::NONE
        };
        (key, counts)
    };
    let threads = |pid: u32| {
        let thread = |(id, reads, answers)| Thread {
            id,
            reads,
            answers,
            handed: answers,
            waits_for_events: false,
            registered: 0,
            fresh: 0,
        };
        let all = [(pid, 9, 0), (pid + 100, 0, 4), (pid + 200, 0, 5)];
        (Pid(pid), all.map(thread).to_vec())
    };
    for (pid, held) in [(20, vec![1]), (21, vec![4])] {
        let process = seen.proc.processes.get_mut(&Pid(pid)).unwrap();
        process.listeners = Some(held.into_iter().map(Inode).collect());
        process.threads = Some(3);
    }
    seen.bpf.as_mut().unwrap().turns = Some(TurnsSnapshot {
        looked: AT,
        is_whole: true,
        ends_seen: true,
        waits_known: true,
        listeners: [1, 4]
            .map(|inode| (key(inode), ListenerTurnCounts::NONE))
            .into(),
        workers: [on(20, 1, 5), on(21, 4, 1)].into(),
        seen_in_part: BTreeSet::new(),
        hidden_in_part: BTreeSet::new(),
        with_older: BTreeSet::new(),
        threads: [threads(20), threads(21)].into(),
    });
    seen
}

/// Class, complete, waiting, calling and busy threads.
type Told = (Option<Class>, bool, Option<u64>, Option<u64>, Option<u32>);

fn told(worker: &Worker) -> Option<Told> {
    let turns = worker.turns.as_ref()?;
    let it = (turns.complete, turns.waiting, turns.calling);
    Some((worker.class, it.0, it.1, it.2, worker.threads_busy))
}

#[test]
fn a_worker_is_complete_when_all_its_listeners_are() {
    let whole = Some((Some(Class::Handoff), true, Some(3), Some(2), Some(2)));
    let incomplete = Some((Some(Class::Handoff), false, Some(3), Some(2), Some(2)));
    let other = Some((Some(Class::Handoff), true, Some(0), Some(1), Some(1)));
    type Change = fn(&mut BpfSnapshot);
    for (name, change, expected) in [
        ("all are followed", (|_| ()) as Change, [whole, other]),
        (
            "one is older than the daemon",
            |bpf| bpf.listeners.get_mut(&key(1)).unwrap().seeded = 1,
            [incomplete, other],
        ),
        (
            "of unix connections that are, some may not have been read",
            |bpf| {
                let turns = bpf.turns.as_mut().unwrap();
                turns.with_older.insert(key(1));
            },
            [incomplete, other],
        ),
        (
            "of another worker there, data went unseen",
            |bpf| {
                let turns = bpf.turns.as_mut().unwrap();
                let counts = turns.listeners.get_mut(&key(1)).unwrap();
                counts.of_no_worker.unseen = 1;
            },
            [incomplete, other],
        ),
    ] {
        let mut seen = turning();
        change(seen.bpf.as_mut().unwrap());
        let view = merged(&seen);
        let workers: Vec<_> = view.workers.iter().map(told).collect();
        assert_eq!(workers, expected, "{name}");
        let turns = view.listeners[0].turns.as_ref().unwrap();
        assert_eq!(Some(turns.complete), expected[0].map(|it| it.1), "{name}");
    }
}

/// Check that of a pool whose threads may be at connections that are not shown, it is not said what
/// they work on.
#[test]
fn a_pool_that_serves_a_hidden_listener_is_told_in_part() {
    let mut seen = turning();
    seen.proc.processes.get_mut(&Pid(20)).unwrap().listeners = Some([1, 2].map(Inode).into());
    let turns = seen.bpf.as_mut().unwrap().turns.as_mut().unwrap();
    turns.hidden_in_part.insert((Pid(20), StartTicks(500)));
    let view = merged(&seen);
    let in_part = Some((Some(Class::Handoff), false, None, None, None));
    assert_eq!(told(&view.workers[0]), in_part);
    let listener = view.listeners[0].turns.as_ref().unwrap();
    assert_eq!((listener.complete, listener.calling), (true, None));

    // Of a listener whose turns the kernel does not tell, not even that.
    let turns = seen.bpf.as_mut().unwrap().turns.as_mut().unwrap();
    turns.seen_in_part = take(&mut turns.hidden_in_part);
    let view = merged(&seen);
    assert_eq!(told(&view.workers[0]), None);
    let listener = view.listeners[0].turns.as_ref().unwrap();
    assert_eq!((listener.complete, listener.calling), (true, None));
}
