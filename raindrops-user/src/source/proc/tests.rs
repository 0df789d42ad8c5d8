use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use super::{
    Live, ProcReader,
    fake::{FAKE, Fake, FakeProc},
};
use crate::{
    ids::{Inode, Pid, StartTicks},
    snapshot::{ProcSnapshot, Process},
    source::watch::{Quarantine, Watch, quarantine},
};

fn inodes(inodes: &[u64]) -> BTreeSet<Inode> {
    inodes.iter().copied().map(Inode).collect()
}

fn pids(pids: &[u32]) -> BTreeSet<Pid> {
    pids.iter().copied().map(Pid).collect()
}

/// Which processes, and what each holds.
fn held(snapshot: &ProcSnapshot) -> BTreeMap<u32, Vec<u64>> {
    let held = |process: &Process| {
        process
            .listeners
            .iter()
            .flatten()
            .map(|inode| inode.0)
            .collect()
    };
    snapshot
        .processes
        .iter()
        .map(|(pid, process)| (pid.0, held(process)))
        .collect()
}

/// A shell, a master, two workers of which one has a listener of its own, a child of a worker, and
/// processes that have nothing to do with any of it.
fn server() -> FakeProc {
    let proc = FakeProc::new();
    let both = &[
        "/dev/null",
        "socket:[7]",
        "pipe:[8]",
        "socket:[8]",
        "socket:[99]",
    ];
    for fake in [
        Fake {
            pid: 1,
            parent: 0,
            comm: "systemd",
            children: "40 50",
            ..FAKE
        },
        Fake {
            pid: 40,
            comm: "bash",
            children: "50",
            ..FAKE
        },
        Fake {
            pid: 50,
            parent: 40,
            links: &["socket:[7]"],
            children: "51 52",
            ..FAKE
        },
        Fake {
            pid: 51,
            parent: 50,
            comm: "a) b",
            cmdline: "w 0\0-c\0\0\0",
            links: both,
            ..FAKE
        },
        Fake {
            pid: 52,
            parent: 50,
            links: &["socket:[7]"],
            children: "53",
            ..FAKE
        },
        Fake {
            pid: 53,
            parent: 52,
            links: &["socket:[98]", "socket:[7] (deleted)"],
            ..FAKE
        },
        Fake {
            pid: 60,
            links: &["anon_inode:[eventpoll]", "socket:[70]"],
            ..FAKE
        },
        Fake { pid: 61, ..FAKE },
    ] {
        proc.write(fake);
    }
    proc
}

#[test]
fn finds_holders_their_ancestors_and_the_extra() {
    let proc = server();
    let mut reader = ProcReader::new(proc.root());
    let snapshot = reader.scan(&inodes(&[7, 8]), &pids(&[60, 999]));
    let expected = [
        (40, vec![]),
        (50, vec![7]),
        (51, vec![7, 8]),
        (52, vec![7]),
        (60, vec![]),
    ];
    assert_eq!(held(&snapshot), expected.into());
    assert_eq!(
        snapshot.processes[&Pid(51)],
        Process {
            parent: Pid(50),
            started: StartTicks(100),
            ns_pid: Some(Pid(7)),
            comm: b"a) b".into(),
            title: Some(b"w 0 -c".into()),
            uid: Some(33),
            threads: Some(1),
            state: 'S',
            unit: Some("app.service".into()),
            container: None,
            listeners: Some(inodes(&[7, 8])),
            each_thread: snapshot.processes[&Pid(51)].each_thread.clone(),
            fds: Some(5),
            fd_limit: None,
        }
    );
    assert_eq!(snapshot.unreadable, 0);
    assert_eq!(snapshot.quarantined, pids(&[]));
    assert_eq!(snapshot.boot_time, 1_795_316_000);
    assert!(snapshot.ticks_per_second > 0);
}

#[test]
fn a_process_that_lost_its_files_is_gone_or_poorer() {
    let proc = server();
    for name in ["status", "cgroup", "cmdline"] {
        std::fs::remove_file(proc.path(51).join(name)).unwrap();
    }
    std::fs::remove_file(proc.path(52).join("stat")).unwrap();
    std::fs::write(proc.path(50).join("stat"), "50 (cut").unwrap();
    let snapshot = ProcReader::new(proc.root()).scan(&inodes(&[8, 7]), &pids(&[]));
    assert_eq!(held(&snapshot), [(51, vec![7, 8])].into());
    let process = &snapshot.processes[&Pid(51)];
    assert_eq!(
        (&process.title, process.uid, &process.unit),
        (&None, None, &None)
    );
}

#[test]
fn counts_processes_that_it_may_not_read() {
    let proc = server();
    // ELOOP stands in for EACCES, which root never gets.
    for pid in [52, 53, 60] {
        let fd = proc.path(pid).join("fd");
        std::fs::remove_dir_all(&fd).unwrap();
        std::os::unix::fs::symlink("fd", &fd).unwrap();
    }
    let snapshot = ProcReader::new(proc.root()).scan(&inodes(&[7]), &pids(&[]));
    // 52 is the child of a holder; 53 and 60 may hold anything.
    assert_eq!(snapshot.unreadable, 3);
    let expected = [(40, vec![]), (50, vec![7]), (51, vec![7]), (52, vec![])];
    assert_eq!(held(&snapshot), expected.into());
    assert_eq!(snapshot.processes[&Pid(52)].listeners, None);
    assert_eq!(snapshot.processes[&Pid(40)].listeners, Some(inodes(&[])));
}

