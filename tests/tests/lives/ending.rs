//! How an accepted connection ends.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

use anyhow::Result;
use raindrops_tests::{
    kernel::{self, state},
    life::{Setting, led, led_after},
    listening::{self, pair, reset},
    netlink, netns,
    row::Figures,
    skip, wait,
};
use rustix::net::connect_unspec;

const HALF_CLOSED: Figures = Figures {
    accepts: 1,
    half_closed: 1,
    ..Figures::NONE
};

/// Check that every way to end a connection at once ends it once.
#[test]
fn at_once() -> Result<()> {
    type Way = fn(TcpStream, TcpStream) -> Result<()>;
    let ways: [(&str, Way); 5] = [
        ("both close", |client, server| {
            drop((client, server));
            Ok(())
        }),
        ("the client resets", |client, server| {
            reset(client)?;
            drop(server);
            Ok(())
        }),
        ("the server resets", |client, server| {
            reset(server)?;
            drop(client);
            Ok(())
        }),
        (
            "the server closes with unread data",
            |mut client, server| {
                client.write_all(b"unread")?;
                server.peek(&mut [0])?;
                drop((server, client));
                Ok(())
            },
        ),
        ("connect(AF_UNSPEC)", |client, server| {
            connect_unspec(&server)?;
            // The socket lives on, and is no connection of the listener's any more.
            drop(client);
            drop(server);
            Ok(())
        }),
    ];
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        for (done, (way, end)) in ways.into_iter().enumerate() {
            let closed = Figures::closed(done as u64);
            let (client, server) = pair(&listening)?;
            let open = Figures {
                accepts: closed.accepts + 1,
                active: 1,
                ..closed
            };
            life.shows(&listening, open)?;
            end(client, server).map_err(|error| error.context(way))?;
            let closed = Figures::closed(done as u64 + 1);
            let shown = life.shows(&listening, closed);
            shown.map_err(|error| error.context(way))?;
        }
        Ok(())
    })
}

/// Check that a server's socket that disconnects is a closed connection while the process still
/// has the socket, and that its life as a client is not the listener's.
#[test]
fn disconnected_and_used_again() -> Result<()> {
    led(Setting::default(), |life| {
        let (listening, other) = (listening::tcp(16)?, listening::tcp(16)?);
        let (client, server) = pair(&listening)?;
        life.shows(&listening, Figures::open(1))?;
        connect_unspec(&server)?;
        life.shows(&listening, Figures::closed(1))?;
        rustix::net::connect(&server, &other.local_addr()?)?;
        let (taken, _) = other.accept()?;
        life.shows(&other, Figures::open(1))?;
        drop(server);
        let half_closed = HALF_CLOSED;
        life.shows(&other, half_closed)?;
        drop((client, taken));
        life.shows(&other, Figures::closed(1))?;
        life.shows(&listening, Figures::closed(1))?;
        Ok(())
    })
}

/// Check that a connection whose client has finished sending is half closed until the server
/// closes it.
#[test]
fn half_closed_by_the_client() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        let (client, server) = pair(&listening)?;
        life.shows(&listening, Figures::open(1))?;
        client.shutdown(Shutdown::Write)?;
        life.shows(&listening, HALF_CLOSED)?;
        drop(server);
        life.shows(&listening, Figures::closed(1))?;
        drop(client);
        Ok(())
    })
}

/// Check that a connection whose server has finished sending is closed, also while the server
/// still reads from it.
#[test]
fn half_closed_by_the_server() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        let (mut client, mut server) = pair(&listening)?;
        life.shows(&listening, Figures::open(1))?;
        server.shutdown(Shutdown::Write)?;
        life.shows(&listening, Figures::closed(1))?;
        client.write_all(b"x")?;
        assert_eq!(server.read(&mut [0])?, 1, "it still comes");
        drop(client);
        assert_eq!(server.read(&mut [0])?, 0);
        drop(server);
        life.shows(&listening, Figures::closed(1))?;
        Ok(())
    })
}

