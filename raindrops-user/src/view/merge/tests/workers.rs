use super::*;
use crate::{
    ids::Tid,
    snapshot::{self, Stall, Thread, Threads},
    view::{self, Stalled, merge::places::oldest_place},
};

#[test]
fn a_worker_that_serves_one_member_is_not_the_others() {
    let mut seen = seen();
    let workers = |seen: &Seen| {
        let view = merged(seen);
        [
            view.listeners[1].workers.clone(),
            view.listeners[2].workers.clone(),
        ]
        .map(Option::unwrap)
    };
    assert_eq!(workers(&seen), [vec![20], vec![21]]);
    seen.bpf
        .as_mut()
        .unwrap()
        .workers
        .retain(|key, _| key.pid != Pid(21));
    assert_eq!(
        workers(&seen),
        [vec![20, 21], vec![21]],
        "21 has accepted from neither"
    );
}

#[test]
fn a_worker_is_described_and_its_part_told() {
    let view = merged(&seen());
    let [first, second] = &view.workers[..] else {
        panic!("two workers")
    };
    assert_eq!(
        (first.pid, first.index, first.state.as_str()),
        (20, Some(0), "S")
    );
    assert_eq!((second.pid, second.accepts), (21, Some(12)));
    assert_eq!(second.listeners[0].share, Some(0.75));
    assert_eq!(second.last_accept_age_us, Some(1_000_000));
    let wait = second.wait.as_ref().unwrap();
    assert_eq!((wait.count, wait.sum_us, wait.max_us), (12, 24, 3));
    // Started 5 s after boot, which was 1,000 s after the epoch.
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_005);
    assert_eq!(first.started_at, Some(started));
    assert_eq!(
        (&first.unit, &first.container),
        (&Fact::Nothing, &Fact::Nothing)
    );
}

