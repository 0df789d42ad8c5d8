use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::TOLD;
use crate::{
    ids::{Inode, Monotonic, Pid, StartTicks},
    snapshot::{Ended, ProcSnapshot},
    source::proc::{
        ProcReader,
        fake::{FAKE, Fake, FakeProc},
    },
};

/// A master with two workers, and one that holds nothing.
fn server() -> FakeProc {
    let proc = FakeProc::new();
    for pid in [50, 51, 52] {
        proc.write(Fake {
            pid,
            parent: if pid == 50 { 1 } else { 50 },
            links: &["socket:[7]"],
            ..FAKE
        });
    }
    proc.write(Fake { pid: 53, ..FAKE });
    proc
}

fn scan(reader: &mut ProcReader) -> Arc<ProcSnapshot> {
    reader.scan(&[Inode(7)].into(), &[Pid(53)].into())
}

fn pids(snapshot: &ProcSnapshot) -> Vec<u32> {
    snapshot.ended.iter().map(|ended| ended.pid.0).collect()
}

#[test]
fn a_scan_tells_who_has_ended_from_who_has_let_go() {
    let proc = server();
    let mut reader = ProcReader::new(proc.root());
    assert!(scan(&mut reader).ended.is_empty());
    // Lives on without its listeners.
    proc.write(Fake {
        pid: 51,
        parent: 50,
        ..FAKE
    });
    proc.remove(52);
    proc.remove(53);
    let snapshot = scan(&mut reader);
    let ended = Ended {
        pid: Pid(52),
        started: StartTicks(100),
        parent: Pid(50),
        noticed: snapshot.taken,
        lived: snapshot.since_boot.saturating_sub(Duration::from_secs(1)),
    };
    assert_eq!(snapshot.ended, [ended]);
    proc.remove(51);
    assert_eq!(
        scan(&mut reader).ended,
        [ended],
        "51 was no holder any more"
    );
}

#[test]
fn a_pid_in_other_hands_and_one_that_waits_for_its_parent_have_ended() {
    let proc = server();
    let mut reader = ProcReader::new(proc.root());
    scan(&mut reader);
    proc.write(Fake {
        pid: 51,
        started: 101,
        links: &["socket:[7]"],
        ..FAKE
    });
    proc.write(Fake {
        pid: 52,
        state: 'Z',
        ..FAKE
    });
    assert_eq!(pids(&scan(&mut reader)), [51, 52]);
}

#[test]
fn ends_are_told_for_a_minute_by_refreshes_and_scans() {
    let proc = server();
    let mut reader = ProcReader::new(proc.root());
    let before = scan(&mut reader);
    proc.remove(51);
    let refresh = reader.refresh(&before).applied_to(&before);
    assert_eq!(pids(&refresh), [51]);
    let refresh = Arc::new(refresh);
    reader.known = Some(Arc::clone(&refresh));
    proc.remove(52);
    let mut snapshot = (*scan(&mut reader)).clone();
    assert_eq!(pids(&snapshot), [51, 52]);

    snapshot.ended[0].noticed = Monotonic(snapshot.taken.0 - TOLD);
    assert_eq!(pids(&reader.refresh(&snapshot).applied_to(&snapshot)), [52]);
    assert_eq!(
        refresh.processes.keys().collect::<BTreeSet<_>>(),
        [&Pid(50), &Pid(52), &Pid(53)].into()
    );
}
