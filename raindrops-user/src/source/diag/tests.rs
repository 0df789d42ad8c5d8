//! Against the kernel that runs the tests: loopback only, no privilege.

mod overflows;

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{self as unix_net, UnixListener, UnixStream},
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use netlink_packet_sock_diag::{
    AF_AX25, AF_INET, IPPROTO_TCP, SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};

use super::{Diag, DiagError, DiagModule, Question, TcpState, netstat, proc_net};
use crate::{
    address::{Address, UnixName},
    snapshot::{ListenSocket, ListenerKey, QueueSnapshot},
};

const PROC: &str = "/proc";

/// The std library sets its own backlog; another `listen()` replaces it.
fn set_backlog(listener: impl std::os::fd::AsFd, backlog: i32) {
    rustix::net::listen(listener, backlog).unwrap();
}

fn inode(socket: impl std::os::fd::AsFd) -> u64 {
    rustix::fs::fstat(socket).unwrap().st_ino
}

fn tcp_listener(backlog: i32) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    set_backlog(&listener, backlog);
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn found(sample: &QueueSnapshot, socket: impl std::os::fd::AsFd) -> (ListenerKey, ListenSocket) {
    let inode = inode(socket);
    let (key, socket) = sample
        .listeners
        .iter()
        .find(|(key, _)| key.inode.0 == inode)
        .expect("the listener is in the sample");
    (*key, socket.clone())
}

/// Handshakes on loopback end in softirq, a moment after `connect()`.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "did not happen in 10 s");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Said as the end-to-end tests say it, because libtest would report it as passed.
fn skipped(reason: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("?");
    let line = format!("SKIPPED {test}: {reason}\n");
    // Unlike `print!`, this is not captured by libtest.
    let _ = io::stdout().write_all(line.as_bytes());
    if let Some(list) = env::var_os("RAINDROPS_SKIPPED_TESTS")
        && let Ok(mut list) = OpenOptions::new().append(true).open(list)
    {
        let _ = list.write_all(line.as_bytes());
    }
}

#[test]
fn sees_the_queue_of_a_tcp_listener() {
    let mut diag = Diag::open().unwrap();
    let (listener, address) = tcp_listener(3);
    let clients: Vec<_> = (0..3)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let (key, socket) = eventually(|| {
        let sample = diag.tcp_listeners().unwrap();
        assert!(!sample.interrupted);
        let (key, socket) = found(&sample, &listener);
        (socket.queued == Some(3)).then_some((key, socket))
    });
    assert_eq!(key.netns, diag.netns());
    let expected = Address::Tcp {
        ip: address.ip(),
        port: address.port(),
    };
    assert_eq!(socket.address, expected);
    assert_eq!((socket.limit, socket.drops), (Some(3), Some(0)));
    assert!(socket.cookie.is_some_and(|cookie| cookie.0 != 0));

    let accepted = listener.accept().unwrap();
    let (_, after) = found(&diag.tcp_listeners().unwrap(), &listener);
    assert_eq!(after.queued, Some(2));
    assert_eq!(after.cookie, socket.cookie);
    drop((clients, accepted));
}

#[test]
fn tells_accepted_connections_from_queued_ones() {
    let mut diag = Diag::open().unwrap();
    let (listener, address) = tcp_listener(8);
    let clients: Vec<_> = (0..3)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let (accepted, _) = listener.accept().unwrap();
    let netns = diag.netns();
    let mut ends = eventually(|| {
        let mut ends = Vec::new();
        let completeness = diag
            .tcp_connections(|connection| {
                if connection.local == (address.ip(), address.port()) {
                    ends.push(connection);
                }
            })
            .unwrap();
        assert!(completeness.is_complete());
        (ends.len() == 3).then_some(ends)
    });
    ends.sort_by_key(|end| end.inode);
    let inodes: Vec<_> = ends
        .iter()
        .map(|end| end.inode.map(|inode| inode.0))
        .collect();
    assert_eq!(inodes, [None, None, Some(inode(&accepted))]);
    for end in &ends {
        assert_eq!((end.state, end.netns), (TcpState::Established, netns));
        assert_ne!(end.cookie.0, 0);
    }
    drop(clients);
}

