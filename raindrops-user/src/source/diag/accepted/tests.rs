//! Against the kernel that runs the tests: loopback only, no privilege.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use super::{Bounds, Completeness, Family, Listing, Question, accepted};

const PLENTY: usize = 1 << 20;

fn bounds(connections: usize) -> Bounds {
    Bounds {
        connections,
        sockets: PLENTY,
        until: Instant::now() + Duration::from_secs(10),
    }
}

/// A listener with as many accepted connections.
fn listener(ip: IpAddr, connections: usize) -> (u16, Vec<TcpStream>) {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let streams = (0..connections).flat_map(|_| {
        let client = TcpStream::connect(address).unwrap();
        [client, listener.accept().unwrap().0]
    });
    let streams = streams.collect();
    (address.port(), streams)
}

#[test]
fn both_requests_list_both_families() {
    let (v4, _v4) = listener(Ipv4Addr::LOCALHOST.into(), 3);
    let (v6, _v6) = listener(Ipv6Addr::LOCALHOST.into(), 2);
    let (_, _not_asked_for) = listener(Ipv4Addr::LOCALHOST.into(), 1);
    let ports: BTreeSet<u16> = [v4, v6].into();
    for questions in [
        &[Question::Any][..],
        &[Question::Of(Family::V4), Question::Of(Family::V6)],
    ] {
        let mut listing = Listing {
            ports: &ports,
            bounds: bounds(PLENTY),
            sockets: 0,
            found: Vec::new(),
            seen: Completeness::default(),
            complete: true,
        };
        for question in questions {
            listing.dump(*question).unwrap();
        }
        let mut found: Vec<_> = listing.found.iter().map(|it| it.local.1).collect();
        found.sort_unstable_by_key(|port| *port != v4);
        assert_eq!(found, [v4, v4, v4, v6, v6]);
        // Nothing of other ports came out of the kernel.
        assert_eq!((listing.sockets, listing.complete), (5, true));
    }
}

#[test]
fn bounds_are_kept_and_told() {
    let (port, _streams) = listener(Ipv4Addr::LOCALHOST.into(), 300);
    let ports = [port].into();
    for (bounds, found, complete) in [
        (bounds(301), 300, true),
        (bounds(300), 300, true),
        (bounds(299), 299, false),
        (bounds(1), 1, false),
    ] {
        let listed = accepted(&ports, bounds).unwrap();
        assert_eq!(
            (listed.connections.len(), listed.complete, listed.consistent),
            (found, complete, true)
        );
    }
    let few_sockets = Bounds {
        sockets: 10,
        ..bounds(PLENTY)
    };
    let late = Bounds {
        until: Instant::now(),
        ..bounds(PLENTY)
    };
    for bounds in [few_sockets, late] {
        let listed = accepted(&ports, bounds).unwrap();
        assert!(!listed.complete && listed.connections.len() < 300);
    }
}

#[test]
fn more_ports_than_are_asked_for_are_told_apart_here() {
    let (port, _streams) = listener(Ipv4Addr::LOCALHOST.into(), 3);
    let ports: BTreeSet<u16> = (1..=1000).chain([port]).collect();
    let listed = accepted(&ports, bounds(PLENTY)).unwrap();
    let of_port = listed.connections.iter().filter(|it| it.local.1 == port);
    assert_eq!(of_port.count(), 3);
    assert!(
        listed
            .connections
            .iter()
            .all(|it| ports.contains(&it.local.1))
    );
}