/// Check that a server began with its master, one without a master with its oldest process, and that
/// without the time of the boot nothing is said.
#[test]
fn a_server_began_with_the_process_that_names_it() {
    let mut seen = seen();
    seen.bpf = None;
    let started = |seen: &mut Seen, pid, ticks| {
        let process = seen.proc.processes.get_mut(&Pid(pid));
        process.unwrap().started = StartTicks(ticks);
    };
    let began = |seen: &Seen| {
        let [server] = &merged(seen).servers[..] else {
            panic!("one server")
        };
        (server.id.clone(), server.started_at)
    };
    let at = |millis| Some(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
    started(&mut seen, 10, 302);
    started(&mut seen, 21, 200);
    assert_eq!(began(&seen), ("unicorn:10".to_owned(), at(1_003_020)));

    seen.proc.processes.remove(&Pid(10));
    assert_eq!(began(&seen), ("unicorn:21".to_owned(), at(1_002_000)));

    seen.proc.boot_time = 0;
    assert_eq!(began(&seen).1, None);
}

#[test]
fn active_of_a_worker_is_absent_while_some_connections_have_no_known_worker() {
    let mut seen = seen();
    let active = |seen: &Seen| merged(seen).workers[1].listeners[0].active;
    assert_eq!(active(&seen), Some(1));
    let bpf = seen.bpf.as_mut().unwrap();
    bpf.listeners.insert(key(1), counts(4, 2, 1));
    assert_eq!(active(&seen), None);
}

#[test]
fn a_process_with_the_pid_of_a_former_worker_does_not_inherit_its_counts() {
    let mut seen = seen();
    seen.proc.processes.get_mut(&Pid(21)).unwrap().started = StartTicks(900);
    let view = merged(&seen);
    assert_eq!(
        (view.workers[1].pid, view.workers[1].accepts),
        (21, Some(0))
    );
}

/// The threads of a worker that was looked at after 100 s, by id, state and since when it is
/// stalled.
fn threads(rows: &[(u32, &[u8], char, Option<u64>)]) -> Threads {
    let thread = |&(tid, comm, state, since): &(u32, &[u8], char, Option<u64>)| {
        let stall = since.map(|since| Stall {
            since: Monotonic(Duration::from_secs(since)),
            runs: Some(1),
        });
        let thread = Thread {
            started: StartTicks(500),
            comm: comm.to_vec(),
            state,
            stall,
        };
        (Tid(tid), thread)
    };
    Threads {
        looked: AT,
        by_id: rows.iter().map(thread).collect(),
        complete: true,
    }
}

fn place(state: char, syscall: Option<&str>, wchan: Option<&str>) -> snapshot::Place {
    snapshot::Place {
        state,
        syscall: syscall.map(str::to_owned),
        wchan: wchan.map(str::to_owned),
    }
}

#[test]
fn a_worker_tells_its_descriptors_and_the_thread_that_is_stalled() {
    let mut seen = seen();
    let places = &mut seen.proc.places;
    places.insert((Pid(20), Tid(25)), place('D', Some("pread64"), None));
    places.insert((Pid(21), Tid(20)), place('S', Some("poll"), None));
    let worker = seen.proc.processes.get_mut(&Pid(20)).unwrap();
    worker.fds = Some(12);
    worker.fd_limit = Some(1024);
    worker.each_thread = Some(threads(&[
        (20, b"ruby", 'S', None),
        (24, b"puma srv tp 001", 'D', Some(100)),
        (25, b"a)\n R", 'D', Some(88)),
    ]));
    let view = merged(&seen);
    let [first, second] = &view.workers[..] else {
        panic!("two workers")
    };
    assert_eq!((first.fds, first.fd_limit), (Some(12), Some(1024)));
    let stalled = Stalled {
        thread: 25,
        thread_name: "a)\\n R".to_owned(),
        state: "D".to_owned(),
        for_ms: 12_000,
        syscall: Some("pread64".to_owned()),
        wchan: None,
    };
    assert_eq!(first.stalled, Some(stalled));
    assert_eq!(
        (second.fds, second.fd_limit, &second.stalled),
        (None, None, &None)
    );
}

#[test]
fn what_a_thread_is_at_is_its_own_processs() {
    let mut seen = seen();
    let found = place('S', Some("futex"), Some("futex_wait_queue"));
    seen.proc.places.insert((Pid(20), Tid(25)), found);
    let expected = view::Place {
        state: "S".to_owned(),
        syscall: Some("futex".to_owned()),
        wchan: Some("futex_wait_queue".to_owned()),
    };
    assert_eq!(oldest_place(&seen.proc, (Pid(20), Tid(25))), Some(expected));
    assert_eq!(oldest_place(&seen.proc, (Pid(21), Tid(25))), None);
    assert_eq!(oldest_place(&seen.proc, (Pid(20), Tid(24))), None);
}

#[test]
fn a_server_tells_which_workers_ended() {
    let mut seen = seen();
    let exits = Exits {
        count: 3,
        over_ms: 60_000,
        median_life_ms: 800,
    };
    seen.exits = BTreeMap::from([
        ("unicorn:10".to_owned(), exits.clone()),
        ("unicorn:9".to_owned(), exits.clone()),
    ]);
    let view = merged(&seen);
    let shown: Vec<_> = view.servers.iter().map(|it| (&*it.id, &it.exits)).collect();
    assert_eq!(shown, [("unicorn:10", &Some(exits))]);
}

/// Check that who has accepted nothing counts, and who could not have accepted does not: one that came
/// while the accepts were counted, and whoever had its number before.
#[test]
fn skew_is_among_workers_that_were_there_all_the_time() {
    let start = |seen: &mut Seen, pid, seconds: u64| {
        let process = seen.proc.processes.get_mut(&Pid(pid)).unwrap();
        process.started = StartTicks(seconds * 100);
    };
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Seen), Option<(f64, u32, u32)>);
    let cases: [Case<'_>; 4] = [
        ("20 has accepted none", &|_| (), Some((1.0, 2, 21))),
        ("20 has just come", &|seen| start(seen, 20, 91), None),
        (
            "21 is another process now",
            &|seen| start(seen, 21, 60),
            None,
        ),
        (
            "there were no rows for some workers",
            &|seen| {
                let misses = &mut seen.bpf.as_mut().unwrap().misses;
                misses.insert(Miss::WorkersFull, 1);
            },
            None,
        ),
    ];
    for (name, change, expected) in cases {
        let mut seen = seen();
        let bpf = seen.bpf.as_mut().unwrap();
        bpf.workers.clear();
        bpf.taken = Monotonic(AT.0 - 10 * SECOND);
        seen.marks.note(bpf);
        bpf.taken = AT;
        let here = WorkerKey {
            pid: Pid(21),
            started: StartTicks(500),
            listener: key(1),
        };
        let counts = WorkerCounts {
            accepts: 300,
            active: Some(0),
            last_accept: None,
            wait_count: 300,
            wait_sum_ns: 0,
            wait_max_ns: 0,
        };
        bpf.workers.insert(here, counts);
        change(&mut seen);
        let view = merged(&seen);
        let skew = view.listeners[0].skew.as_ref();
        let told = skew.map(|skew| (skew.ratio, skew.workers, skew.pid));
        assert_eq!(told, expected, "{name}");
        assert_eq!(view.servers[0].skew, expected.map(|it| it.0), "{name}");
    }
}
