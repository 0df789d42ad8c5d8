use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use super::{Inputs, list};
use crate::{
    address::Endpoint,
    ids::{Cookie, Inode, Monotonic, NetnsId, Pid, StartTicks},
    snapshot::{
        ListenerKey,
        connections::{
            BpfConnection, BpfConnections, KernelConnection, KernelConnections, Phase, TcpInfo,
            TurnState,
        },
    },
    view::connections::{
        Connection, ListenerName, Listing, Note, Place, Question, SCANNED, State, Tcp,
    },
};

const OWN: NetnsId = NetnsId(7);
const NOW: Monotonic = Monotonic(Duration::from_secs(100));
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn key(inode: u64) -> ListenerKey {
    ListenerKey {
        netns: OWN,
        inode: Inode(inode),
    }
}

/// A TCP listener whose id ends with its inode.
fn place(inode: u64, tcp: Endpoint) -> Place {
    Place {
        key: key(inode),
        id: format!("7:{inode}"),
        address: format!("{}:{}", tcp.0, tcp.1),
        tcp: Some(tcp),
        is_wanted: true,
    }
}

fn unix(inode: u64) -> Place {
    Place {
        address: "/run/app.sock".to_owned(),
        tcp: None,
        ..place(inode, (LOCAL, 0))
    }
}

fn unwanted(place: Place) -> Place {
    Place {
        is_wanted: false,
        ..place
    }
}

/// An established connection at 127.0.0.1:80, by its cookie.
fn socket(cookie: u64) -> KernelConnection {
    KernelConnection {
        cookie: Cookie(cookie),
        inode: Inode(1000 + cookie),
        half_closed: false,
        local: (LOCAL, 80),
        remote: (LOCAL, 40_000 + cookie as u16),
        is_path: false,
        unread_bytes: 0,
        unacked_bytes: 0,
        info: None,
    }
}

fn kernel(connections: Vec<KernelConnection>) -> KernelConnections {
    KernelConnections {
        netns: OWN,
        connections,
        complete: true,
        consistent: true,
    }
}

fn followed(listener: u64, cookie: u64) -> BpfConnection {
    BpfConnection {
        listener: key(listener),
        cookie: Some(Cookie(cookie)),
        inode: None,
        worker: None,
        established: None,
        accepted: None,
        half_closed: false,
        turn: None,
    }
}

const fn at(seconds: u64) -> Option<Monotonic> {
    Some(Monotonic(Duration::from_secs(seconds)))
}

fn turn(phase: Phase, since: Option<Monotonic>) -> Option<TurnState> {
    Some(TurnState {
        phase,
        blocked: false,
        since,
        turns: 1,
        bytes_in: 0,
        bytes_out: 0,
        reader_thread: None,
        writer_thread: None,
    })
}

fn bpf(connections: Vec<BpfConnection>) -> BpfConnections {
    BpfConnections {
        connections,
        complete: true,
    }
}

struct Asked {
    question: Question,
    kernel: Option<KernelConnections>,
    bpf: Option<BpfConnections>,
}

impl Asked {
    fn of(places: impl Into<Vec<Place>>) -> Self {
        Self {
            question: Question {
                places: places.into(),
                worker: None,
                allowed: None,
                limit: SCANNED,
            },
            kernel: None,
            bpf: None,
        }
    }

    fn list(&self) -> Listing {
        list(Inputs {
            question: &self.question,
            kernel: self.kernel.as_ref(),
            bpf: self.bpf.as_ref(),
            notes: Vec::new(),
            now: NOW,
            wall: SystemTime::UNIX_EPOCH,
        })
    }

    /// Cookies in the order of the list, each with its listener.
    fn cookies(&self) -> Vec<(u64, Option<String>)> {
        let cookie = |it: &Connection| it.cookie.as_ref().unwrap().parse().unwrap();
        let listing = self.list();
        let rows = listing.connections.iter();
        rows.map(|it| (cookie(it), it.listener.clone())).collect()
    }
}

fn of(cookie: u64, listener: &str) -> (u64, Option<String>) {
    (cookie, Some(listener.to_owned()))
}

