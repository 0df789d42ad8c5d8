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
fn bpf(accepts: u64, closes: u64) -> BpfSnapshot {
    let mut wait = Histogram::EMPTY;
    wait.buckets[9] = accepts;
    let mut lifetime = Histogram::EMPTY;
    lifetime.buckets[9] = closes;
    let counts = ListenerCounts {
        changes: accepts + closes,
        wait,
        lifetime,
        ..ListenerCounts::UNTOUCHED
    };
    BpfSnapshot {
        turns: None,
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
    drift.counted(&Counting {
        before: counted(before, &[1]),
        after: counted(after, &[1]),
        kernel: BTreeMap::from([(PORT, kernel)]),
    });
}

/// By how much the port differs, and whether its listener is marked.
fn shown(drift: &Drift, bpf: &BpfSnapshot) -> (i64, bool) {
    let mut bpf = bpf.clone();
    drift.mark(&mut bpf);
    let difference = drift.differing().map(|(_, difference)| difference).sum();
    (difference, !bpf.listeners[&key(1)].complete)
}

#[test]
fn what_agrees_is_left_alone() {
    let mut drift = Drift::default();
    let now = bpf(5, 2);
    count(&mut drift, &now, &now, 3);
    assert!(!drift.suspects());
    assert_eq!(shown(&drift, &now), (0, false));
}

#[test]
fn a_difference_is_believed_when_it_is_seen_twice_and_until_it_is_gone() {
    let mut drift = Drift::default();
    let now = bpf(5, 2);
    count(&mut drift, &now, &now, 7);
    assert!(drift.suspects());
    assert_eq!(shown(&drift, &now), (0, false));
    count(&mut drift, &now, &now, 6);
    assert!(!drift.suspects());
    assert_eq!(shown(&drift, &now), (3, true));
    count(&mut drift, &now, &now, 5);
    assert_eq!(shown(&drift, &now), (2, true));
    count(&mut drift, &now, &now, 3);
    assert_eq!(shown(&drift, &now), (0, false));
}

#[test]
fn changes_while_counting_explain_as_much_of_a_difference() {
    let mut drift = Drift::default();
    let (before, after) = (bpf(5, 2), bpf(9, 2));
    for kernel in [7, 3, 7] {
        count(&mut drift, &before, &after, kernel);
        assert!(!drift.suspects(), "{kernel}");
    }
    count(&mut drift, &before, &after, 8);
    count(&mut drift, &before, &after, 8);
    assert_eq!(shown(&drift, &after), (1, true));
    // Under traffic too it is gone when it may be gone.
    count(&mut drift, &before, &after, 7);
    assert_eq!(shown(&drift, &after), (0, false));
}

#[test]
fn differences_of_both_signs_are_chance() {
    let mut drift = Drift::default();
    let now = bpf(5, 2);
    for kernel in [4, 2, 4, 2] {
        count(&mut drift, &now, &now, kernel);
    }
    assert_eq!(shown(&drift, &now), (0, false));
}

#[test]
fn too_many_are_told_as_well_as_too_few() {
    let mut drift = Drift::default();
    let now = bpf(5, 0);
    count(&mut drift, &now, &now, 1);
    count(&mut drift, &now, &now, 0);
    assert_eq!(shown(&drift, &now), (-4, true));
}

#[test]
fn a_port_whose_listeners_change_is_not_compared() {
    let mut drift = Drift::default();
    let now = bpf(5, 2);
    for _ in 0..2 {
        drift.counted(&Counting {
            before: counted(&now, &[1]),
            after: counted(&now, &[1, 2]),
            kernel: BTreeMap::new(),
        });
    }
    assert_eq!(shown(&drift, &now), (0, false));
}

#[test]
fn a_port_that_nobody_listens_on_any_more_is_forgotten() {
    let mut drift = Drift::default();
    let now = bpf(5, 0);
    count(&mut drift, &now, &now, 1);
    count(&mut drift, &now, &now, 1);
    drift.counted(&Counting::default());
    assert_eq!(shown(&drift, &now), (0, false));
}

#[test]
fn none_is_missing_when_the_kernel_has_no_more() {
    let of = |listeners: &[u64]| counted(&bpf(9, 2), listeners);
    for (what, after, kernel, expected) in [
        ("as many", counted(&bpf(9, 2), &[1]), 7, true),
        ("fewer", counted(&bpf(9, 2), &[1]), 5, true),
        ("more", counted(&bpf(9, 2), &[1]), 8, false),
        (
            "more, which came meanwhile",
            counted(&bpf(10, 2), &[1]),
            8,
            true,
        ),
        ("other listeners", counted(&bpf(9, 2), &[1, 2]), 7, false),
        ("what could not be compared", BTreeMap::new(), 7, false),
    ] {
        let counting = Counting {
            before: of(&[1]),
            after,
            kernel: BTreeMap::from([(PORT, kernel)]),
        };
        assert_eq!(counting.lacks_none(), expected, "{what}");
    }
}
