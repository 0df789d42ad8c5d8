use super::*;

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
