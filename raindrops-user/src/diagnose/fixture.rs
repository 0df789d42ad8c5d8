//! Views for the tests of verdicts: a healthy host with one server under steady load, which a test
//! then spoils in one place.

use std::{collections::BTreeMap, time::Duration};

use super::Verdict;
use crate::{
    fact::Fact,
    view::{
        Class, Connections, Durations, Host, LimitFrom, Listener, Netns, Queue, Recent,
        RecentDurations, SCHEMA, Server, Source, SourceState, Stalled, Turns, View, Worker,
        WorkerListener, WorkerTurns, WorkerWait, WriteEnd,
    },
};

pub(super) const MASTER: u32 = 100;
pub(super) const ADDRESS: &str = "127.0.0.1:8080";

/// Two workers of one thread.
pub(super) fn unicorn() -> View {
    serving("unicorn", Class::Direct, 2, 1)
}

/// Two workers with a pool of four threads.
pub(super) fn puma() -> View {
    serving("puma", Class::Handoff, 2, 4)
}

/// Two event loops.
pub(super) fn nginx() -> View {
    serving("nginx", Class::Loop, 2, 1)
}

/// A host with one listener, of which workers 101, 102, … have each accepted their part a moment
/// ago and answered it.
pub(super) fn serving(kind: &str, class: Class, workers: u32, threads: u32) -> View {
    let server = format!("{kind}:{MASTER}");
    let pids: Vec<u32> = (MASTER + 1..=MASTER + workers).collect();
    let taken_at = humantime::parse_rfc3339("2026-11-22T01:02:03Z").unwrap();
    View {
        schema: SCHEMA.to_owned(),
        host: Host {
            name: "web3".to_owned(),
            kernel: "6.18.44".to_owned(),
            boot_id: None,
            cpus: 2,
        },
        taken_at,
        monotonic_ns: 7_200_000_000_000,
        since: taken_at - Duration::from_secs(3600),
        sources: ["bpf", "sock_diag", "proc"].map(source).into(),
        listeners: vec![listener(&server, &pids)],
        groups: Vec::new(),
        workers: pids
            .iter()
            .map(|pid| worker(*pid, &server, class, threads, taken_at))
            .collect(),
        servers: vec![Server {
            id: server,
            kind: kind.to_owned(),
            started_at: None,
            master: Some(MASTER),
            title: format!("{kind} master"),
            workers: pids,
            skew: None,
            skew_accepts: None,
            exits: None,
            puma: Fact::Nothing,
        }],
        slabs: Vec::new(),
        gaps: Vec::new(),
    }
}

fn source(name: &str) -> Source {
    Source {
        name: name.to_owned(),
        state: SourceState::On,
        detail: BTreeMap::new(),
        reason: None,
        grant: None,
        age_ms: Some(12),
    }
}

fn listener(server: &str, pids: &[u32]) -> Listener {
    Listener {
        id: "1:17".to_owned(),
        protocol: "tcp".to_owned(),
        address: ADDRESS.to_owned(),
        netns: Netns {
            inode: 1,
            name: Fact::Nothing,
        },
        cookie: Some("17".to_owned()),
        inode: 30017,
        group: None,
        server: Fact::Is(server.to_owned()),
        workers: Some(pids.to_vec()),
        holders: Some([&[MASTER], pids].concat()),
        queue: Queue {
            queued: Some(0),
            limit: Some(64),
            limit_from: LimitFrom::App,
            peak: Some(3),
            peak_at: None,
            peak_exact: Some(true),
            full_since: None,
            waiting_since: None,
            overflows: Some(0),
            overflows_exact: Some(true),
            drops: Some(0),
            defer_accept: None,
            source: "sock_diag".to_owned(),
            age_ms: None,
        },
        connections: Some(Connections {
            active: Some(4),
            half_closed: Some(0),
            seeded: Some(0),
            accepts: Some(100_000),
            late_accepts: Some(0),
            closes: Some(99_996),
            aborted: Some(0),
            wait: None,
            wait_unknown: Some(0),
            lifetime: None,
            complete: true,
            source: "bpf".to_owned(),
            active_age_ms: None,
        }),
        turns: Some(Turns {
            waiting: Some(0),
            reading: Some(0),
            calling: Some(0),
            writing: Some(0),
            blocked: Some(0),
            idle: Some(4),
            waiting_since: None,
            total: 100_000,
            unanswered: 0,
            bytes_in: 1,
            bytes_out: 1,
            read_wait: Some(durations(100_000, 100)),
            answer: durations(100_000, 20_000),
            write: durations(100_000, 200),
            oldest_us: None,
            complete: true,
            write_end: WriteEnd::Seen,
            age_ms: Some(200),
            source: "bpf".to_owned(),
        }),
        skew: None,
        recent: Recent {
            over_ms: 10_000,
            accepts_per_s: Some(100.0),
            closes_per_s: Some(100.0),
            half_closed_least: Some(0),
            overflows_per_s: Some(0.0),
            overflows: Some(0),
            overflows_over_ms: 10_000,
            peak: Some(3),
            wait: Some(lately(1000, 400)),
            answer: Some(lately(1000, 20_000)),
        },
    }
}

