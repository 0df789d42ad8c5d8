mod owner;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use super::{said, source};
use crate::{
    address::{Address, UnixName},
    ids::{Inode, Monotonic, Pid, StartTicks},
    plan::Off,
    snapshot::{
        ProcSnapshot, Process,
        puma::{
            ControlAnswer, ControlSeen, PumaCluster, PumaClusterWorker, PumaPool, PumaSingle,
            PumaStats,
        },
    },
    view::{
        Server, SourceState,
        puma::{Puma, PumaSource, PumaWorker},
        servers::{Servers, classify},
    },
};

const NOW: Monotonic = Monotonic(Duration::from_secs(100));

/// Pid, own pid, parent, title.
type Row<'a> = (u32, u32, u32, &'a str);

/// Two clusters, one of them in a container, a server alone, and another program.
const ROWS: [Row<'_>; 9] = [
    (10, 10, 1, "puma 5.6.5 (tcp://127.0.0.1:80) [a]"),
    (20, 20, 10, "puma: cluster worker 0: 10 [a]"),
    (21, 21, 10, "puma: cluster worker 1: 10 [a]"),
    (30, 1, 29, "puma 8.0.2 (tcp://0.0.0.0:80) [b]"),
    (40, 14, 30, "puma: cluster worker 0: 1 [b]"),
    (41, 15, 30, "puma: cluster worker 1: 1 [b]"),
    (50, 50, 1, "puma 5.6.5 (tcp://127.0.0.1:81) [c]"),
    (60, 60, 1, "nginx: master process nginx"),
    (61, 61, 60, "nginx: worker process"),
];

fn path(path: &str) -> Address {
    Address::Unix(UnixName::Path(path.into()))
}

fn answer(stats: PumaStats) -> ControlAnswer {
    ControlAnswer {
        asked: Monotonic(NOW.0 - Duration::from_millis(1200)),
        peer: None,
        stats,
    }
}

fn pool(running: u64) -> PumaPool {
    PumaPool {
        running: Some(running),
        ..PumaPool::default()
    }
}

fn without_workers(running: u64) -> PumaStats {
    PumaStats::Single(PumaSingle {
        started_at: Some(at(7)),
        pool: pool(running),
    })
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn cluster(workers: &[(u32, u32)]) -> PumaStats {
    let worker = |&(pid, index): &(u32, u32)| PumaClusterWorker {
        pid: Some(Pid(pid)),
        index: Some(index),
        started_at: Some(at(pid.into())),
        pool: pool(u64::from(pid)),
        ..PumaClusterWorker::default()
    };
    PumaStats::Cluster(PumaCluster {
        started_at: Some(at(8)),
        phase: Some(3),
        booted_workers: Some(2),
        old_workers: Some(1),
        workers: workers.iter().map(worker).collect(),
    })
}

/// The processes, each master and its workers with a listener of their own.
fn classified() -> (ProcSnapshot, Servers) {
    let process = |&(pid, ns_pid, parent, title): &Row<'_>| {
        let leader = if title.contains("worker") {
            parent
        } else {
            pid
        };
        let process = Process {
            parent: Pid(parent),
            started: StartTicks(500),
            ns_pid: Some(Pid(ns_pid)),
            comm: b"ruby".to_vec(),
            title: Some(title.as_bytes().to_vec()),
            uid: Some(0),
            threads: Some(1),
            state: 'S',
            unit: None,
            container: None,
            listeners: Some(BTreeSet::from([Inode(u64::from(leader))])),
            each_thread: None,
            fds: None,
            fd_limit: None,
        };
        (Pid(pid), process)
    };
    let proc = ProcSnapshot {
        taken: NOW,
        processes: ROWS.iter().map(process).collect(),
        unreadable: 0,
        quarantined: BTreeSet::new(),
        ticks_per_second: 100,
        boot_time: 1_000,
        since_boot: Duration::from_secs(1_000),
        ended: Vec::new(),
        places: BTreeMap::new(),
    };
    let inodes = proc.processes.values().flat_map(|it| it.listeners.clone());
    let inodes = inodes.flatten().collect();
    let servers = classify(&proc, &inodes, &BTreeMap::new());
    let ids: Vec<&str> = servers.servers.iter().map(|it| &*it.id).collect();
    assert_eq!(ids, ["nginx:60", "puma:10", "puma:30", "puma:50"]);
    (proc, servers)
}