/// Check that a connection whose client does not close is over when the server has closed: its
/// socket may stay in FIN_WAIT2, with nobody to have it, or make way for a smaller one.
#[test]
fn closed_by_the_server_alone() -> Result<()> {
    for timeout in ["1", "90"] {
        let sysctls = &[("ipv4.tcp_fin_timeout", timeout)];
        let setting = Setting {
            sysctls,
            ..Setting::default()
        };
        led(setting, |life| {
            let listening = listening::tcp(16)?;
            let (client, server) = pair(&listening)?;
            life.shows(&listening, Figures::open(1))?;
            drop(server);
            let address = listening.local_addr()?;
            wait::until("FIN_WAIT2", || {
                Ok((kernel::any_in(address, state::FIN_WAIT2)? == 1).then_some(()))
            })?;
            life.shows(&listening, Figures::closed(1))?;
            drop(client);
            Ok(())
        })?;
    }
    Ok(())
}

/// Check that a connection that the server closes while the link is down is closed although its
/// socket cannot say so to the client, and that nothing is left when the link is back.
#[test]
fn closed_while_the_link_is_down() -> Result<()> {
    let sysctls = &[
        ("ipv4.tcp_fin_timeout", "1"),
        ("ipv4.tcp_orphan_retries", "1"),
    ];
    let setting = Setting {
        sysctls,
        ..Setting::default()
    };
    led(setting, |life| {
        let listening = listening::tcp(16)?;
        let (client, server) = pair(&listening)?;
        life.shows(&listening, Figures::open(1))?;
        netns::loopback(false)?;
        drop(server);
        let left = kernel::any_in(listening.local_addr()?, state::FIN_WAIT1)?;
        assert_eq!(left, 1, "it cannot get further");
        life.shows(&listening, Figures::closed(1))?;
        netns::loopback(true)?;
        drop(client);
        drop(pair(&listening)?);
        life.shows(&listening, Figures::closed(2))?;
        Ok(())
    })
}

/// Check that a connection which an administrator ends is closed.
#[test]
fn destroyed() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        let (open, half_closed) = (pair(&listening)?, pair(&listening)?);
        half_closed.0.shutdown(Shutdown::Write)?;
        let both = Figures {
            accepts: 2,
            active: 1,
            half_closed: 1,
            ..Figures::NONE
        };
        life.shows(&listening, both)?;
        for (client, _) in [&open, &half_closed] {
            if !netlink::destroy(listening.local_addr()?, client.local_addr()?)? {
                skip::report("this host cannot: the kernel has no SOCK_DESTROY");
                return Ok(());
            }
        }
        life.shows(&listening, Figures::closed(2))?;
        drop((open, half_closed));
        life.shows(&listening, Figures::closed(2))?;
        Ok(())
    })
}

/// Check that a connection is closed when its last descriptor is, once.
#[test]
fn shared_by_two_descriptors() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        let (client, server) = pair(&listening)?;
        let other = server.try_clone()?;
        drop(server);
        life.shows(&listening, Figures::open(1))?;
        drop(other);
        life.shows(&listening, Figures::closed(1))?;
        drop(client);
        Ok(())
    })
}

/// Check that connections that were open or half closed when the daemon started are seeded as
/// such, and that all of them end.
#[test]
fn begun_before_the_start() -> Result<()> {
    let before = || {
        let listening = listening::tcp(16)?;
        let (open, mut half_closed) = (pair(&listening)?, pair(&listening)?);
        half_closed.0.shutdown(Shutdown::Write)?;
        assert_eq!(half_closed.1.read(&mut [0])?, 0, "it is in CLOSE_WAIT");
        Ok((listening, open, half_closed))
    };
    led_after(
        Setting::default(),
        before,
        |life, (listening, open, half_closed)| {
            let seeded = Figures {
                seeded: 2,
                active: 1,
                half_closed: 1,
                ..Figures::NONE
            };
            life.shows(&listening, seeded)?;
            drop(half_closed);
            let one = Figures {
                seeded: 2,
                active: 1,
                closes: 1,
                lifetime_unknown: 1,
                ..Figures::NONE
            };
            life.shows(&listening, one)?;
            drop(open);
            let none = Figures {
                seeded: 2,
                closes: 2,
                lifetime_unknown: 2,
                ..Figures::NONE
            };
            life.shows(&listening, none)?;
            Ok(())
        },
    )
}