#[test]
fn both_sources_make_one_row() {
    let mut asked = Asked::of([place(1, (ANY, 80))]);
    let mut socket = socket(5);
    socket.half_closed = true;
    socket.unread_bytes = 3;
    socket.unacked_bytes = 4;
    socket.info = Some(TcpInfo {
        rtt_us: Some(51),
        bytes_received: Some(1000),
        ..TcpInfo::default()
    });
    let mut seen = followed(1, 5);
    seen.worker = Some((Pid(14), StartTicks(1)));
    seen.established = at(40);
    seen.accepted = at(41);
    seen.turn = Some(TurnState {
        phase: Phase::Writing,
        blocked: true,
        since: at(90),
        turns: 3,
        bytes_in: 900,
        bytes_out: 8000,
        reader_thread: Some(15),
        writer_thread: Some(16),
    });
    asked.kernel = Some(kernel(vec![socket]));
    asked.bpf = Some(bpf(vec![seen]));
    let expected = Connection {
        listener: Some("7:1".to_owned()),
        address: Some("127.0.0.1:80".to_owned()),
        peer: Some("127.0.0.1:40005".to_owned()),
        worker: Some(14),
        cookie: Some("5".to_owned()),
        inode: Some(1005),
        age_us: Some(60_000_000),
        accepted_age_us: Some(59_000_000),
        state: Some(State::CloseWait),
        phase: Some(Phase::Writing),
        blocked: Some(true),
        phase_age_us: Some(10_000_000),
        turns: Some(3),
        bytes_in: Some(900),
        bytes_out: Some(8000),
        reader_thread: Some(15),
        writer_thread: Some(16),
        tcp: Some(Tcp {
            rtt_us: Some(51),
            bytes_received: Some(1000),
            unread_bytes: 3,
            unacked_bytes: 4,
            ..Tcp::default()
        }),
    };
    let listing = asked.list();
    assert_eq!(listing.connections, [expected]);
    assert_eq!(
        listing.listeners,
        [ListenerName {
            id: "7:1".to_owned(),
            address: "0.0.0.0:80".to_owned(),
        }]
    );
    assert_eq!((listing.scanned, listing.matched), (1, 1));
    assert!(!listing.truncated && listing.scan_complete && listing.notes.is_empty());
}

#[test]
fn what_is_not_known_is_absent() {
    let mut asked = Asked::of([unix(2), place(1, (LOCAL, 80))]);
    let mut of_unix = followed(2, 0);
    of_unix.cookie = None;
    of_unix.inode = Some(Inode(77));
    of_unix.accepted = at(99);
    asked.bpf = Some(bpf(vec![of_unix, followed(1, 5)]));
    let [of_unix, of_tcp] = &asked.list().connections[..] else {
        panic!("not two")
    };
    let json = serde_json::json!({
        "listener": "7:2", "address": "/run/app.sock", "inode": 77,
        "age_us": 1_000_000, "accepted_age_us": 1_000_000,
    });
    assert_eq!(serde_json::to_value(of_unix).unwrap(), json);
    let json = serde_json::json!({"listener": "7:1", "cookie": "5", "state": "established"});
    assert_eq!(serde_json::to_value(of_tcp).unwrap(), json);
}

#[test]
fn the_oldest_turn_comes_first_then_the_oldest_connection() {
    let mut asked = Asked::of([place(1, (LOCAL, 80))]);
    let connection = |cookie, established, turn| BpfConnection {
        established,
        turn,
        ..followed(1, cookie)
    };
    asked.bpf = Some(bpf(vec![
        connection(1, None, None),
        connection(2, at(20), turn(Phase::Idle, at(1))),
        connection(3, at(10), None),
        connection(4, at(5), turn(Phase::Calling, None)),
        connection(5, at(6), turn(Phase::Reading, at(60))),
        connection(6, at(7), turn(Phase::Waiting, at(50))),
        connection(7, at(4), turn(Phase::Writing, at(60))),
    ]));
    // Known to the kernel only.
    asked.kernel = Some(kernel(vec![socket(9), socket(8)]));
    let order: Vec<u64> = asked.cookies().into_iter().map(|it| it.0).collect();
    assert_eq!(order, [6, 7, 5, 4, 3, 2, 1, 8, 9]);
}

#[test]
fn without_the_programs_a_listener_is_told_where_only_one_can_be_it() {
    let elsewhere = Place {
        key: ListenerKey {
            netns: NetnsId(8),
            inode: Inode(4),
        },
        ..place(4, (LOCAL, 80))
    };
    let v6_any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let wildcard = place(2, (ANY, 80));
    let exact = place(1, (LOCAL, 80));
    for (places, listed) in [
        (vec![exact.clone()], vec![of(5, "7:1")]),
        (vec![wildcard.clone()], vec![of(5, "7:2")]),
        (vec![place(3, (v6_any, 80))], vec![of(5, "7:3")]),
        (vec![exact.clone(), elsewhere.clone()], vec![of(5, "7:1")]),
        (vec![exact.clone(), unix(6)], vec![of(5, "7:1")]),
        (vec![exact.clone(), wildcard.clone()], vec![(5, None)]),
        (vec![exact.clone(), unwanted(wildcard)], vec![(5, None)]),
        (vec![unwanted(exact)], vec![]),
        (vec![place(1, (LOCAL, 81))], vec![]),
        (
            vec![place(1, (Ipv4Addr::new(10, 0, 0, 1).into(), 80))],
            vec![],
        ),
        (vec![elsewhere], vec![]),
    ] {
        let mut asked = Asked::of(places.clone());
        asked.kernel = Some(kernel(vec![socket(5)]));
        assert_eq!(asked.cookies(), listed, "{places:?}");
    }
}