#[test]
fn an_ipv4_client_of_a_dual_stack_listener_has_a_mapped_address() {
    let listener = match TcpListener::bind("[::]:0") {
        Ok(listener) => listener,
        Err(error) => return skipped(&format!("this host cannot: listen on [::]: {error}")),
    };
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let accepted = listener.accept().unwrap();
    let mut diag = Diag::open().unwrap();
    let (_, socket) = found(&diag.tcp_listeners().unwrap(), &listener);
    assert_eq!(socket.address.to_string(), format!("[::]:{port}"));
    let mut locals = Vec::new();
    diag.tcp_connections(|connection| {
        if connection
            .inode
            .is_some_and(|own| own.0 == inode(&accepted.0))
        {
            locals.push(connection.local);
        }
    })
    .unwrap();
    let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    assert_eq!(locals, [(mapped, port)]);
    drop(client);
}

#[test]
fn sees_the_queue_and_the_accepted_sockets_of_unix_listeners() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a b.sock");
    let by_path = UnixListener::bind(&path).unwrap();
    let name = format!("raindrops-test-{}\0", std::process::id());
    let name = [name.as_bytes(), b"\xff\xfe"].concat();
    let address = unix_net::SocketAddr::from_abstract_name(&name).unwrap();
    let by_name = UnixListener::bind_addr(&address).unwrap();
    set_backlog(&by_path, 3);
    set_backlog(&by_name, 5);
    let mut clients: Vec<_> = (0..4)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    clients.extend((0..3).map(|_| UnixStream::connect_addr(&address).unwrap()));
    let accepted = [
        by_path.accept().unwrap(),
        by_name.accept().unwrap(),
        by_name.accept().unwrap(),
    ];

    let mut diag = Diag::open().unwrap();
    let (queues, active) = diag.unix_sockets().unwrap();
    assert!(!queues.interrupted);
    let (path_key, socket) = found(&queues, &by_path);
    let expected = UnixName::Path(path.as_os_str().as_encoded_bytes().to_vec());
    assert_eq!(socket.address, Address::Unix(expected));
    assert_eq!(
        (socket.queued, socket.limit, socket.drops),
        (Some(3), Some(3), None)
    );
    let inode = path
        .metadata()
        .map(|path| std::os::unix::fs::MetadataExt::ino(&path))
        .unwrap();
    assert_eq!(
        socket.bound_path.map(|(_, inode)| inode),
        Some(inode as u32)
    );
    let (name_key, socket) = found(&queues, &by_name);
    assert_eq!(socket.address, Address::Unix(UnixName::Abstract(name)));
    assert_eq!((socket.queued, socket.limit), (Some(1), Some(5)));
    assert_eq!(socket.bound_path, None);
    let count = |all: &crate::snapshot::UnixActiveSnapshot, key| all.active[&key].len();
    assert_eq!((count(&active, path_key), count(&active, name_key)), (1, 2));

    let (fallback, fallback_active) =
        proc_net::unix_sockets(Path::new(PROC), diag.netns()).unwrap();
    assert_eq!(fallback.listeners[&path_key].queued, Some(3));
    assert_eq!(fallback.listeners[&name_key].queued, Some(1));
    assert_eq!(fallback_active.active[&path_key], active.active[&path_key]);
    assert_eq!(count(&fallback_active, name_key), 2);
    drop((clients, accepted));
}

#[test]
fn a_replaced_path_is_another_listener() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let old = UnixListener::bind(&path).unwrap();
    let old_client = UnixStream::connect(&path).unwrap();
    let old_end = old.accept().unwrap();
    std::fs::remove_file(&path).unwrap();
    let new = UnixListener::bind(&path).unwrap();
    let (queues, active) = Diag::open().unwrap().unix_sockets().unwrap();
    let (old_key, old_socket) = found(&queues, &old);
    let (new_key, new_socket) = found(&queues, &new);
    assert_eq!(old_socket.address, new_socket.address);
    assert_ne!(old_socket.bound_path, new_socket.bound_path);
    assert_eq!(
        (active.active[&old_key].len(), active.active[&new_key].len()),
        (1, 0)
    );
    drop((old_client, old_end));
}

