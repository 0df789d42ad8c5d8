mod overflows;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, SystemTime},
};

use super::{Ledger, Protocol, QueueHistory, Scope};
use crate::{
    address::{Address, UnixName},
    ids::{Cookie, Inode, Monotonic, NetnsId},
    snapshot::{ListenSocket, ListenerKey, QueuePeak, QueueSnapshot, QueueSource},
};

const NETNS: NetnsId = NetnsId(7);
const TCP: Scope = Scope {
    netns: NETNS,
    protocol: Protocol::Tcp,
};
const UNIX: Scope = Scope {
    netns: NETNS,
    protocol: Protocol::Unix,
};

/// Limit of every queue here: full is 9.
const LIMIT: u32 = 8;

const A: u64 = 1;
const B: u64 = 2;
const C: u64 = 3;

fn key(inode: u64) -> ListenerKey {
    ListenerKey {
        netns: NETNS,
        inode: Inode(inode),
    }
}

fn wall(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

fn listener(inode: u64, queued: u32, drops: Option<u32>) -> (ListenerKey, ListenSocket) {
    let address = match drops {
        Some(_) => Address::Tcp {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: inode as u16,
        },
        None => Address::Unix(UnixName::Abstract(inode.to_string().into_bytes())),
    };
    let socket = ListenSocket {
        address,
        cookie: Some(Cookie(inode)),
        queued: Some(queued),
        limit: Some(LIMIT),
        drops,
        bound_path: None,
    };
    (key(inode), socket)
}

fn snapshot(
    millis: u64,
    listeners: impl IntoIterator<Item = (ListenerKey, ListenSocket)>,
) -> QueueSnapshot {
    QueueSnapshot {
        began: Monotonic(Duration::from_millis(millis)),
        taken: Monotonic(Duration::from_millis(millis)),
        source: QueueSource::SockDiag,
        interrupted: false,
        listeners: listeners.into_iter().collect(),
    }
}

/// Listeners of a sample as (inode, queued, drops), and ListenOverflows just after it.
type Step<'a> = (&'a [(u64, u32, u32)], Option<u64>);

