use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use super::ProcThread;
use crate::{
    ids::{Inode, Pid},
    snapshot::ProcSnapshot,
    source::proc::fake::{FAKE, Fake, FakeProc},
};

const LONG: Duration = Duration::from_secs(10);

fn wanted() -> BTreeSet<Inode> {
    [Inode(7)].into()
}

fn wait_for(
    thread: &mut ProcThread,
    claim: impl Fn(&ProcThread, &ProcSnapshot) -> bool,
) -> Arc<ProcSnapshot> {
    let began = Instant::now();
    while began.elapsed() < LONG {
        thread.request(wanted(), BTreeSet::new(), BTreeSet::new());
        if let Some(snapshot) = thread.latest()
            && claim(thread, &snapshot)
        {
            return snapshot;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("not within {LONG:?}: {:?}", thread.latest());
}

#[test]
fn reads_only_when_asked_and_sees_changes() {
    let proc = FakeProc::new();
    proc.write(Fake {
        pid: 50,
        links: &["socket:[7]"],
        ..FAKE
    });
    let mut thread = ProcThread::start(proc.root()).unwrap();
    assert_eq!(thread.wait_for_first(Duration::from_millis(20)), None);
    thread.request(wanted(), BTreeSet::new(), BTreeSet::new());
    let first = thread.wait_for_first(LONG).unwrap();
    assert_eq!(first.processes.keys().collect::<Vec<_>>(), [&Pid(50)]);

    // A new worker is found through its parent, long before the next scan is due.
    proc.write(Fake {
        pid: 51,
        parent: 50,
        links: &["socket:[7]"],
        ..FAKE
    });
    std::fs::write(proc.path(50).join("task/50/children"), "51").unwrap();
    wait_for(&mut thread, |_, snapshot| snapshot.processes.len() == 2);

    proc.remove(51);
    std::fs::write(proc.path(50).join("task/50/children"), "").unwrap();
    wait_for(&mut thread, |thread, snapshot| {
        snapshot.processes.len() == 1 && thread.busy_since().is_none()
    });
}

#[test]
fn leaves_a_process_that_hangs_behind() {
    let proc = FakeProc::new();
    proc.write(Fake {
        pid: 50,
        links: &["socket:[7]"],
        ..FAKE
    });
    proc.write(Fake {
        pid: 51,
        links: &["socket:[7]"],
        ..FAKE
    });
    proc.freeze(50);
    let mut thread = ProcThread::start(proc.root()).unwrap();
    // Long enough that process 51 is not taken for one that hangs, however busy the machine.
    thread.reading.patience = Duration::from_secs(1);
    thread.request(wanted(), BTreeSet::new(), BTreeSet::new());
    assert_eq!(thread.wait_for_first(Duration::from_millis(100)), None);
    assert!(thread.busy_since().is_some());

    let snapshot = wait_for(&mut thread, |_, _| true);
    assert_eq!(snapshot.processes.keys().collect::<Vec<_>>(), [&Pid(51)]);
    assert_eq!(snapshot.quarantined, [Pid(50)].into());
    assert_eq!(thread.reading.left_behind.len(), 1);

    proc.thaw(50);
    let began = Instant::now();
    while !thread.reading.left_behind.is_empty() && began.elapsed() < LONG {
        thread.request(wanted(), BTreeSet::new(), BTreeSet::new());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(thread.reading.left_behind.is_empty());
}

#[test]
fn a_drop_does_not_wait_for_a_process_that_hangs() {
    let proc = FakeProc::new();
    proc.write(Fake {
        pid: 50,
        links: &["socket:[7]"],
        ..FAKE
    });
    proc.freeze(50);
    let mut thread = ProcThread::start(proc.root()).unwrap();
    thread.request(wanted(), BTreeSet::new(), BTreeSet::new());
    let began = Instant::now();
    while thread.busy_since().is_none() {
        assert!(began.elapsed() < LONG, "it never began to read");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (dropped, is_dropped) = mpsc::channel();
    let dropping = std::thread::spawn(move || {
        drop(thread);
        let _ = dropped.send(());
    });
    // The process hangs until after this: a drop that waited for it would not end.
    is_dropped.recv_timeout(LONG).unwrap();
    proc.thaw(50);
    dropping.join().unwrap();
}

#[test]
fn an_idle_thread_ends_at_once() {
    let thread = ProcThread::start(PathBuf::from("/proc")).unwrap();
    let shared = Arc::downgrade(&thread.shared);
    drop(thread);
    assert!(shared.upgrade().is_none());
}