#[test]
fn the_fallback_lies_between_two_dumps() {
    let (listener, address) = tcp_listener(8);
    let client = TcpStream::connect(address).unwrap();
    let mut diag = Diag::open().unwrap();
    let queued = |sample: &QueueSnapshot| found(sample, &listener).1.queued;
    eventually(|| (queued(&diag.tcp_listeners().unwrap()) == Some(1)).then_some(()));
    let before = queued(&diag.tcp_listeners().unwrap());
    let fallback = proc_net::tcp_listeners(Path::new(PROC), diag.netns()).unwrap();
    let after = queued(&diag.tcp_listeners().unwrap());
    assert!(before <= queued(&fallback) && queued(&fallback) <= after);
    assert_eq!(found(&fallback, &listener).1.limit, None);
    drop(client);
}

#[test]
fn lists_more_than_fits_in_a_datagram() {
    let listeners: Vec<_> = (0..300)
        .map_while(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok())
        .collect();
    let sample = Diag::open().unwrap().tcp_listeners().unwrap();
    for listener in &listeners {
        found(&sample, listener);
    }
}

#[test]
fn works_again_after_a_dump_that_failed() {
    let mut diag = Diag::open().unwrap();
    diag.buffer = vec![0; 16].into_boxed_slice();
    let (listener, _) = tcp_listener(8);
    let error = diag.tcp_listeners().unwrap_err();
    assert!(matches!(error, DiagError::Truncated { .. }), "{error}");
    diag.buffer = vec![0; super::BUFFER].into_boxed_slice();
    found(&diag.tcp_listeners().unwrap(), &listener);
}

/// The kernel answers as it does where a module is missing: sock_diag knows no handler for the family,
/// or inet_diag none for the protocol.
#[test]
fn tells_missing_modules_apart() {
    let mut diag = Diag::open().unwrap();
    let request = |family, protocol| {
        SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::LISTEN,
            socket_id: SocketId::new_v4(),
        })
    };
    // "Any private encryption scheme" has no sockets.
    let table = [
        (request(AF_AX25, IPPROTO_TCP), DiagModule::Inet),
        (request(AF_INET, 99), DiagModule::Tcp),
    ];
    for (request, module) in table {
        let error = diag
            .dump("test", Question::OfFamily(request), |_| Ok(()))
            .unwrap_err();
        assert_eq!(error.missing_module(), Some(module), "{error}");
    }
    assert!(diag.tcp_listeners().is_ok());
}

#[test]
fn reads_the_limit_of_backlogs() {
    assert!(netstat::somaxconn(Path::new(PROC)).unwrap() > 0);
}

#[test]
fn says_which_module_to_load() {
    let error = DiagError::ModuleMissing {
        subject: "unix sockets",
        module: DiagModule::Unix,
    };
    assert_eq!(
        error.to_string(),
        "list unix sockets: the kernel module unix_diag is not loaded; run `modprobe unix_diag`"
    );
    assert_eq!(error.missing_module(), Some(DiagModule::Unix));
}

/// Check that one dump of both families lists what a dump of each lists.
#[test]
fn one_dump_lists_both_families() {
    let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
    let v6 = TcpListener::bind("[::1]:0").unwrap();
    let inodes = [inode(&v4), inode(&v6)];
    let listed = |lists_all_at_once| {
        let mut diag = Diag {
            lists_all_at_once,
            ..Diag::open().unwrap()
        };
        let listeners = diag.tcp_listeners().unwrap().listeners;
        assert_eq!(diag.lists_all_at_once, lists_all_at_once);
        let ours = |(key, _): &(ListenerKey, ListenSocket)| inodes.contains(&key.inode.0);
        listeners.into_iter().filter(ours).collect::<Vec<_>>()
    };
    let at_once = listed(true);
    assert_eq!(at_once.len(), 2);
    assert_eq!(at_once, listed(false));
}
