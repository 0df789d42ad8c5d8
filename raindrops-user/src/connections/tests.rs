//! Against the kernel that runs the tests: loopback only, no privilege.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use super::{Unlisted, read};
use crate::{
    ids::{Inode, NetnsId, Pid},
    plan::Off,
    snapshot::{ListenerKey, connections::BpfConnections},
    source::diag,
    view::connections::{Listing, Place, Question, State},
};

const CEILING: Duration = Duration::from_secs(10);

fn inode(socket: impl AsFd) -> u64 {
    rustix::fs::fstat(socket).unwrap().st_ino
}

fn place(listener: &TcpListener) -> Place {
    let address: SocketAddr = listener.local_addr().unwrap();
    let key = ListenerKey {
        netns: diag::current_netns().unwrap(),
        inode: Inode(inode(listener)),
    };
    Place {
        key,
        id: format!("{}:{}", key.netns, key.inode),
        address: address.to_string(),
        tcp: Some((address.ip(), address.port())),
        is_wanted: true,
    }
}

fn question(places: Vec<Place>) -> Question {
    Question {
        places,
        worker: None,
        allowed: None,
        limit: 100,
    }
}

fn off(_: Vec<ListenerKey>, _: Duration) -> Result<BpfConnections, Off> {
    Err(Off {
        reason: "not here".to_owned(),
        grant: Some("root".to_owned()),
    })
}

fn ask(question: &Question) -> Result<Listing, Unlisted> {
    read(question, off, Instant::now() + CEILING)
}

fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// What one end sends arrives on loopback a moment later.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + CEILING;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "did not happen in 10 s");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn accepted_connections_are_listed_with_what_they_moved() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (mut client, mut server) = pair(&listener);
    let _elsewhere = pair(&other);
    let _queued = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(&[1; 1000]).unwrap();
    server.read_exact(&mut [0; 300]).unwrap();
    server.write_all(&[2; 70]).unwrap();
    client.read_exact(&mut [0; 70]).unwrap();
    let question = question(vec![place(&listener)]);
    let listing = eventually(|| {
        let listing = ask(&question).unwrap();
        let tcp = listing.connections.first()?.tcp.clone()?;
        (tcp.bytes_acked == Some(70) && tcp.bytes_received == Some(1000)).then_some(listing)
    });
    let [connection] = &listing.connections[..] else {
        panic!("{listing:?}")
    };
    let tcp = connection.tcp.clone().unwrap();
    assert_eq!((tcp.unread_bytes, tcp.unacked_bytes), (700, 0));
    assert!(tcp.rtt_us.is_some_and(|rtt| rtt > 0), "{tcp:?}");
    let peer = client.local_addr().unwrap().to_string();
    assert_eq!(connection.peer.as_ref(), Some(&peer));
    assert_eq!(connection.inode, Some(inode(&server)));
    assert_eq!(connection.state, Some(State::Established));
    assert_eq!(connection.listener.as_ref(), Some(&question.places[0].id));
    assert_eq!((connection.worker, connection.phase), (None, None));
    assert_eq!((listing.scanned, listing.truncated), (1, false));
    let what: Vec<&str> = listing.notes.iter().map(|it| it.what.as_str()).collect();
    assert_eq!(what, ["turns"]);

    drop(client);
    let closed = eventually(|| {
        let connection = ask(&question).unwrap().connections.pop()?;
        (connection.state == Some(State::CloseWait)).then_some(connection)
    });
    let tcp = closed.tcp.unwrap();
    // The FIN is no byte of the client's.
    assert_eq!((tcp.bytes_received, tcp.unread_bytes), (Some(1000), 700));
}

#[test]
fn a_limit_is_told() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let _pairs: Vec<_> = (0..5).map(|_| pair(&listener)).collect();
    let mut question = question(vec![place(&listener)]);
    question.limit = 3;
    let listing = ask(&question).unwrap();
    assert_eq!(
        (listing.connections.len(), listing.matched, listing.scanned),
        (3, 5, 5)
    );
    assert!(listing.truncated && listing.scan_complete);
}

#[test]
fn nothing_readable_is_no_empty_list() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let here = place(&listener);
    let mut elsewhere = here.clone();
    elsewhere.key.netns = NetnsId(1);
    let unix = Place {
        tcp: None,
        address: "/run/app.sock".to_owned(),
        ..here.clone()
    };
    for (place, error) in [
        (
            elsewhere,
            "connections cannot be listed: tcp_info is not read in other network namespaces than \
             the daemon's; worker, age and phase are not known: not here",
        ),
        (
            unix,
            "connections cannot be listed: worker, age and phase are not known: not here; \
             connections of unix listeners are not listed without BPF",
        ),
    ] {
        let why = ask(&question(vec![place])).unwrap_err();
        assert_eq!((why.error.as_str(), why.hint.as_str()), (error, "root"));
    }
    let mut of_worker = question(vec![here]);
    of_worker.worker = Some(Pid(1));
    let why = ask(&of_worker).unwrap_err();
    assert_eq!(why.error, "no connection's worker is known: not here");
    assert!(ask(&question(Vec::new())).unwrap().connections.is_empty());
}
