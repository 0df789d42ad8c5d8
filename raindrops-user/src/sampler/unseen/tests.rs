use std::{collections::BTreeMap, time::Duration};

use raindrops_ebpf::histogram::Histogram;

use super::UnseenAccepts;
use crate::{
    address::{Address, UnixName},
    ids::{Inode, Monotonic, NetnsId},
    snapshot::{BpfSnapshot, ListenSocket, ListenerCounts, ListenerKey},
    source::bpf::{Dumps, Listed},
};

const KEY: ListenerKey = ListenerKey {
    netns: NetnsId(7),
    inode: Inode(1),
};

/// A look at the listener at some second: its queue began to be read half a second before, if not
/// `earlier`.
struct Look {
    second: u64,
    arrivals: u64,
    accepts: u64,
    queued: u32,
    earlier: bool,
}

/// Late accepts after each look.
fn late(looks: &[Look]) -> Vec<u64> {
    let mut unseen = UnseenAccepts::default();
    looks.iter().map(|look| look.find(&mut unseen)).collect()
}

impl Look {
    fn find(&self, unseen: &mut UnseenAccepts) -> u64 {
        let (mut bpf, listed) = self.seen();
        let socket = ListenSocket {
            address: Address::Unix(UnixName::Path(b"/run/app.sock".to_vec())),
            cookie: None,
            queued: Some(self.queued),
            limit: None,
            drops: None,
            bound_path: None,
        };
        unseen.find(
            &mut bpf,
            Dumps {
                listeners: &BTreeMap::from([(KEY, socket)]),
                listed: &BTreeMap::from([(KEY.netns, listed)]),
            },
        );
        bpf.listeners[&KEY].late_accepts
    }

    fn seen(&self) -> (BpfSnapshot, Listed) {
        let taken = Monotonic(Duration::from_secs(self.second));
        let before = Duration::from_millis(if self.earlier { 1500 } else { 500 });
        let began = Monotonic(Duration::from_secs(self.second) - before);
        let mut wait = Histogram::EMPTY;
        wait.buckets[9] = self.accepts;
        let counts = ListenerCounts {
            changes: self.arrivals + self.accepts,
            unix_arrivals: Some(self.arrivals),
            wait,
            ..ListenerCounts::UNTOUCHED
        };
        let bpf = BpfSnapshot {
            turns: None,
            taken,
            listeners: BTreeMap::from([(KEY, counts)]),
            workers: BTreeMap::new(),
            sees_arrivals: true,
            misses: BTreeMap::new(),
            skipped_accepts: 0,
        };
        let listed = Listed {
            tcp: None,
            unix: Some(began),
        };
        (bpf, listed)
    }
}

fn look(second: u64, arrivals: u64, accepts: u64, queued: u32) -> Look {
    Look {
        second,
        arrivals,
        accepts,
        queued,
        earlier: false,
    }
}

#[test]
fn an_accept_that_nobody_saw_is_found() {
    let looks = [
        look(1, 0, 0, 0),
        look(2, 3, 1, 0),
        look(3, 3, 1, 0),
        look(4, 3, 1, 0),
        look(5, 3, 1, 0),
        look(6, 3, 1, 0),
    ];
    assert_eq!(late(&looks).last(), Some(&2));
}

#[test]
fn one_after_many_that_were_seen_before_the_first_look_is_found() {
    let looks = [
        look(1, 1000, 1000, 0),
        look(2, 1000, 1000, 0),
        look(3, 1001, 1000, 0),
        look(4, 1001, 1000, 0),
        look(5, 1001, 1000, 0),
        look(6, 1001, 1000, 0),
        look(7, 1001, 1000, 0),
    ];
    assert_eq!(late(&looks).last(), Some(&1));
}

#[test]
fn what_arrives_while_the_queue_is_read_is_not_unseen() {
    let mut looks = vec![look(1, 5, 0, 5), look(2, 5, 0, 5)];
    // Three came after the queue was read and before the reading was handed over.
    looks.extend((3..12).map(|second| Look {
        earlier: second == 4,
        ..look(second, 8, 0, if second < 5 { 5 } else { 8 })
    }));
    looks[2].queued = 5;
    looks[2].arrivals = 5;
    assert_eq!(late(&looks), vec![0; looks.len()]);
}

#[test]
fn what_was_found_is_not_taken_back_while_no_queue_is_known() {
    let mut unseen = UnseenAccepts::default();
    for second in 1..6 {
        look(second, u64::from(second > 1), 0, 0).find(&mut unseen);
    }
    let (mut bpf, _) = look(6, 1, 0, 0).seen();
    let nothing = Dumps {
        listeners: &BTreeMap::new(),
        listed: &BTreeMap::new(),
    };
    unseen.find(&mut bpf, nothing);
    assert_eq!(bpf.listeners[&KEY].late_accepts, 1);
}

#[test]
fn a_row_that_begins_anew_is_followed_anew() {
    let looks = [
        look(1, 9, 9, 0),
        look(2, 9, 9, 0),
        look(3, 1, 1, 0),
        look(4, 1, 1, 0),
        look(5, 1, 1, 0),
        look(6, 1, 1, 0),
    ];
    assert_eq!(late(&looks), [0; 6]);
}

#[test]
fn what_waits_is_not_unseen() {
    let looks = [
        look(1, 0, 0, 0),
        look(2, 3, 1, 2),
        look(3, 3, 1, 2),
        look(4, 3, 1, 2),
        look(5, 3, 3, 0),
        look(6, 3, 3, 0),
        look(7, 3, 3, 0),
    ];
    assert_eq!(late(&looks), [0; 7]);
}

#[test]
fn connections_older_than_the_daemon_did_not_arrive() {
    let looks = [
        look(1, 0, 0, 4),
        look(2, 0, 4, 0),
        look(3, 1, 4, 0),
        look(4, 1, 4, 0),
        look(5, 1, 4, 0),
        look(6, 1, 4, 0),
    ];
    assert_eq!(late(&looks).last(), Some(&1));
    assert_eq!(late(&looks[..2]), [0, 0]);
}

#[test]
fn an_accept_on_its_way_to_the_hook_is_waited_for() {
    let looks = [
        look(1, 0, 0, 0),
        look(2, 1, 0, 0),
        look(3, 1, 0, 0),
        look(4, 1, 1, 0),
        look(5, 1, 1, 0),
    ];
    assert_eq!(late(&looks), [0; 5]);
}

#[test]
fn traffic_hides_but_never_invents() {
    let looks: Vec<_> = (1..20)
        .map(|second| look(second, second * 100, second * 100 - 5, 1))
        .collect();
    assert_eq!(late(&looks), vec![0; looks.len()]);
}