fn server(id: &str) -> Server {
    let (_, servers) = classified();
    let mut servers = servers.servers.into_iter();
    servers.find(|server| server.id == id).unwrap()
}

#[test]
fn what_a_cluster_said_is_shown_by_worker() {
    let said = said::puma(
        &server("puma:10"),
        &answer(cluster(&[(21, 1), (20, 0)])),
        NOW,
        |pid| (pid == Pid(20)).then_some(Pid(120)),
    );
    let worker = |pid, index, running| PumaWorker {
        pid,
        index: Some(index),
        started_at: Some(at(running)),
        running: Some(running),
        ..PumaWorker::default()
    };
    let expected = Puma {
        source: PumaSource::Control,
        age_ms: Some(1200),
        started_at: Some(at(8)),
        phase: Some(3),
        booted_workers: Some(2),
        old_workers: Some(1),
        workers: vec![worker(Some(120), 0, 20), worker(None, 1, 21)],
    };
    assert_eq!(said, expected);
}

#[test]
fn what_a_single_server_said_is_of_its_only_process() {
    let answer = answer(without_workers(5));
    let pids = |server: &Server| {
        let said = said::puma(server, &answer, NOW, Some);
        assert_eq!(said.started_at, Some(at(7)));
        let pids = said.workers.iter().map(|worker| worker.pid);
        pids.collect::<Vec<_>>()
    };
    assert_eq!(pids(&server("puma:50")), [Some(50)]);
    // It has become a cluster meanwhile, or the processes are not known well.
    assert_eq!(pids(&server("puma:10")), [None]);
}

#[test]
fn the_source_tells_of_every_control_server() {
    let seen = |name, answer: Option<ControlAnswer>, failure: Option<(&str, Option<&str>)>| {
        let off = failure.map(|(reason, grant)| Off {
            reason: reason.to_owned(),
            grant: grant.map(str::to_owned),
        });
        ControlSeen {
            address: path(name),
            answer,
            failure: off,
        }
    };
    let answered = || Some(answer(without_workers(1)));
    let older = ControlAnswer {
        asked: Monotonic(NOW.0 - Duration::from_secs(4)),
        ..answered().unwrap()
    };
    let slow = Some(("slow", None));
    let refused = Some(("refused", Some("correct it")));
    let stranger = "/c: it answers, but which of the servers it belongs to is not to be seen";
    let owner = server("puma:10");
    let told = |controls: &[ControlSeen], owners: &[Option<&Server>]| {
        let told = source::puma(controls, owners, NOW);
        assert_eq!(told.name, "puma");
        let detail: Vec<String> = told
            .detail
            .iter()
            .map(|(address, server)| format!("{address} {server}"))
            .collect();
        (
            told.state,
            detail.join(","),
            told.reason,
            told.grant,
            told.age_ms,
        )
    };
    let text = |text: &str| Some(text.to_owned());

    assert_eq!(
        told(&[seen("/c", answered(), None)], &[Some(&owner)]),
        (
            SourceState::On,
            "/c puma:10".to_owned(),
            None,
            None,
            Some(1200)
        )
    );
    assert_eq!(
        told(&[seen("/c", answered(), None)], &[None]),
        (
            SourceState::Degraded,
            String::new(),
            text(stranger),
            None,
            Some(1200)
        )
    );
    assert_eq!(
        told(&[seen("/c", Some(older), slow)], &[Some(&owner)]),
        (
            SourceState::Degraded,
            "/c puma:10".to_owned(),
            text("/c: slow"),
            None,
            Some(4000)
        )
    );
    assert_eq!(
        told(
            &[seen("/c", None, refused), seen("/d", None, refused)],
            &[None, None]
        ),
        (
            SourceState::Off,
            String::new(),
            text("/c: refused; /d: refused"),
            text("correct it"),
            None
        )
    );
    assert_eq!(
        told(
            &[seen("/c", answered(), None), seen("/d", None, refused)],
            &[Some(&owner), None]
        ),
        (
            SourceState::Degraded,
            "/c puma:10".to_owned(),
            text("/d: refused"),
            text("correct it"),
            Some(1200)
        )
    );
}