pub(super) fn durations(count: u64, p99_us: u64) -> Durations {
    Durations {
        count,
        sum_us: count * p99_us / 2,
        p50_us: Some(p99_us / 4),
        p90_us: Some(p99_us / 2),
        p99_us: Some(p99_us),
        max_us: Some(p99_us * 2),
        buckets: None,
    }
}

pub(super) fn lately(count: u64, p99_us: u64) -> RecentDurations {
    RecentDurations {
        count,
        p50_us: Some(p99_us / 4),
        p99_us: Some(p99_us),
        max_us: Some(p99_us * 2),
    }
}

/// Nothing was answered lately.
pub(super) const NO_ANSWERS: Option<RecentDurations> = Some(RecentDurations {
    count: 0,
    p50_us: None,
    p99_us: None,
    max_us: None,
});

fn worker(
    pid: u32,
    server: &str,
    class: Class,
    threads: u32,
    taken_at: std::time::SystemTime,
) -> Worker {
    let is_loop = class == Class::Loop;
    Worker {
        oldest_place: None,
        pid,
        ns_pid: Some(pid),
        started_at: Some(taken_at - Duration::from_secs(86_400)),
        comm: "ruby".to_owned(),
        title: "worker".to_owned(),
        command_line: None,
        uid: None,
        server: Fact::Is(server.to_owned()),
        index: None,
        threads: Some(threads),
        state: "S".to_owned(),
        unit: Fact::Nothing,
        container: Fact::Nothing,
        accepts: Some(50_000),
        active: Some(2),
        last_accept_age_us: Some(10_000),
        listeners: vec![WorkerListener {
            id: "1:17".to_owned(),
            accepts: Some(50_000),
            active: Some(2),
            share: Some(0.5),
        }],
        wait: None,
        class: Some(class),
        threads_busy: (!is_loop).then_some(0),
        threads_seen: (!is_loop).then_some(threads),
        clients: Some(2),
        turns: Some(WorkerTurns {
            waiting: Some(0),
            reading: Some(0),
            calling: Some(0),
            writing: Some(0),
            blocked: Some(0),
            idle: Some(2),
            waiting_since: None,
            total: 50_000,
            answer: WorkerWait {
                count: 50_000,
                sum_us: 1,
                max_us: 40_000,
            },
            last_answer_age_us: Some(12_000),
            oldest_us: None,
            oldest_thread: None,
            oldest_calling_us: None,
            oldest_calling_thread: None,
            complete: true,
        }),
        fds: Some(40),
        fd_limit: Some(1024),
        stalled: None,
        slab: None,
    }
}

/// Connections have waited in the kernel's queue for so long.
pub(super) fn queue(view: &mut View, queued: u32, seconds: f64) {
    let since = view.taken_at - Duration::from_secs_f64(seconds);
    let queue = &mut view.listeners[0].queue;
    queue.queued = Some(queued);
    queue.waiting_since = Some(since);
}

/// Nobody has accepted anything for so long.
pub(super) fn no_accepts(view: &mut View, seconds: f64) {
    for worker in &mut view.workers {
        worker.last_accept_age_us = Some((seconds * 1e6) as u64);
    }
    let recent = &mut view.listeners[0].recent;
    if seconds >= 10.0 {
        recent.accepts_per_s = Some(0.0);
        recent.wait = NO_ANSWERS;
    }
}

/// Nobody has answered anything for so long.
pub(super) fn no_answers(view: &mut View, seconds: f64) {
    for worker in &mut view.workers {
        turns(worker).last_answer_age_us = Some((seconds * 1e6) as u64);
    }
    if seconds >= 10.0 {
        view.listeners[0].recent.answer = NO_ANSWERS;
    }
}

pub(super) fn turns(worker: &mut Worker) -> &mut WorkerTurns {
    worker.turns.as_mut().unwrap()
}

