//! Process trees of real servers (unicorn 6.0.0, puma 5.6.5, rainbows 5.0.0, nginx 1.22,
//! gunicorn 20.1 on Linux 6.18).

mod others;
mod pretenders;
mod puma;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Role, Servers, classify};
use crate::{
    fact::Fact,
    ids::{Inode, Monotonic, Pid, StartTicks},
    snapshot::{ProcSnapshot, Process},
};

/// Pid, parent, comm, title, listeners.
type Row<'a> = (u32, u32, &'a str, &'a str, &'a [u64]);

fn snapshot(rows: &[Row<'_>]) -> ProcSnapshot {
    let process = |&(pid, parent, comm, title, held): &Row<'_>| {
        let process = Process {
            parent: Pid(parent),
            started: StartTicks(u64::from(pid)),
            ns_pid: None,
            comm: comm.into(),
            title: Some(title.into()),
            uid: Some(0),
            threads: Some(1),
            state: 'S',
            unit: None,
            container: None,
            listeners: Some(held.iter().copied().map(Inode).collect()),
            each_thread: None,
            fds: None,
            fd_limit: None,
        };
        (Pid(pid), process)
    };
    ProcSnapshot {
        taken: Monotonic::from_nanos(1),
        since_boot: Duration::from_nanos(1),
        processes: rows.iter().map(process).collect(),
        unreadable: 0,
        quarantined: BTreeSet::new(),
        ticks_per_second: 100,
        boot_time: 0,
        ended: Vec::new(),
        places: BTreeMap::new(),
    }
}

/// All listeners that anybody holds.
fn listeners(snapshot: &ProcSnapshot) -> BTreeSet<Inode> {
    let held = snapshot
        .processes
        .values()
        .filter_map(|process| process.listeners.as_ref());
    held.flatten().copied().collect()
}

fn acceptors(seen: &[(u64, &[u32])]) -> BTreeMap<Inode, BTreeSet<Pid>> {
    let pids = |pids: &[u32]| pids.iter().copied().map(Pid).collect();
    seen.iter()
        .map(|&(inode, seen)| (Inode(inode), pids(seen)))
        .collect()
}

