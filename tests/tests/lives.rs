//! Lives that a connection or a listener may have beside the usual one, each beside an
//! application that counts for itself.

use std::{
    ffi::OsStr,
    io::Read as _,
    net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{self as unix, UnixListener, UnixStream},
        },
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening,
    lookup::{connections, listener, listeners},
    netns,
    servers::epoll::Workers,
    skip::{Need, can_run},
    wait::CEILING,
};
use raindrops_user::view::View;
use rustix::{
    net::sockopt::set_socket_linger,
    process::{Pid, Signal, kill_process},
};

/// What a listener's row says of its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    seeded: u64,
    accepts: u64,
    active: u64,
    half_closed: u64,
    closes: u64,
    aborted: u64,
    waits: u64,
    wait_unknown: u64,
}

impl Figures {
    fn of(view: &View, address: &str) -> Option<Self> {
        let groups = connections(listener(view, address).ok()?).ok()?;
        Some(Self {
            seeded: groups.seeded?,
            accepts: groups.accepts?,
            active: groups.active?,
            half_closed: groups.half_closed?,
            closes: groups.closes?,
            aborted: groups.aborted?,
            waits: groups.wait.as_ref()?.count,
            wait_unknown: groups.wait_unknown?,
        })
    }
}

fn shows(daemon: &Daemon, address: &str, expected: Figures) -> Result<View> {
    let what = format!("{expected:?} of {address}");
    daemon.until(&what, |view| Figures::of(view, address) == Some(expected))
}

/// Runs a test in a network namespace of its own.
fn alone(test: impl FnOnce(&Place) -> Result<()> + Send) -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| test(&Place::new()?))
}

fn start(place: &Place) -> Result<Daemon> {
    let daemon = place.start(User::Same, &[])?;
    daemon::expect_bpf(&daemon.view()?)?;
    Ok(daemon)
}

/// A listener on whose port another may listen while connections of the first live.
fn reusable() -> Result<TcpListener> {
    // The std library sets SO_REUSEADDR, which both of them and the connections need.
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind")
}

fn reset(stream: TcpStream) -> Result<()> {
    set_socket_linger(&stream, Some(Duration::ZERO)).context("SO_LINGER")?;
    drop(stream);
    Ok(())
}

/// Check that a connection which its client resets in the queue is aborted and nothing else, also
/// when the application then takes its remains.
#[test]
fn reset_while_queued() -> Result<()> {
    alone(|place| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?.to_string();
        let daemon = start(place)?;
        reset(TcpStream::connect(listening.local_addr()?)?)?;
        let aborted = Figures {
            aborted: 1,
            ..Figures::default()
        };
        shows(&daemon, &address, aborted)?;

        let (mut dead, _) = listening.accept().context("Linux hands it out, dead")?;
        assert!(dead.read(&mut [0]).is_err(), "it was reset");
        drop(dead);
        // Whatever that accept() did to the figures is in them when the next one is.
        let _held = listening::accepted(&listening, 1)?;
        let expected = Figures {
            accepts: 1,
            active: 1,
            waits: 1,
            ..aborted
        };
        shows(&daemon, &address, expected)?;
        Ok(())
    })
}

/// Check that a connection whose client has finished sending is half closed until the server
/// closes it.
#[test]
fn half_closed_by_the_client() -> Result<()> {
    alone(|place| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?.to_string();
        let daemon = start(place)?;
        let ends = listening::accepted(&listening, 1)?;
        let (client, server) = ends.into_iter().next().context("one was asked for")?;
        let open = Figures {
            accepts: 1,
            active: 1,
            waits: 1,
            ..Figures::default()
        };
        shows(&daemon, &address, open)?;
        client.shutdown(Shutdown::Write)?;
        let half_closed = Figures {
            active: 0,
            half_closed: 1,
            ..open
        };
        shows(&daemon, &address, half_closed)?;
        drop(server);
        let closed = Figures {
            half_closed: 0,
            closes: 1,
            ..half_closed
        };
        shows(&daemon, &address, closed)?;
        drop(client);
        Ok(())
    })
}