#[test]
fn an_ipv4_client_of_a_dual_stack_listener_is_one() {
    let mut asked = Asked::of([place(1, (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 80))]);
    let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    let mut connection = socket(5);
    connection.local.0 = mapped;
    connection.remote.0 = mapped;
    asked.kernel = Some(kernel(vec![connection]));
    let listed = &asked.list().connections[0];
    assert_eq!(
        (listed.address.as_deref(), listed.peer.as_deref()),
        (Some("127.0.0.1:80"), Some("127.0.0.1:40005"))
    );
}

#[test]
fn of_listeners_that_share_an_address_the_programs_tell_whose_it_is() {
    let mut asked = Asked::of([place(1, (LOCAL, 80)), unwanted(place(2, (LOCAL, 80)))]);
    asked.bpf = Some(bpf(vec![followed(1, 5), followed(2, 7)]));
    // 6 may be the other's, which was not asked for.
    asked.kernel = Some(kernel(vec![socket(5), socket(6)]));
    assert_eq!(asked.cookies(), [of(5, "7:1")]);
    asked.question.places[1].is_wanted = true;
    asked.kernel = Some(kernel(vec![socket(5), socket(6), socket(7)]));
    assert_eq!(asked.cookies(), [of(5, "7:1"), (6, None), of(7, "7:2")]);
}

#[test]
fn an_mptcp_connection_is_listed_once() {
    let mut asked = Asked::of([place(1, (LOCAL, 80))]);
    let mut path = socket(5);
    path.is_path = true;
    asked.kernel = Some(kernel(vec![path]));
    assert_eq!(asked.cookies(), [of(5, "7:1")]);
    asked.bpf = Some(bpf(vec![followed(1, 9)]));
    assert_eq!(asked.cookies(), [of(9, "7:1")]);
}

#[test]
fn a_socket_that_a_dump_lists_twice_is_listed_once() {
    let mut asked = Asked::of([place(1, (LOCAL, 80))]);
    asked.kernel = Some(kernel(vec![socket(5), socket(5)]));
    assert_eq!(asked.list().scanned, 1);
}

#[test]
fn what_is_cut_is_told() {
    let many: Vec<_> = (0..SCANNED as u64 + 1).map(|it| followed(1, it)).collect();
    let all = bpf(many[1..].to_vec());
    let cut = BpfConnections {
        complete: false,
        ..all.clone()
    };
    let partly_dumped = KernelConnections {
        complete: false,
        ..kernel(Vec::new())
    };
    for (bpf, kernel, limit, expected, notes) in [
        (
            Some(all.clone()),
            None,
            SCANNED,
            (false, true, SCANNED),
            &[][..],
        ),
        (Some(all.clone()), None, 10, (true, true, 10), &[]),
        (Some(cut), None, SCANNED, (true, false, SCANNED), &["scan"]),
        (Some(bpf(many)), None, 10, (true, false, 10), &["scan"]),
        (
            Some(all),
            Some(partly_dumped.clone()),
            SCANNED,
            (false, true, SCANNED),
            &["tcp"],
        ),
        (
            None,
            Some(partly_dumped),
            SCANNED,
            (true, false, 0),
            &["scan"],
        ),
    ] {
        let mut asked = Asked::of([place(1, (LOCAL, 80))]);
        asked.question.limit = limit;
        asked.bpf = bpf;
        asked.kernel = kernel;
        let listing = asked.list();
        let shown = listing.connections.len();
        assert_eq!((listing.truncated, listing.scan_complete, shown), expected);
        let what = |note: &Note| note.what.clone();
        assert_eq!(listing.notes.iter().map(what).collect::<Vec<_>>(), notes);
        assert!(listing.scanned <= SCANNED);
    }
}

#[test]
fn one_worker_may_be_asked_for() {
    let mut asked = Asked::of([place(1, (LOCAL, 80))]);
    let of_worker = |cookie, pid| BpfConnection {
        worker: Some((Pid(pid), StartTicks(1))),
        ..followed(1, cookie)
    };
    asked.bpf = Some(bpf(vec![
        of_worker(5, 14),
        of_worker(6, 15),
        followed(1, 7),
    ]));
    asked.question.worker = Some(Pid(14));
    assert_eq!(asked.cookies(), [of(5, "7:1")]);
    let listing = asked.list();
    assert_eq!(
        (listing.scanned, listing.matched, listing.truncated),
        (3, 1, false)
    );
}