/// Folds samples a tenth of a second apart.
fn fold(ledger: &mut Ledger, steps: &[Step<'_>]) {
    for (index, (listeners, counter)) in steps.iter().enumerate() {
        let millis = index as u64 * 100;
        let listeners = listeners
            .iter()
            .map(|(inode, queued, drops)| listener(*inode, *queued, Some(*drops)));
        ledger.fold(TCP, &snapshot(millis, listeners), wall(millis), *counter);
    }
}

#[test]
fn unwraps_drops() {
    let mut ledger = Ledger::default();
    fold(
        &mut ledger,
        &[
            (&[(A, 0, u32::MAX)], None),
            (&[(A, 0, 4)], None),
            (&[(A, 0, 3)], None),
        ],
    );
    let total = u64::from(u32::MAX) + 5 + u64::from(u32::MAX);
    assert_eq!(ledger.get(&key(A)).unwrap().drops_total, Some(total));
}

#[test]
fn keeps_peaks_until_they_are_reset() {
    let mut ledger = Ledger::default();
    fold(
        &mut ledger,
        &[
            (&[(A, 2, 0)], Some(0)),
            (&[(A, 9, 3)], Some(3)),
            (&[(A, 9, 3)], Some(3)),
            (&[(A, 1, 3)], Some(3)),
        ],
    );
    let mut expected = QueueHistory {
        peak: Some(9),
        peak_at: Some(wall(100)),
        peak_exact: false,
        full_since: None,
        waiting_since: Some(wall(0)),
        overflows: Some(3),
        overflows_exact: true,
        last_overflow: Some(wall(100)),
        defer_accept: None,
        drops_total: Some(3),
        recent_peak: Some(9),
        recent_overflows: Some(3),
    };
    assert_eq!(ledger.get(&key(A)), Some(&expected));
    ledger.reset_peaks();
    expected.peak = Some(1);
    expected.peak_at = Some(wall(300));
    assert_eq!(ledger.get(&key(A)), Some(&expected));
}

#[test]
fn an_arrival_between_samples_makes_a_peak() {
    let mut ledger = Ledger::default();
    let at = |millis| Monotonic(Duration::from_millis(millis));
    let peak = |length, millis| QueuePeak {
        length,
        at: at(millis),
    };
    fold(&mut ledger, &[(&[(A, 1, 0), (B, 1, 0)], None)]);
    let shown = |ledger: &Ledger, inode| {
        let history = ledger.get(&key(inode)).unwrap().clone();
        (history.peak, history.peak_at, history.peak_exact)
    };
    assert_eq!(shown(&ledger, A), (Some(1), Some(wall(0)), false));

    // The programs have a row for A and none for B.
    let arrivals = BTreeMap::from([(key(A), Some(peak(7, 40)))]);
    ledger.note_arrivals(&arrivals, at(90), wall(90));
    assert_eq!(shown(&ledger, A), (Some(7), Some(wall(40)), true));
    assert_eq!(ledger.get(&key(A)).unwrap().recent_peak, Some(7));
    assert_eq!(shown(&ledger, B), (Some(1), Some(wall(0)), false));

    // A shorter one changes nothing; one that went unseen makes the peak doubtful for good.
    let arrivals = BTreeMap::from([(key(A), Some(peak(5, 100))), (key(B), None)]);
    ledger.note_arrivals(&arrivals, at(190), wall(190));
    assert_eq!(shown(&ledger, A), (Some(7), Some(wall(40)), true));
    assert_eq!(shown(&ledger, B), (Some(1), Some(wall(0)), false));

    ledger.reset_peaks();
    ledger.note_arrivals(&arrivals, at(290), wall(290));
    assert_eq!(shown(&ledger, A), (Some(5), Some(wall(100)), true));
    assert_eq!(shown(&ledger, B), (Some(1), Some(wall(0)), true));
}

#[test]
fn tells_since_when_a_queue_is_full_and_since_when_anybody_waits() {
    let mut ledger = Ledger::default();
    let steps: [(u32, Option<u64>, Option<u64>); 7] = [
        (8, None, Some(0)),
        (9, Some(100), Some(0)),
        (9, Some(100), Some(0)),
        (8, None, Some(0)),
        (9, Some(400), Some(0)),
        (0, None, None),
        (1, None, Some(600)),
    ];
    for (index, (queued, full, waiting)) in steps.into_iter().enumerate() {
        let at = index as u64 * 100;
        let sample = snapshot(at, [listener(A, queued, Some(0))]);
        ledger.fold(TCP, &sample, wall(at), Some(0));
        let history = ledger.get(&key(A)).unwrap();
        let since = (history.full_since, history.waiting_since);
        assert_eq!(since, (full.map(wall), waiting.map(wall)), "at {at}");
    }
}

#[test]
fn recent_figures_last_ten_seconds() {
    let mut ledger = Ledger::default();
    // Seconds, queued, drops; then the recent peak and overflows.
    let steps: [(u64, u32, u32, u32, u64); 6] = [
        (0, 9, 0, 9, 0),
        (1, 9, 5, 9, 5),
        (9, 1, 5, 9, 5),
        (10, 1, 5, 9, 5),
        (11, 1, 5, 1, 0),
        (1000, 0, 5, 0, 0),
    ];
    for (second, queued, drops, peak, overflows) in steps {
        let at = second * 1000;
        let sample = snapshot(at, [listener(A, queued, Some(drops))]);
        ledger.fold(TCP, &sample, wall(at), Some(drops.into()));
        let history = ledger.get(&key(A)).unwrap();
        let recent = (history.recent_peak, history.recent_overflows);
        assert_eq!(recent, (Some(peak), Some(overflows)), "at {second} s");
    }
}

#[test]
fn unix_listeners_have_peaks_and_no_drops() {
    let mut ledger = Ledger::default();
    ledger.fold(UNIX, &snapshot(0, [listener(A, 4, None)]), wall(0), Some(3));
    let history = ledger.get(&key(A)).unwrap();
    assert_eq!((history.peak, history.recent_peak), (Some(4), Some(4)));
    assert_eq!((history.overflows, history.recent_overflows), (None, None));
    assert_eq!(history.drops_total, None);
}

#[test]
fn a_sample_ends_only_listeners_of_its_scope() {
    let mut ledger = Ledger::default();
    let elsewhere = Scope {
        netns: NetnsId(8),
        protocol: Protocol::Tcp,
    };
    let other_key = ListenerKey {
        netns: NetnsId(8),
        inode: Inode(A),
    };
    let (_, other) = listener(A, 0, Some(0));
    ledger.fold(TCP, &snapshot(0, [listener(A, 0, Some(0))]), wall(0), None);
    ledger.fold(UNIX, &snapshot(0, [listener(B, 0, None)]), wall(0), None);
    ledger.fold(elsewhere, &snapshot(0, [(other_key, other)]), wall(0), None);

    ledger.fold(TCP, &snapshot(100, []), wall(100), None);
    assert_eq!(ledger.get(&key(A)), None);
    assert!(ledger.get(&key(B)).is_some());
    assert!(ledger.get(&other_key).is_some());

    ledger.retain_namespaces(|netns| netns == NETNS);
    assert_eq!(ledger.get(&other_key), None);
    assert!(ledger.get(&key(B)).is_some());
}

#[test]
fn leaves_listeners_outside_the_scope_alone() {
    let mut ledger = Ledger::default();
    let both = [listener(A, 1, Some(0)), listener(B, 2, None)];
    ledger.fold(TCP, &snapshot(0, both), wall(0), Some(0));
    assert!(ledger.get(&key(A)).is_some());
    assert_eq!(ledger.get(&key(B)), None);
}

#[test]
fn a_listener_that_one_dump_skipped_keeps_its_totals() {
    let mut ledger = Ledger::default();
    fold(
        &mut ledger,
        &[
            (&[(A, 9, 100)], Some(0)),
            (&[(A, 9, 103)], Some(3)),
            (&[], Some(3)),
            (&[(A, 9, 105)], Some(5)),
        ],
    );
    let history = ledger.get(&key(A)).unwrap();
    assert_eq!(
        (history.overflows, history.drops_total),
        (Some(5), Some(105))
    );
}

#[test]
fn forgets_listeners_that_are_gone() {
    let mut ledger = Ledger::default();
    for step in 0..100_u64 {
        let sample = snapshot(step, [listener(step, 0, Some(0))]);
        ledger.fold(TCP, &sample, wall(step), Some(0));
    }
    let entries = ledger.domains.values().map(|domain| domain.entries.len());
    assert_eq!(entries.collect::<Vec<_>>(), [2]);
}

#[test]
fn an_interrupted_dump_ends_nothing_for_a_minute() {
    let mut ledger = Ledger::default();
    let interrupted = |millis, listeners: BTreeMap<_, _>| QueueSnapshot {
        interrupted: true,
        ..snapshot(millis, listeners)
    };
    fold(&mut ledger, &[(&[(A, 9, 0)], Some(0))]);
    ledger.fold(TCP, &interrupted(50_000, BTreeMap::new()), wall(0), Some(3));
    assert!(ledger.get(&key(A)).is_some());
    // B may have been there all along: what it dropped before is no rise.
    let found = BTreeMap::from([listener(B, 0, Some(400))]);
    ledger.fold(TCP, &interrupted(60_000, found), wall(0), Some(3));
    assert_eq!(ledger.get(&key(A)), None);
    assert_eq!(ledger.get(&key(B)).unwrap().overflows, Some(0));
}

#[test]
fn an_inode_that_came_back_is_another_listener() {
    let mut ledger = Ledger::default();
    fold(
        &mut ledger,
        &[(&[(A, 9, 0)], Some(0)), (&[(A, 9, 7)], Some(7))],
    );
    let (key, mut socket) = listener(A, 1, Some(0));
    socket.cookie = Some(Cookie(99));
    ledger.fold(TCP, &snapshot(200, [(key, socket)]), wall(200), Some(7));
    let history = ledger.get(&key).unwrap();
    assert_eq!((history.peak, history.overflows), (Some(1), Some(0)));
}