/// Check that a listener that is closed with connections in its queue takes its row with it, and
/// that what is left of them touches no later listener on the port.
#[test]
fn closed_with_a_queue() -> Result<()> {
    alone(|place| {
        let listening = reusable()?;
        let address = listening.local_addr()?;
        let daemon = start(place)?;
        let taken = listening::accepted(&listening, 1)?;
        let mut queued = (0..3)
            .map(|_| TcpStream::connect(address))
            .collect::<Result<Vec<_>, _>>()?;
        let shown = address.to_string();
        let view = daemon.until("one accepted and three queued", |view| {
            listener(view, &shown).is_ok_and(|row| row.queue.queued == Some(3))
                && Figures::of(view, &shown).is_some_and(|figures| figures.accepts == 1)
        })?;
        let old = listener(&view, &shown)?.id.clone();
        drop(listening);
        for client in &mut queued {
            client.set_read_timeout(Some(CEILING))?;
            assert!(client.read(&mut [0]).is_err(), "the kernel resets them");
        }
        daemon.until("no row", |view| listeners(view, &shown).is_empty())?;

        let listening = TcpListener::bind(address).context("the same port again")?;
        daemon.until("the new row", |view| listener(view, &shown).is_ok())?;
        drop(taken);
        drop(listening::accepted(&listening, 1)?);
        let expected = Figures {
            accepts: 1,
            closes: 1,
            waits: 1,
            ..Figures::default()
        };
        let view = shows(&daemon, &shown, expected)?;
        assert_ne!(listener(&view, &shown)?.id, old);
        Ok(())
    })
}

/// Check that a listener made again on the same port is another one, which begins at 0.
#[test]
fn made_again_on_the_same_port() -> Result<()> {
    alone(|place| {
        let listening = reusable()?;
        let address = listening.local_addr()?;
        let shown = address.to_string();
        let daemon = start(place)?;
        let _held = listening::accepted(&listening, 2)?;
        let two = Figures {
            accepts: 2,
            active: 2,
            waits: 2,
            ..Figures::default()
        };
        let view = shows(&daemon, &shown, two)?;
        let old = listener(&view, &shown)?.id.clone();

        drop(listening);
        let listening = TcpListener::bind(address).context("the same port again")?;
        let is_new = |view: &View| listener(view, &shown).is_ok_and(|row| row.id != old);
        let view = daemon.until("only the new listener", is_new)?;
        assert_eq!(Figures::of(&view, &shown), Some(Figures::default()));
        let _more = listening::accepted(&listening, 1)?;
        let one = Figures {
            accepts: 1,
            active: 1,
            waits: 1,
            ..Figures::default()
        };
        let view = shows(&daemon, &shown, one)?;
        assert!(view.listeners.iter().all(|row| row.id != old));
        Ok(())
    })
}

/// Check that clients of both families count on the one listener that serves both.
#[test]
fn both_families_on_one_listener() -> Result<()> {
    alone(|place| {
        let listening = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        let port = listening.local_addr()?.port();
        let daemon = start(place)?;
        let to = |ip: std::net::IpAddr, count: usize| {
            let connect = || {
                let client = TcpStream::connect((ip, port))?;
                Ok((client, listening.accept()?))
            };
            (0..count).map(|_| connect()).collect::<Result<Vec<_>>>()
        };
        let held = (
            to(Ipv4Addr::LOCALHOST.into(), 3)?,
            to(Ipv6Addr::LOCALHOST.into(), 2)?,
        );
        let open = Figures {
            accepts: 5,
            active: 5,
            waits: 5,
            ..Figures::default()
        };
        let address = format!("[::]:{port}");
        shows(&daemon, &address, open)?;
        drop(held);
        let closed = Figures {
            active: 0,
            closes: 5,
            ..open
        };
        let view = shows(&daemon, &address, closed)?;
        assert_eq!(
            view.listeners
                .iter()
                .filter(|row| row.protocol == "tcp")
                .count(),
            1
        );
        Ok(())
    })
}

