use super::*;
use crate::{
    fact::Fact,
    view::{WorkerTurns, WorkerWait},
};

fn server(workers: &[u32]) -> Server {
    Server {
        id: "puma:7".to_owned(),
        kind: "puma".to_owned(),
        master: Some(7),
        started_at: None,
        title: String::new(),
        workers: workers.to_vec(),
        skew: None,
        skew_accepts: None,
        exits: None,
        puma: Fact::Unknown,
    }
}

fn worker(pid: u32, index: u32, busy: Option<u32>, waiting: Option<u64>) -> Worker {
    let wait = WorkerWait {
        count: 0,
        sum_us: 0,
        max_us: 0,
    };
    let turns = waiting.map(|waiting| WorkerTurns {
        waiting: Some(waiting),
        reading: None,
        calling: None,
        writing: None,
        blocked: None,
        idle: None,
        waiting_since: None,
        total: 0,
        answer: wait,
        last_answer_age_us: None,
        oldest_us: None,
        oldest_thread: None,
        oldest_calling_us: None,
        oldest_calling_thread: None,
        complete: true,
    });
    Worker {
        oldest_place: None,
        slab: None,
        pid,
        ns_pid: None,
        started_at: None,
        comm: String::new(),
        title: String::new(),
        command_line: None,
        uid: None,
        server: Fact::Unknown,
        index: Some(index),
        threads: None,
        state: String::new(),
        unit: Fact::Unknown,
        container: Fact::Unknown,
        accepts: None,
        active: None,
        last_accept_age_us: None,
        listeners: Vec::new(),
        wait: None,
        class: None,
        threads_busy: busy,
        threads_seen: None,
        clients: None,
        turns,
        fds: None,
        fd_limit: None,
        stalled: None,
    }
}

#[test]
fn threads_of_the_pool_have_its_name() {
    // puma 5.6.5 in single mode, with a control server; Linux cuts names at 15 bytes.
    let names: [&[u8]; 11] = [
        b"puma",
        b"puma srv tp 001",
        b"puma srv tp 002",
        // A pool that has shrunk and grown gives a number twice.
        b"puma srv tp 002",
        b"puma srv tp 100",
        b"puma ctl tp 001",
        b"puma ctl",
        b"puma srv",
        b"puma reactor",
        b"puma srv tp\xff001",
        b"connection_pool",
    ];
    assert_eq!(pool_threads(names), 4);
    assert_eq!(pool_threads([]), 0);
}

/// Check which of the figures there are, worker by worker, where a part is not known.
#[test]
fn an_estimate_is_made_of_what_is_known() {
    let workers = [
        worker(21, 1, Some(2), Some(4)),
        worker(20, 0, Some(1), None),
        worker(99, 0, Some(9), Some(9)),
        worker(22, 2, None, None),
        worker(23, 3, Some(4), None),
    ];
    let pool: [&[u8]; 3] = [b"puma srv tp 001", b"puma srv tp 002", b"puma srv tp 003"];
    let names = |pid: Pid| (pid != Pid(20)).then_some(pool);
    let estimate = puma(&server(&[20, 21, 22, 23]), &workers, names).unwrap();
    assert_eq!(estimate.source, PumaSource::Estimate);
    let row = |worker: &PumaWorker| {
        let PumaWorker {
            pid,
            index,
            phase: None,
            booted: None,
            started_at: None,
            last_checkin: None,
            backlog,
            running,
            busy_threads,
            pool_capacity: None,
            max_threads: None,
            requests_count: None,
        } = *worker
        else {
            panic!("what only the control server knows: {worker:?}");
        };
        let figures = [running, busy_threads, backlog];
        (pid.zip(index).unwrap(), figures)
    };
    let rows: Vec<_> = estimate.workers.iter().map(row).collect();
    let expected = [
        ((20, 0), [None, Some(1), None]),
        ((21, 1), [Some(3), Some(2), Some(4)]),
        ((22, 2), [Some(3), None, None]),
        ((23, 3), [Some(3), Some(4), None]),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn where_nothing_is_known_there_is_no_estimate() {
    let workers = [worker(20, 0, None, None)];
    let nothing = |_| None::<[&[u8]; 0]>;
    assert_eq!(puma(&server(&[20]), &workers, nothing), None);
    assert_eq!(puma(&server(&[]), &[], nothing), None);
}
