//! Lives in the accept queue, and on the way there.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    kernel,
    life::{Setting, led, led_after},
    listening::{self, client, pair, reset, reusable},
    netlink,
    row::Figures,
    skip,
};
use rustix::{
    fs::fstat,
    net::{AddressFamily, SendFlags, SocketType, sendto, socket},
};

const TCP: i32 = libc::IPPROTO_TCP;

/// Check that a connection which its client resets in the queue is aborted and nothing else, also
/// when the application then takes its remains.
#[test]
fn reset_while_queued() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        reset(client(listening.local_addr()?)?)?;
        let aborted = Figures {
            aborted: 1,
            ..Figures::NONE
        };
        life.shows(&listening, aborted)?;
        let (mut dead, _) = listening.accept().context("Linux hands it out, dead")?;
        assert!(dead.read(&mut [0]).is_err(), "it was reset");
        drop(dead);
        // Whatever that accept() did to the figures is in them when the next one is.
        let held = pair(&listening)?;
        let expected = Figures {
            aborted: 1,
            ..Figures::open(1)
        };
        life.shows(&listening, expected)?;
        drop(held);
        let expected = Figures {
            aborted: 1,
            ..Figures::closed(1)
        };
        life.shows(&listening, expected)?;
        Ok(())
    })
}

/// Check that a connection which an administrator ends in the queue is aborted.
#[test]
fn destroyed_while_queued() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?;
        let client = client(address)?;
        if !netlink::destroy(address, client.local_addr()?)? {
            skip::report("this host cannot: the kernel has no SOCK_DESTROY");
            return Ok(());
        }
        let aborted = Figures {
            aborted: 1,
            ..Figures::NONE
        };
        life.shows(&listening, aborted)?;
        drop(listening.accept()?);
        life.shows(&listening, aborted)?;
        Ok(())
    })
}

/// Check that a client that leaves the queue in good order is accepted half closed.
#[test]
fn client_leaves_the_queue() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        drop(client(listening.local_addr()?)?);
        life.shows(&listening, Figures::NONE)?;
        let (left, _) = listening.accept()?;
        let half_closed = Figures {
            accepts: 1,
            half_closed: 1,
            ..Figures::NONE
        };
        life.shows(&listening, half_closed)?;
        drop(left);
        life.shows(&listening, Figures::closed(1))?;
        Ok(())
    })
}

/// Check that a listener that is closed with connections in its queue takes its row with it, and
/// that what is left of them touches no later listener on the port.
#[test]
fn closed_with_a_queue() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = reusable(SocketAddr::from(([127, 0, 0, 1], 0)), 16)?;
        let address = listening.local_addr()?;
        let old = fstat(&listening)?.st_ino;
        let taken = pair(&listening)?;
        let mut queued = [client(address)?, client(address)?, client(address)?];
        life.shows(&listening, Figures::open(1))?;
        drop(listening);
        for client in &mut queued {
            assert!(client.read(&mut [0]).is_err(), "the kernel resets them");
        }
        life.shows_no(old)?;

        let listening = reusable(address, 16)?;
        let mut other = Figures::NONE;
        // The kernel cannot tell which listener the one before came from.
        other.unseen = 1;
        life.shows(&listening, other)?;
        drop(taken);
        drop(pair(&listening)?);
        life.shows(&listening, Figures::closed(1))?;
        Ok(())
    })
}

/// Check that an overflowing queue shows exactly the drops that the kernel counts, and afterwards
/// only those connections that were taken from it.
#[test]
fn overflows() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(1)?;
        let clients = listening::begin_connections(listening.local_addr()?, 8)?;
        let view = life.shows(&listening, Figures::NONE)?;
        let row = view.listeners.iter().find(|row| row.protocol == "tcp");
        let queue = &row.context("the only one")?.queue;
        assert_eq!((queue.queued, queue.limit), (Some(2), Some(1)));
        assert!(queue.overflows > Some(0), "{queue:?}");
        assert_eq!(queue.overflows_exact, Some(true));
        drop(clients);
        drop((listening.accept()?, listening.accept()?));
        life.shows(&listening, Figures::closed(2))?;
        Ok(())
    })
}