/// Check that listeners on one port of two addresses are told apart.
#[test]
fn two_addresses_on_one_port() -> Result<()> {
    alone(|place| {
        let one = listening::tcp(16)?;
        let port = one.local_addr()?.port();
        let other = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port))?;
        let daemon = start(place)?;
        for (listening, count) in [(&one, 2), (&other, 3)] {
            let _held = listening::accepted(listening, count)?;
            let count = count as u64;
            let open = Figures {
                accepts: count,
                active: count,
                waits: count,
                ..Figures::default()
            };
            let address = listening.local_addr()?.to_string();
            shows(&daemon, &address, open)?;
        }
        let view = daemon.until("all closed", |view| {
            [&one, &other].iter().all(|listening| {
                let address = listening.local_addr().map(|it| it.to_string());
                let figures = address.ok().and_then(|it| Figures::of(view, &it));
                figures.is_some_and(|it| it.active == 0 && it.closes == it.accepts)
            })
        })?;
        assert_eq!(view.groups, [], "they share nothing");
        Ok(())
    })
}

/// Check that a connection that was queued when the daemon started is an accept whose wait is
/// unknown.
#[test]
fn queued_before_the_start() -> Result<()> {
    alone(|place| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?;
        let client = TcpStream::connect(address)?;
        let shown = address.to_string();
        let daemon = start(place)?;
        let view = daemon.until("the queue", |view| {
            listener(view, &shown).is_ok_and(|row| row.queue.queued == Some(1))
        })?;
        assert_eq!(Figures::of(&view, &shown), Some(Figures::default()));
        let (server, _) = listening.accept()?;
        let open = Figures {
            accepts: 1,
            active: 1,
            wait_unknown: 1,
            ..Figures::default()
        };
        shows(&daemon, &shown, open)?;
        drop((client, server));
        let closed = Figures {
            active: 0,
            closes: 1,
            ..open
        };
        shows(&daemon, &shown, closed)?;
        Ok(())
    })
}

/// Check that a connection that was half closed when the daemon started is seeded as such.
#[test]
fn half_closed_before_the_start() -> Result<()> {
    alone(|place| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?.to_string();
        let ends = listening::accepted(&listening, 1)?;
        let (client, mut server) = ends.into_iter().next().context("one was asked for")?;
        client.shutdown(Shutdown::Write)?;
        assert_eq!(
            server.read(&mut [0])?,
            0,
            "the server's end is in CLOSE_WAIT"
        );
        let daemon = start(place)?;
        let first = daemon.view()?;
        let seeded = Figures {
            seeded: 1,
            half_closed: 1,
            ..Figures::default()
        };
        assert_eq!(Figures::of(&first, &address), Some(seeded));
        drop(server);
        let closed = Figures {
            half_closed: 0,
            closes: 1,
            ..seeded
        };
        shows(&daemon, &address, closed)?;
        drop(client);
        Ok(())
    })
}

/// Check that a connection is closed when its last descriptor is, once.
#[test]
fn shared_by_two_descriptors() -> Result<()> {
    alone(|place| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?.to_string();
        let daemon = start(place)?;
        let ends = listening::accepted(&listening, 1)?;
        let (client, server) = ends.into_iter().next().context("one was asked for")?;
        let other = server.try_clone()?;
        drop(server);
        // The next connection tells that whatever that close did is in the figures.
        let _held = listening::accepted(&listening, 1)?;
        let open = Figures {
            accepts: 2,
            active: 2,
            waits: 2,
            ..Figures::default()
        };
        shows(&daemon, &address, open)?;
        drop(other);
        let closed = Figures {
            active: 1,
            closes: 1,
            ..open
        };
        shows(&daemon, &address, closed)?;
        drop(client);
        Ok(())
    })
}

/// Check that a socket which stops listening has no row, and that its totals go on when it listens
/// again, because it is the same socket.
#[test]
fn listens_again() -> Result<()> {
    alone(|place| {
        // One that the kernel chose would be given back when the socket stops listening.
        let port = reusable()?.local_addr()?.port();
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listening.local_addr()?.to_string();
        let daemon = start(place)?;
        let _held = listening::accepted(&listening, 1)?;
        let one = Figures {
            accepts: 1,
            active: 1,
            waits: 1,
            ..Figures::default()
        };
        let view = shows(&daemon, &address, one)?;
        let id = listener(&view, &address)?.id.clone();
        rustix::net::shutdown(&listening, rustix::net::Shutdown::Read)?;
        daemon.until("no row", |view| listeners(view, &address).is_empty())?;

        rustix::net::listen(&listening, 16)?;
        let view = daemon.until("the row again", |view| listener(view, &address).is_ok())?;
        assert_eq!(listener(&view, &address)?.id, id);
        let _more = listening::accepted(&listening, 1)?;
        let two = Figures {
            accepts: 2,
            active: 2,
            waits: 2,
            ..Figures::default()
        };
        shows(&daemon, &address, two)?;
        Ok(())
    })
}

