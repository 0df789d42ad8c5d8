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

/// A look at the listener at some second: its queue is read half a second before.
struct Look {
    second: u64,
    arrivals: u64,
    accepts: u64,
    queued: u32,
}

/// Late accepts after each look.
fn late(looks: &[Look]) -> Vec<u64> {
    let mut unseen = UnseenAccepts::default();
    looks.iter().map(|look| look.find(&mut unseen)).collect()
}

impl Look {
    fn find(&self, unseen: &mut UnseenAccepts) -> u64 {
        let taken = Monotonic(Duration::from_secs(self.second));
        let read = Monotonic(Duration::from_secs(self.second) - Duration::from_millis(500));
        let mut wait = Histogram::EMPTY;
        wait.buckets[9] = self.accepts;
        let counts = ListenerCounts {
            tcp_address: None,
            changes: self.arrivals + self.accepts,
            late_accepts: 0,
            wait_unknown: 0,
            lifetime_unknown: 0,
            half_closed: 0,
            seeded: 0,
            aborted: 0,
            unattributed: 0,
            unix_arrivals: self.arrivals,
            wait,
            lifetime: Histogram::EMPTY,
            longest_queue: None,
            complete: true,
            seeding_complete: true,
            attributed: true,
        };
        let mut bpf = BpfSnapshot {
            taken,
            listeners: BTreeMap::from([(KEY, counts)]),
            workers: BTreeMap::new(),
            sees_arrivals: true,
            misses: BTreeMap::new(),
            skipped_accepts: 0,
        };
        let socket = ListenSocket {
            address: Address::Unix(UnixName::Path(b"/run/app.sock".to_vec())),
            cookie: None,
            queued: Some(self.queued),
            limit: None,
            drops: None,
            bound_path: None,
        };
        let listed = Listed {
            tcp: None,
            unix: Some(read),
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
}

fn look(second: u64, arrivals: u64, accepts: u64, queued: u32) -> Look {
    Look {
        second,
        arrivals,
        accepts,
        queued,
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
    ];
    assert_eq!(late(&looks).last(), Some(&2));
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