#[test]
fn without_a_proc_something_was_unreadable() {
    let snapshot = ProcReader::new(PathBuf::from("/nowhere")).scan(&inodes(&[7]), &pids(&[]));
    assert_eq!((snapshot.processes.len(), snapshot.unreadable), (0, 1));
}

#[test]
fn a_refresh_sees_names_ends_and_newcomers() {
    let proc = server();
    let mut reader = ProcReader::new(proc.root());
    let scan = reader.scan(&inodes(&[7, 8]), &pids(&[]));
    // 53 is a child that holds nothing, 50 a child of 40 that is known.
    let quiet = reader.refresh(&scan);
    assert!(!quiet.needs_scan());
    assert_eq!(
        quiet.live.keys().copied().collect::<BTreeSet<_>>(),
        pids(&[40, 50, 51, 52])
    );

    let new_master = Fake {
        pid: 50,
        parent: 1,
        comm: "old",
        cmdline: "old\0",
        ..FAKE
    };
    proc.write(Fake {
        children: "51 52 54",
        ..new_master
    });
    proc.write(Fake {
        pid: 51,
        parent: 50,
        started: 101,
        ..FAKE
    });
    proc.write(Fake {
        pid: 54,
        parent: 50,
        links: &["socket:[8]"],
        ..FAKE
    });
    proc.remove(52);
    let refresh = reader.refresh(&scan);
    assert_eq!(
        (&refresh.gone, &refresh.newcomers),
        (&pids(&[51, 52]), &pids(&[54]))
    );
    assert_eq!(
        refresh.live[&Pid(50)],
        Live {
            parent: Pid(1),
            comm: b"old".into(),
            title: Some(b"old".into()),
            threads: Some(1),
            state: 'S',
            each_thread: refresh.live[&Pid(50)].each_thread.clone(),
            fds: None,
        }
    );
    let applied = refresh.applied_to(&scan);
    // 54 is in it before the scan that it asks for, because 50 has had children that hold a listener.
    let expected = [(40, vec![]), (50, vec![7]), (54, vec![8])];
    assert_eq!(held(&applied), expected.into());
    assert_eq!(applied.processes[&Pid(50)].parent, Pid(1));
    assert_eq!(applied.taken, refresh.taken);
}

#[test]
fn a_master_whose_workers_have_all_ended_is_still_one() {
    let proc = server();
    let mut reader = ProcReader::new(proc.root());
    let scan = reader.scan(&inodes(&[7, 8]), &pids(&[]));
    proc.remove(51);
    proc.remove(52);
    let none = reader.refresh(&scan).applied_to(&scan);
    assert_eq!(held(&none), [(40, vec![]), (50, vec![7])].into());
    proc.write(Fake {
        pid: 56,
        parent: 50,
        links: &["socket:[7]"],
        ..FAKE
    });
    std::fs::write(proc.path(50).join("task/50/children"), "56").unwrap();
    let again = reader.refresh(&none).applied_to(&none);
    assert_eq!(
        held(&again),
        [(40, vec![]), (50, vec![7]), (56, vec![7])].into()
    );
}

/// Check that what a worker forks, which may be about to run another program, is not taken for a
/// holder before a scan has seen it.
#[test]
fn a_fork_of_a_worker_waits_for_the_scan() {
    let proc = server();
    let mut reader = ProcReader::new(proc.root());
    let scan = reader.scan(&inodes(&[7, 8]), &pids(&[]));
    proc.write(Fake {
        pid: 55,
        parent: 52,
        links: &["socket:[7]"],
        ..FAKE
    });
    std::fs::write(proc.path(52).join("task/52/children"), "53 55").unwrap();
    let refresh = reader.refresh(&scan);
    assert_eq!(refresh.newcomers, pids(&[55]));
    assert!(!refresh.applied_to(&scan).processes.contains_key(&Pid(55)));
}

#[test]
fn a_process_that_lives_on_is_never_called_gone() {
    let mut reader = ProcReader::new(PathBuf::from("/proc"));
    let own = Pid(std::process::id());
    let scan = reader.scan(&inodes(&[]), &[own].into());
    let refresh = reader.refresh(&scan);
    assert!(refresh.gone.is_empty());
    assert_eq!(scan.processes[&own].listeners, Some(inodes(&[])));
}

#[test]
fn leaves_a_quarantined_process_alone_and_keeps_what_it_knew() {
    let proc = server();
    let kept = Quarantine::default();
    let mut reader = ProcReader::watched(proc.root(), Arc::new(Watch::new(kept.clone())));
    let wanted = (inodes(&[7, 8]), pids(&[]));
    let before = reader.scan(&wanted.0, &wanted.1);
    quarantine(&kept, Pid(51));
    // Reading its command line would wait for ever.
    proc.freeze(51);
    let after = reader.scan(&wanted.0, &wanted.1);
    // When the others were looked at differs.
    let frozen = |snapshot: &ProcSnapshot| snapshot.processes[&Pid(51)].clone();
    assert_eq!(held(&after), held(&before));
    assert_eq!(frozen(&after), frozen(&before));
    assert_eq!(after.quarantined, pids(&[51]));
    let refresh = reader.refresh(&after);
    assert!(!refresh.needs_scan());
    let refreshed = refresh.applied_to(&after);
    assert_eq!(held(&refreshed), held(&before));
    assert_eq!(frozen(&refreshed), frozen(&before));
    proc.remove(51);
    assert!(
        !reader
            .scan(&wanted.0, &wanted.1)
            .processes
            .contains_key(&Pid(51))
    );
}