/// Check that connections of a worker that is killed are active no longer.
#[test]
fn worker_is_killed() -> Result<()> {
    alone(|place| {
        let listening = listening::tcp(16)?;
        // The row must outlive the workers.
        let _kept = listening.try_clone()?;
        let titles = [OsStr::new("epoll_worker"); 2];
        let program = env!("CARGO_BIN_EXE_epoll_worker");
        let workers = Workers::start(program, listening, &titles)?;
        let address = workers.address.to_string();
        let daemon = start(place)?;
        // A worker waits for the request, so that each takes one.
        let _clients = [(); 2].map(|()| TcpStream::connect(workers.address));
        let open = Figures {
            accepts: 2,
            active: 2,
            waits: 2,
            ..Figures::default()
        };
        shows(&daemon, &address, open)?;
        let counts = workers.counts()?;
        assert_eq!(
            counts.iter().map(|(_, count)| *count).collect::<Vec<_>>(),
            [1, 1]
        );
        for (pid, left) in counts.iter().map(|(pid, _)| *pid).zip([1, 0]) {
            let pid = Pid::from_raw(pid.cast_signed()).context("pid 0")?;
            kill_process(pid, Signal::KILL)?;
            let expected = Figures {
                active: left,
                closes: 2 - left,
                ..open
            };
            shows(&daemon, &address, expected)?;
        }
        Ok(())
    })
}

/// Check that accepts of unix listeners are counted whatever their names.
#[test]
fn names_that_are_no_text() -> Result<()> {
    alone(|place| {
        let path = place.path().join(OsStr::from_bytes(b"\xff\x01.sock"));
        let by_path = unix::SocketAddr::from_pathname(&path)?;
        let by_name = unix::SocketAddr::from_abstract_name(b"raindrops-lives\xfe\0")?;
        let directory = place.path().display();
        let both = [
            (by_path, format!("{directory}/\\xff\\x01.sock"), 3),
            (by_name, "@raindrops-lives\\xfe\\x00".to_owned(), 4),
        ];
        let daemon = start(place)?;
        for (name, shown, count) in &both {
            let listening = UnixListener::bind_addr(name)?;
            let held = (0..*count)
                .map(|_| Ok((UnixStream::connect_addr(name)?, listening.accept()?)))
                .collect::<Result<Vec<_>>>()?;
            let figures = |view: &View| {
                let groups = connections(listener(view, shown).ok()?).ok()?;
                Some((groups.accepts?, groups.active?))
            };
            daemon.until("all accepts", |view| {
                figures(view) == Some((*count, *count))
            })?;
            drop(held);
            daemon.until("all closed", |view| figures(view) == Some((*count, 0)))?;
        }
        Ok(())
    })
}

/// Check that a unix connection whose client leaves while it is queued is still an accept, as it
/// is for the application.
#[test]
fn unix_client_leaves_the_queue() -> Result<()> {
    alone(|place| {
        let path = place.path().join("app.sock");
        let listening = UnixListener::bind(&path)?;
        let shown = path.display().to_string();
        let daemon = start(place)?;
        drop(UnixStream::connect(&path)?);
        let (mut left, _) = listening.accept()?;
        assert_eq!(left.read(&mut [0])?, 0, "the client has left");
        let accepts = |view: &View| {
            let groups = connections(listener(view, &shown).ok()?).ok()?;
            groups.accepts
        };
        daemon.until("the accept", |view| accepts(view) == Some(1))?;
        drop(left);
        let _held = (UnixStream::connect(&path)?, listening.accept()?);
        daemon.until("two accepts, of which one is active", |view| {
            let groups = listener(view, &shown)
                .ok()
                .and_then(|row| row.connections.as_ref());
            groups.is_some_and(|it| (it.accepts, it.active) == (Some(2), Some(1)))
        })?;
        Ok(())
    })
}
