use std::{collections::BTreeMap, time::Duration};

use raindrops_ebpf::histogram::Histogram;

use super::{Counted, Counting, Drift, Port};
use crate::{
    ids::{Inode, Monotonic, NetnsId},
    snapshot::{BpfSnapshot, ListenerCounts, ListenerKey},
};

const NETNS: NetnsId = NetnsId(7);
const PORT: Port = Port {
    netns: NETNS,
    port: 80,
};

fn key(inode: u64) -> ListenerKey {
    ListenerKey {
        netns: NETNS,
        inode: Inode(inode),
    }
}

/// What the programs have counted on one listener.
fn bpf(accepts: u64, late: u64, closes: u64) -> BpfSnapshot {
    let mut wait = Histogram::EMPTY;
    wait.buckets[9] = accepts;
    let mut lifetime = Histogram::EMPTY;
    lifetime.buckets[9] = closes;
    let counts = ListenerCounts {
        tcp_address: None,
        changes: accepts + late + closes,
        late_accepts: late,
        wait_unknown: 0,
        lifetime_unknown: 0,
        half_closed: 0,
        seeded: 0,
        aborted: 0,
        unattributed: 0,
        wait,
        lifetime,
        longest_queue: None,
        complete: true,
        seeding_complete: true,
        attributed: true,
    };
    BpfSnapshot {
        taken: Monotonic(Duration::ZERO),
        listeners: BTreeMap::from([(key(1), counts)]),
        workers: BTreeMap::new(),
        misses: BTreeMap::new(),
        skipped_accepts: 0,
        sees_arrivals: true,
    }
}

fn counted(bpf: &BpfSnapshot, listeners: &[u64]) -> BTreeMap<Port, Counted> {
    let counts = &bpf.listeners[&key(1)];
    let counted = Counted {
        active: counts.active(),
        changes: counts.changes,
        listeners: listeners.iter().copied().map(key).collect(),
    };
    BTreeMap::from([(PORT, counted)])
}

fn count(drift: &mut Drift, before: &BpfSnapshot, after: &BpfSnapshot, kernel: u64) {
    let counting = Counting {
        before: counted(before, &[1]),
        after: counted(after, &[1]),
        kernel: BTreeMap::from([(PORT, kernel)]),
    };
    drift.counted(&counting, after);
}

/// Active, accepts and closes as shown.
fn shown(drift: &mut Drift, bpf: &BpfSnapshot) -> (u64, u64, u64) {
    let mut bpf = bpf.clone();
    drift.apply(&mut bpf);
    let counts = &bpf.listeners[&key(1)];
    (counts.active(), counts.accepts(), counts.closes())
}

#[test]
fn what_agrees_is_left_alone() {
    let mut drift = Drift::default();
    let now = bpf(5, 0, 2);
    count(&mut drift, &now, &now, 3);
    assert!(!drift.suspects());
    assert_eq!(shown(&mut drift, &now), (3, 5, 2));
    assert_eq!(drift.corrected(), 0);
}

#[test]
fn a_difference_is_believed_when_it_is_seen_twice() {
    let mut drift = Drift::default();
    let now = bpf(5, 0, 2);
    count(&mut drift, &now, &now, 7);
    assert!(drift.suspects());
    assert_eq!(shown(&mut drift, &now), (3, 5, 2));
    count(&mut drift, &now, &now, 6);
    assert_eq!(shown(&mut drift, &now), (6, 8, 2));
    assert_eq!(drift.corrected(), 3);

    // Corrected, it agrees.
    count(&mut drift, &now, &now, 6);
    assert!(!drift.suspects());
}

#[test]
fn changes_while_counting_explain_as_much_of_a_difference() {
    let mut drift = Drift::default();
    let (before, after) = (bpf(5, 0, 2), bpf(9, 0, 2));
    for kernel in [7, 3, 7] {
        count(&mut drift, &before, &after, kernel);
        assert!(!drift.suspects(), "{kernel}");
    }
    count(&mut drift, &before, &after, 8);
    count(&mut drift, &before, &after, 8);
    assert_eq!(drift.corrected(), 1);
}

#[test]
fn differences_of_both_signs_are_chance() {
    let mut drift = Drift::default();
    let now = bpf(5, 0, 2);
    for kernel in [4, 2, 4, 2] {
        count(&mut drift, &now, &now, kernel);
    }
    assert_eq!(shown(&mut drift, &now), (3, 5, 2));
}

#[test]
fn an_unseen_accept_that_is_found_at_the_end_counts_once() {
    let mut drift = Drift::default();
    let now = bpf(0, 0, 0);
    count(&mut drift, &now, &now, 2);
    count(&mut drift, &now, &now, 2);
    assert_eq!(shown(&mut drift, &now), (2, 2, 0));
    assert_eq!(shown(&mut drift, &bpf(0, 1, 1)), (1, 2, 1));
    assert_eq!(shown(&mut drift, &bpf(0, 2, 2)), (0, 2, 2));
    // Later ones are not among those corrected.
    assert_eq!(shown(&mut drift, &bpf(0, 3, 3)), (0, 3, 3));
}

#[test]
fn connections_that_ended_unseen_stay_in_the_totals() {
    let mut drift = Drift::default();
    let now = bpf(0, 0, 0);
    count(&mut drift, &now, &now, 2);
    count(&mut drift, &now, &now, 2);
    count(&mut drift, &now, &now, 0);
    count(&mut drift, &now, &now, 0);
    assert_eq!(shown(&mut drift, &now), (0, 2, 2));
}

#[test]
fn unseen_ends_close_connections() {
    let mut drift = Drift::default();
    let now = bpf(5, 0, 0);
    count(&mut drift, &now, &now, 1);
    count(&mut drift, &now, &now, 1);
    assert_eq!(shown(&mut drift, &now), (1, 5, 4));
    assert_eq!(shown(&mut drift, &bpf(5, 0, 1)), (0, 5, 5));
}

#[test]
fn listeners_that_share_a_port_are_told_of_and_not_corrected() {
    let mut drift = Drift::default();
    let now = bpf(5, 0, 2);
    let counting = Counting {
        before: counted(&now, &[1, 2]),
        after: counted(&now, &[1, 2]),
        kernel: BTreeMap::from([(PORT, 5)]),
    };
    drift.counted(&counting, &now);
    drift.counted(&counting, &now);
    assert_eq!((drift.uncorrected(), drift.corrected()), (2, 0));
    assert_eq!(shown(&mut drift, &now), (3, 5, 2));

    let agreed = Counting {
        kernel: BTreeMap::from([(PORT, 3)]),
        ..counting
    };
    drift.counted(&agreed, &now);
    assert_eq!(drift.uncorrected(), 0);
}

#[test]
fn a_listener_that_is_gone_takes_its_correction_along() {
    let mut drift = Drift::default();
    let now = bpf(5, 0, 0);
    count(&mut drift, &now, &now, 1);
    count(&mut drift, &now, &now, 1);
    let mut gone = bpf(0, 0, 0);
    gone.listeners = BTreeMap::new();
    drift.apply(&mut gone);
    assert_eq!(shown(&mut drift, &now), (5, 5, 0));
}
