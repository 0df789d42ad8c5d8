//! Queues that overflow, and drops that are none.

use std::{
    io::{self, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{PROC, eventually, found, tcp_listener};
use crate::{
    queue::{Ledger, Protocol, Scope},
    source::diag::{Diag, netstat, proc_net},
};

#[test]
fn overflows_raise_drops_and_the_counter_of_the_namespace() {
    let proc = Path::new(PROC);
    let (listener, address) = tcp_listener(1);
    let mut diag = Diag::open().unwrap();
    let before = netstat::listen_counters(proc).unwrap().overflows.unwrap();
    let clients: Vec<_> = (0..2)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let refused = TcpStream::connect_timeout(&address, Duration::from_millis(50));
    assert_eq!(
        refused.map_err(|error| error.kind()).err(),
        Some(io::ErrorKind::TimedOut)
    );
    let (_, socket) = found(&diag.tcp_listeners().unwrap(), &listener);
    let after = netstat::listen_counters(proc).unwrap().overflows.unwrap();
    // Full is one more than the limit.
    assert_eq!((socket.queued, socket.limit), (Some(2), Some(1)));
    let drops = socket.drops.unwrap();
    assert!(drops >= 1);
    assert!(after - before >= drops.into());
    // The last column of the table is not sk_drops.
    let (_, fallback) = found(
        &proc_net::tcp_listeners(proc, diag.netns()).unwrap(),
        &listener,
    );
    assert_eq!((fallback.queued, fallback.drops), (Some(2), None));
    drop(clients);
}

/// TCP_DEFER_ACCEPT makes the kernel drop the final ACK of every handshake.
#[test]
fn the_ledger_tells_overflows_from_healthy_drops() {
    let (healthy, healthy_address) = tcp_listener(64);
    set_defer_accept(&healthy);
    let (full, full_address) = tcp_listener(1);
    let mut diag = Diag::open().unwrap();
    let mut ledger = Ledger::default();
    let scope = Scope {
        netns: diag.netns(),
        protocol: Protocol::Tcp,
    };
    let mut sample = |ledger: &mut Ledger| {
        let sample = diag.tcp_listeners().unwrap();
        let counters = netstat::listen_counters(Path::new(PROC)).unwrap();
        ledger.fold(scope, &sample, SystemTime::now(), counters.overflows);
        sample
    };
    let first = sample(&mut ledger);
    let (healthy_key, _) = found(&first, &healthy);
    let (full_key, _) = found(&first, &full);

    let mut ends = Vec::new();
    for _ in 0..20 {
        let mut client = TcpStream::connect(healthy_address).unwrap();
        client.write_all(b"?").unwrap();
        ends.push((client, healthy.accept().unwrap()));
    }
    sample(&mut ledger);
    let history = ledger.get(&healthy_key).unwrap();
    assert!(history.drops_total >= Some(20), "{history:?}");
    assert_eq!(
        (history.overflows, history.defer_accept),
        (Some(0), Some(true))
    );

    let clients: Vec<_> = (0..2)
        .map(|_| TcpStream::connect(full_address).unwrap())
        .collect();
    eventually(|| {
        let queued = found(&sample(&mut ledger), &full).1.queued;
        (queued == Some(2)).then_some(())
    });
    assert!(TcpStream::connect_timeout(&full_address, Duration::from_millis(50)).is_err());
    sample(&mut ledger);
    let history = ledger.get(&full_key).unwrap();
    assert!(history.overflows >= Some(1), "{history:?}");
    assert_eq!(history.overflows, history.drops_total);
    assert_eq!(history.peak, Some(2));
    assert_eq!(ledger.get(&healthy_key).unwrap().overflows, Some(0));
    drop((clients, ends));
}

fn set_defer_accept(listener: &TcpListener) {
    let seconds: libc::c_int = 5;
    // SAFETY: the descriptor is open, and the value outlives the call with the size that is given.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0);
}