fn run(rows: &[Row<'_>], seen: &[(u64, &[u32])]) -> Servers {
    let snapshot = snapshot(rows);
    classify(&snapshot, &listeners(&snapshot), &acceptors(seen))
}

/// `ID [master] workers` of every server, then `inode ID workers` of every listener.
fn lines(servers: &Servers) -> Vec<String> {
    let listed = |pids: Vec<u32>| {
        let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
        pids.join(",")
    };
    let mut lines = Vec::new();
    for server in &servers.servers {
        let master = server.master.map_or("-".into(), |pid| pid.to_string());
        lines.push(format!(
            "{} [{master}] {}",
            server.id,
            listed(server.workers.clone())
        ));
    }
    for (inode, owner) in &servers.listeners {
        let server = match &owner.server {
            Fact::Is(id) => id,
            Fact::Nothing => "nothing",
            Fact::Unknown => "unknown",
        };
        let workers = owner.workers.as_ref().map_or("?".into(), |pids| {
            listed(pids.iter().map(|pid| pid.0).collect())
        });
        lines.push(format!("{inode} {server} {workers}"));
    }
    lines
}

const UNICORN: [Row<'_>; 4] = [
    (8710, 8704, "bash", "bash cap.sh", &[]),
    (
        8719,
        8710,
        "unicorn",
        "unicorn master -c unicorn.conf.rb config.ru",
        &[33456, 33457],
    ),
    (
        8770,
        8719,
        "unicorn",
        "unicorn worker[0] -c unicorn.conf.rb config.ru",
        &[33456, 33457, 33459],
    ),
    (
        8771,
        8719,
        "unicorn",
        "unicorn worker[1] -c unicorn.conf.rb config.ru",
        &[33456, 33457, 33863],
    ),
];

const GUNICORN: &str = "/usr/bin/python3 /usr/bin/gunicorn -w 2 -b 127.0.0.1:18580 wsgi:app";

#[test]
fn unicorn_with_listeners_of_each_worker() {
    let servers = run(&UNICORN, &[]);
    assert_eq!(
        lines(&servers),
        [
            "unicorn:8719 [8719] 8770,8771",
            "33456 unicorn:8719 8770,8771",
            "33457 unicorn:8719 8770,8771",
            "33459 unicorn:8719 8770",
            "33863 unicorn:8719 8771",
        ]
    );
    let holders: BTreeSet<Pid> = [8719, 8770, 8771].map(Pid).into();
    assert_eq!(
        servers.listeners[&Inode(33456)].holders.as_ref(),
        Some(&holders)
    );
    let worker = &servers.members[&Pid(8771)];
    assert_eq!((worker.role, worker.index), (Role::Worker, Some(1)));
    assert_eq!(
        worker.title,
        "unicorn worker[1] -c unicorn.conf.rb config.ru"
    );
    assert_eq!(
        servers.servers[0].title,
        "unicorn master -c unicorn.conf.rb config.ru"
    );
    assert!(!servers.members.contains_key(&Pid(8710)));
}

#[test]
fn unicorn_while_it_is_upgraded() {
    let mut rows = UNICORN.to_vec();
    rows[1].3 = "unicorn master (old) -c unicorn.conf.rb config.ru";
    // The successor has started and is still loading the application.
    let loading = "/usr/bin/ruby /usr/bin/unicorn -c unicorn.conf.rb config.ru";
    rows.push((9181, 8719, "unicorn", loading, &[33456, 33457]));
    let before = run(&rows, &[]);
    assert_eq!(
        lines(&before)[..2],
        [
            "unicorn:8719 [8719] 8770,8771",
            "33456 unicorn:8719 8770,8771"
        ]
    );

    rows[4].3 = "unicorn master -c unicorn.conf.rb config.ru";
    rows.push((
        9183,
        9181,
        "unicorn",
        "unicorn worker[0] -c unicorn.conf.rb config.ru",
        &[33456, 33457],
    ));
    rows.push((
        9184,
        9181,
        "unicorn",
        "unicorn worker[1] -c unicorn.conf.rb config.ru",
        &[33456, 33457],
    ));
    assert_eq!(
        lines(&run(&rows, &[])),
        [
            "unicorn:8719 [8719] 8770,8771",
            "unicorn:9181 [9181] 9183,9184",
            "33456 unicorn:9181 8770,8771,9183,9184",
            "33457 unicorn:9181 8770,8771,9183,9184",
            "33459 unicorn:8719 8770",
            "33863 unicorn:8719 8771",
        ]
    );
}

#[test]
fn a_fork_is_not_a_worker_until_it_says_so_or_accepts() {
    let mut rows = UNICORN.to_vec();
    // Forked by the master a moment ago; forked by a worker for a job.
    rows.push((9000, 8719, "unicorn", rows[1].3, &[33456]));
    rows.push((9001, 8770, "unicorn", rows[2].3, &[33456]));
    let servers = run(&rows, &[]);
    assert_eq!(
        lines(&servers)[..2],
        [
            "unicorn:8719 [8719] 8770,8771",
            "33456 unicorn:8719 8770,8771"
        ]
    );
    for pid in [9000, 9001] {
        let member = &servers.members[&Pid(pid)];
        assert_eq!(
            (member.role, member.server.as_deref()),
            (Role::Holder, Some("unicorn:8719"))
        );
    }
    let seen: &[(u64, &[u32])] = &[(33456, &[8770, 9001, 7])];
    assert_eq!(
        lines(&run(&rows, seen))[..2],
        [
            "unicorn:8719 [8719] 8770,8771,9001",
            "33456 unicorn:8719 8770,8771,9001",
        ]
    );
}

#[test]
fn rainbows_and_nginx() {
    let rows: &[Row<'_>] = &[
        (
            8722,
            8710,
            "rainbows",
            "rainbows master -c rainbows.conf.rb config.ru",
            &[33462],
        ),
        (
            8772,
            8722,
            "rainbows",
            "rainbows worker[0] -c rainbows.conf.rb config.ru",
            &[33462],
        ),
        (
            8773,
            8722,
            "rainbows",
            "rainbows worker[1] -c rainbows.conf.rb config.ru",
            &[33462],
        ),
        (
            8727,
            1,
            "nginx",
            "nginx: master process nginx -p /tmp/x -c /tmp/x/nginx.conf",
            &[33418, 33419],
        ),
        (
            8728,
            8727,
            "nginx",
            "nginx: worker process",
            &[33418, 33419],
        ),
        (
            8729,
            8727,
            "nginx",
            "nginx: worker process is shutting down",
            &[33418, 33419],
        ),
        (
            8730,
            8727,
            "nginx",
            "nginx: cache manager process",
            &[33418, 33419],
        ),
    ];
    assert_eq!(
        lines(&run(rows, &[])),
        [
            "nginx:8727 [8727] 8728,8729",
            "rainbows:8722 [8722] 8772,8773",
            "33418 nginx:8727 8728,8729",
            "33419 nginx:8727 8728,8729",
            "33462 rainbows:8722 8772,8773",
        ]
    );
    // The master was killed; its workers go on. Upgrade: the new master is a child of the old.
    let orphans: &[Row<'_>] = &[
        (8728, 1, "nginx", "nginx: worker process", &[33418]),
        (8729, 1, "nginx", "nginx: worker process", &[33418]),
    ];
    assert_eq!(
        lines(&run(orphans, &[])),
        ["nginx:8728 [-] 8728,8729", "33418 nginx:8728 8728,8729"]
    );
    let upgrade: &[Row<'_>] = &[
        (8727, 1, "nginx", "nginx: master process nginx", &[33418]),
        (8728, 8727, "nginx", "nginx: worker process", &[33418]),
        (9000, 8727, "nginx", "nginx: master process nginx", &[33418]),
        (9001, 9000, "nginx", "nginx: worker process", &[33418]),
    ];
    assert_eq!(
        lines(&run(upgrade, &[])),
        [
            "nginx:8727 [8727] 8728",
            "nginx:9000 [9000] 9001",
            "33418 nginx:9000 8728,9001"
        ]
    );
}

#[test]
fn gunicorn_without_titles() {
    let rows: &[Row<'_>] = &[
        (8725, 8710, "gunicorn", GUNICORN, &[33467]),
        (8776, 8725, "gunicorn", GUNICORN, &[33467]),
        (8823, 8725, "gunicorn", GUNICORN, &[33467]),
    ];
    let servers = run(rows, &[]);
    assert_eq!(
        lines(&servers),
        [
            "gunicorn:8725 [8725] 8776,8823",
            "33467 gunicorn:8725 8776,8823"
        ]
    );
    assert_eq!(servers.servers[0].title, "gunicorn");

    // A child of a worker that accepts is its helper; else this is an upgrade.
    let mut rows = rows.to_vec();
    rows.push((9000, 8823, "gunicorn", GUNICORN, &[33467]));
    assert_eq!(
        lines(&run(&rows, &[(33467, &[8823])])),
        [
            "gunicorn:8725 [8725] 8776,8823",
            "33467 gunicorn:8725 8776,8823",
        ]
    );
    assert_eq!(
        lines(&run(&rows, &[])),
        [
            "gunicorn:8725 [8725] 8776",
            "gunicorn:8823 [8823] 9000",
            "33467 gunicorn:8823 8776,9000",
        ]
    );
}

#[test]
fn says_unknown_where_processes_could_not_be_read() {
    let mut snapshot = snapshot(&UNICORN);
    let asked: BTreeSet<Inode> = [33456, 77].map(Inode).into();
    let none = &BTreeMap::new();
    let complete = classify(&snapshot, &asked, none);
    assert_eq!(
        lines(&complete)[1..],
        ["77 nothing ", "33456 unicorn:8719 8770,8771"]
    );
    snapshot.unreadable = 1;
    let partial = classify(&snapshot, &asked, none);
    assert_eq!(
        lines(&partial)[1..],
        ["77 unknown ?", "33456 unicorn:8719 8770,8771"]
    );
    assert_eq!(partial.listeners[&Inode(77)].holders, None);

    // Only an accept tells what an unreadable process holds; a title still tells whose it is.
    let mut rows = UNICORN;
    rows[1].4 = &[];
    let mut snapshot = self::snapshot(&rows);
    for pid in [8719, 8771] {
        snapshot.processes.get_mut(&Pid(pid)).unwrap().listeners = None;
    }
    let seen = acceptors(&[(33456, &[8771])]);
    assert_eq!(
        lines(&classify(&snapshot, &asked, &seen)),
        [
            "unicorn:8719 [8719] 8770,8771",
            "77 unknown ?",
            "33456 unicorn:8719 8770,8771"
        ]
    );
}