pub(super) fn listener_turns(view: &mut View) -> &mut Turns {
    view.listeners[0].turns.as_mut().unwrap()
}

/// So many threads of a worker, the first of which has its pid, are in turns; the oldest for so
/// long.
pub(super) fn calling(view: &mut View, worker: usize, threads: u32, seconds: f64) {
    let oldest = Some((seconds * 1e6) as u64);
    let worker = &mut view.workers[worker];
    worker.threads_busy = worker.threads_busy.and(Some(threads));
    let pid = worker.pid;
    let turns = turns(worker);
    turns.calling = Some(u64::from(threads));
    (turns.oldest_us, turns.oldest_thread) = (oldest, Some(pid));
    (turns.oldest_calling_us, turns.oldest_calling_thread) = (oldest, Some(pid));
    let turns = listener_turns(view);
    turns.calling = Some(turns.calling.unwrap() + u64::from(threads));
    turns.oldest_us = turns.oldest_us.max(oldest);
}

/// So many answers of a worker are being written, the oldest turn is so old; the clients of some do
/// not take them.
pub(super) fn writing(view: &mut View, worker: usize, answers: u32, blocked: u64, seconds: f64) {
    let oldest = Some((seconds * 1e6) as u64);
    let worker = &mut view.workers[worker];
    worker.threads_busy = worker.threads_busy.and(Some(answers));
    worker.clients = Some(u64::from(answers));
    let pid = worker.pid;
    let turns = turns(worker);
    turns.writing = Some(u64::from(answers));
    turns.blocked = Some(blocked);
    (turns.oldest_us, turns.oldest_thread) = (oldest, Some(pid));
    let turns = listener_turns(view);
    turns.writing = Some(turns.writing.unwrap() + u64::from(answers));
    turns.blocked = Some(turns.blocked.unwrap() + blocked);
    turns.oldest_us = turns.oldest_us.max(oldest);
}

/// Requests have waited inside a worker in every look of so long.
pub(super) fn inside(view: &mut View, worker: usize, requests: u64, seconds: f64) {
    let since = Some(view.taken_at - Duration::from_secs_f64(seconds));
    let worker = turns(&mut view.workers[worker]);
    (worker.waiting, worker.waiting_since) = (Some(requests), since);
    let all = listener_turns(view);
    all.waiting = Some(all.waiting.unwrap() + requests);
    all.waiting_since = since;
}

/// Every look of so long found the first thread of a worker in this state.
pub(super) fn stalled(view: &mut View, worker: usize, state: &str, seconds: f64) {
    let worker = &mut view.workers[worker];
    worker.state = state.to_owned();
    worker.stalled = Some(Stalled {
        thread: worker.pid,
        thread_name: "ruby".to_owned(),
        state: state.to_owned(),
        for_ms: (seconds * 1e3) as u64,
        syscall: None,
        wchan: None,
    });
}

/// All threads of both workers in turns of this age.
pub(super) fn all_calling(view: &mut View, threads: u32, seconds: f64) {
    for worker in 0..2 {
        calling(view, worker, threads, seconds);
    }
}

/// What is in the queue waits for seconds.
pub(super) fn slow(view: &mut View) {
    let recent = &mut view.listeners[0].recent;
    recent.accepts_per_s = Some(2.0);
    recent.answer.as_mut().unwrap().count = 20;
}

/// A turn of the first worker, and what answers usually take, as 99th percentiles.
pub(super) fn long_turn(view: &mut View, seconds: f64, recent_us: u64, all_us: u64) {
    calling(view, 0, 1, seconds);
    view.listeners[0].recent.answer = Some(lately(1000, recent_us));
    listener_turns(view).answer.p99_us = Some(all_us);
}

/// A change of a healthy view.
pub(super) type Change = fn(&mut View);

/// Verdicts on a healthy view after a change.
pub(super) fn verdicts(healthy: fn() -> View, change: Change) -> Vec<Verdict> {
    let mut view = healthy();
    change(&mut view);
    super::diagnose(&view).verdicts
}

/// What happens, to which host, and the severity and code of the verdicts that it gives.
pub(super) type Case = (&'static str, fn() -> View, Change, &'static [&'static str]);

pub(super) fn check(cases: &[Case]) {
    for (what, healthy, change, expected) in cases {
        let verdicts = verdicts(*healthy, *change);
        let found: Vec<_> = verdicts
            .iter()
            .map(|verdict| format!("{} {}", verdict.severity, verdict.verdict))
            .collect();
        assert_eq!(found, *expected, "{what}: {verdicts:#?}");
    }
}