/// Check that connections whose handshake the kernel keeps no state of are counted like others.
#[test]
fn by_syncookies() -> Result<()> {
    let sysctls = &[("ipv4.tcp_syncookies", "2")];
    let setting = Setting {
        sysctls,
        ..Setting::default()
    };
    led(setting, |life| {
        let listening = listening::tcp(16)?;
        let held = listening::accepted(&listening, 3)?;
        assert_eq!(kernel::netstat("TcpExt", "SyncookiesRecv")?, 3);
        life.shows(&listening, Figures::open(3))?;
        reset(client(listening.local_addr()?)?)?;
        drop(held);
        let closed = Figures {
            aborted: 1,
            ..Figures::closed(3)
        };
        life.shows(&listening, closed)?;
        Ok(())
    })
}

/// Check that connections that come with data in their first segment, and are in the queue before
/// they are established, are counted like others.
#[test]
fn by_fast_open() -> Result<()> {
    // Both directions, without cookies.
    let sysctls = &[("ipv4.tcp_fastopen", "519")];
    let setting = Setting {
        sysctls,
        ..Setting::default()
    };
    led(setting, |life| {
        let listening = listening::tcp(16)?;
        kernel::set_option(&listening, TCP, libc::TCP_FASTOPEN, 16)?;
        let connect = || fast_open(&listening);
        let first = connect()?;
        assert_eq!(kernel::netstat("TcpExt", "TCPFastOpenPassive")?, 1);
        let (mut server, _) = listening.accept()?;
        assert_eq!(server.read(&mut [0])?, 1);
        life.shows(&listening, Figures::open(1))?;
        let queued = connect()?;
        life.shows(&listening, Figures::open(1))?;
        reset(queued)?;
        drop((first, server));
        let closed = Figures {
            aborted: 1,
            ..Figures::closed(1)
        };
        life.shows(&listening, closed)?;
        Ok(())
    })
}

fn fast_open(listening: &TcpListener) -> Result<OwnedFd> {
    let client = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.cast_unsigned());
    sendto(&client, b"x", flags, &listening.local_addr()?).context("MSG_FASTOPEN")?;
    Ok(client)
}

/// Check that a client that says nothing to a TCP_DEFER_ACCEPT listener is in none of the figures,
/// and that it is once it speaks.
#[test]
fn deferred_until_the_client_speaks() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        kernel::set_option(&listening, TCP, libc::TCP_DEFER_ACCEPT, 60)?;
        let address = listening.local_addr()?;
        let (silent, mut talking) = (client(address)?, client(address)?);
        life.shows(&listening, Figures::NONE)?;
        talking.write_all(b"x")?;
        let (server, _) = listening.accept()?;
        life.shows(&listening, Figures::open(1))?;
        drop((silent, talking, server));
        life.shows(&listening, Figures::closed(1))?;
        Ok(())
    })
}

/// Check that a connection that was queued when the daemon started is an accept whose wait and
/// lifetime are unknown.
#[test]
fn queued_before_the_start() -> Result<()> {
    let before = || {
        let listening = listening::tcp(16)?;
        let clients = [
            client(listening.local_addr()?)?,
            client(listening.local_addr()?)?,
        ];
        Ok((listening, clients))
    };
    led_after(Setting::default(), before, |life, (listening, clients)| {
        life.shows(&listening, Figures::NONE)?;
        let [first, second] = clients;
        let (server, _) = listening.accept()?;
        let open = Figures {
            wait_unknown: 1,
            ..Figures::open(1)
        };
        life.shows(&listening, open)?;
        drop((first, server));
        reset(second)?;
        let closed = Figures {
            wait_unknown: 1,
            lifetime_unknown: 1,
            aborted: 1,
            ..Figures::closed(1)
        };
        life.shows(&listening, closed)?;
        Ok(())
    })
}
