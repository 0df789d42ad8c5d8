//! Events that the programs missed: found by comparing their table with the sockets, and by counting
//! the kernel's connections. They are made to miss some by taking entries out of their table behind
//! their back, for good or for a while.

use std::{
    io::Read as _,
    net::{Shutdown, TcpListener},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    io_uring::Ring,
    listening,
    lookup::{connections, listener},
    maps::{self, Map},
    netns,
    skip::{self, Need, can_run},
    wait,
};
use raindrops_user::view::{Connections, View};

const HELD: usize = 5;

/// How long connections come and go.
const CHURN: Duration = Duration::from_secs(15);
/// Pause between two of them.
const CHURN_PAUSE: Duration = Duration::from_millis(5);

/// Check that an end that was missed is counted later, once, and that nothing is left of it.
#[test]
fn ends_found_later() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    watched(|daemon, listening, address| {
        let mut held = listening::accepted(listening, HELD)?;
        // Of two, a half-close has been counted before.
        for (client, server) in &mut held[..2] {
            client.shutdown(Shutdown::Write)?;
            assert_eq!(server.read(&mut [0])?, 0);
        }
        daemon.until("the connections", |view| {
            let it = figures(view, address).ok();
            it.is_some_and(|it| (it.active, it.half_closed) == (Some(3), Some(2)))
        })?;
        unseen(daemon, || {
            drop(held);
            Ok(())
        })?;
        daemon.until("the ends", |view| {
            counts(view, address).ok() == Some([5, 0, 0, 0, 5])
        })?;
        is_empty(daemon)?;
        let view = daemon.view()?;
        assert_eq!(counts(&view, address)?, [5, 0, 0, 0, 5]);
        assert!(figures(&view, address)?.complete);
        Ok(())
    })
}

/// Check that a half-close that was missed is counted later, once.
#[test]
fn half_closes_found_later() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    watched(|daemon, listening, address| {
        let mut held = listening::accepted(listening, HELD)?;
        daemon.until("the connections", |view| active(view, address) == Some(5))?;
        unseen(daemon, || {
            for (client, server) in &mut held {
                client.shutdown(Shutdown::Write)?;
                assert_eq!(server.read(&mut [0])?, 0);
            }
            Ok(())
        })?;
        let view = daemon.until("the half-closes", |view| active(view, address) == Some(0))?;
        assert_eq!(counts(&view, address)?, [5, 0, 0, 5, 0]);
        let found = &daemon::source(&view, "bpf")?.detail["found_later"];
        let expected = "5 events that the programs did not see, found later: 5 half-closes";
        assert_eq!(found, expected);
        drop(held);
        daemon.until("the ends", |view| {
            counts(view, address).ok() == Some([5, 0, 0, 0, 5])
        })?;
        is_empty(daemon)
    })
}

/// Check that an accept that was missed is counted while the connection is open, by a table that was
/// complete before, and that it is not counted again at the end.
#[test]
fn accepts_found_later() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    watched(|daemon, listening, address| {
        let clients = listening::begin_connections(listening.local_addr()?, HELD)?;
        wait::until("the connections to wait", || {
            let row = listener(&daemon.view()?, address)?.queue.queued;
            Ok((row == Some(5)).then_some(()))
        })?;
        let mut accepted = Vec::new();
        unseen(daemon, || {
            for _ in 0..HELD {
                accepted.push(listening.accept()?);
            }
            Ok(())
        })?;
        let view = daemon.until("the accepts", |view| active(view, address) == Some(5))?;
        assert_eq!(counts(&view, address)?, [5, 5, 5, 0, 0]);
        drop((clients, accepted));
        daemon.until("the ends", |view| {
            counts(view, address).ok() == Some([5, 5, 0, 0, 5])
        })?;
        is_empty(daemon)
    })
}

/// Check that a connection that was accepted by io_uring is active before it ends, counts once, and
/// that no connection that still waits in the queue is taken for accepted.
#[test]
fn accepts_by_io_uring_found_later() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    watched(|daemon, listening, address| {
        let Some(ring) = Ring::new()? else {
            skip::report("this host cannot: no io_uring");
            return Ok(());
        };
        let clients = listening::begin_connections(listening.local_addr()?, 2)?;
        let held = ring.accept(listening)?;
        let view = daemon.until("the accept", |view| active(view, address) == Some(1))?;
        // By fexit it is seen at once.
        let late = u64::from(accept_hook(&view)? != "fexit");
        assert_eq!(counts(&view, address)?, [1, late, 1, 0, 0]);
        drop(held);
        daemon.until("its end", |view| {
            counts(view, address).ok() == Some([1, late, 0, 0, 1])
        })?;
        drop((listening.accept()?, clients));
        daemon.until("the end of the one that waited", |view| {
            counts(view, address).ok() == Some([2, late, 0, 0, 2])
        })?;
        is_empty(daemon)
    })
}

/// Check that nothing is made up for that was not missed, while connections come and go in every way
/// and others stay: the totals are those that the clients know.
#[test]
fn nothing_found_where_nothing_was_missed() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    watched(|daemon, listening, address| {
        let held = listening::accepted(listening, HELD)?;
        let waiting = listening::begin_connections(listening.local_addr()?, 1)?;
        let (taken, _) = listening.accept()?;
        let until = Instant::now() + CHURN;
        let mut made = HELD as u64 + 1;
        let mut kept = Vec::new();
        while Instant::now() < until {
            let (client, server) = listening::pair(listening)?;
            made += 1;
            match made % 4 {
                0 => drop((client, server)),
                1 => drop((server, client)),
                2 => {
                    listening::reset(client)?;
                    drop(server);
                }
                _ => {
                    client.shutdown(Shutdown::Write)?;
                    kept.push((client, server));
                }
            }
            // For longer than between two looks.
            if kept.len() > 256 {
                kept.drain(..128);
            }
            thread::sleep(CHURN_PAUSE);
        }
        let half_closed = kept.len() as u64;
        let closed = made - HELD as u64 - 1 - half_closed;
        let open = [made, 0, HELD as u64 + 1, half_closed, closed];
        let view = daemon.until("the connections", |view| {
            counts(view, address).ok() == Some(open)
        })?;
        assert_eq!(
            daemon::source(&view, "bpf")?.detail.get("found_later"),
            None
        );
        drop((held, waiting, taken, kept));
        let view = daemon.until("the ends", |view| {
            counts(view, address).ok() == Some([made, 0, 0, 0, made])
        })?;
        assert_eq!(
            daemon::source(&view, "bpf")?.detail.get("found_later"),
            None
        );
        is_empty(daemon)
    })
}

/// Check that connections whose end was missed are told when they are not known.
#[test]
fn missed_ends() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    watched(|daemon, listening, address| {
        let held = listening::accepted(listening, HELD)?;
        daemon.until("the connections", |view| active(view, address) == Some(5))?;
        forget_connections(daemon)?;
        drop(held);
        is_told(daemon, address, "(-5)")
    })
}

/// Check that connections whose accept was missed are told when they are not known.
#[test]
fn missed_accepts() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    watched(|daemon, listening, address| {
        let clients = listening::begin_connections(listening.local_addr()?, HELD)?;
        wait::until("the connections to wait", || {
            let row = listener(&daemon.view()?, address)?.queue.queued;
            Ok((row == Some(5)).then_some(()))
        })?;
        forget_connections(daemon)?;
        let accepted = (0..HELD)
            .map(|_| listening.accept())
            .collect::<Result<Vec<_>, _>>()?;
        is_told(daemon, address, "(+5)")?;
        drop((clients, accepted));
        Ok(())
    })
}

fn watched(body: impl FnOnce(&Daemon, &TcpListener, &str) -> Result<()> + Send) -> Result<()> {
    netns::in_new(|| {
        let listening = listening::tcp(16)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        daemon::expect_bpf(&daemon.view()?)?;
        body(&daemon, &listening, &listening.local_addr()?.to_string())
    })
}

fn figures<'a>(view: &'a View, address: &str) -> Result<&'a Connections> {
    connections(listener(view, address)?)
}

fn active(view: &View, address: &str) -> Option<u64> {
    figures(view, address).ok()?.active
}

/// Accepts, late ones among them, active, half-closed, closes.
fn counts(view: &View, address: &str) -> Result<[u64; 5]> {
    let it = figures(view, address)?;
    let totals = [
        it.accepts,
        it.late_accepts,
        it.active,
        it.half_closed,
        it.closes,
    ];
    let totals: Option<Vec<u64>> = totals.into_iter().collect();
    totals.and_then(|it| it.try_into().ok()).context("no total")
}

/// Does something of which the programs see nothing.
fn unseen(daemon: &Daemon, action: impl FnOnce() -> Result<()>) -> Result<()> {
    let map = Map::of(daemon.pid(), "CONNECTIONS")?;
    let entries = maps::of_tcp(&map)?;
    assert_eq!(entries.len(), HELD);
    for (key, _) in &entries {
        map.remove(key.clone())?;
    }
    action()?;
    entries
        .into_iter()
        .try_for_each(|(key, value)| map.insert(key, value))
}

/// Waits until the programs follow no connection.
fn is_empty(daemon: &Daemon) -> Result<()> {
    wait::until("the table of connections to be empty", || {
        let entries = maps::entries(daemon.pid())?;
        Ok((entries.get("CONNECTIONS") == Some(&0)).then_some(()))
    })
}

fn forget_connections(daemon: &Daemon) -> Result<()> {
    let map = Map::of(daemon.pid(), "CONNECTIONS")?;
    let entries = maps::of_tcp(&map)?;
    assert_eq!(entries.len(), HELD);
    let mut keys = entries.into_iter().map(|(key, _)| key);
    keys.try_for_each(|key| map.remove(key))
}

/// Waits for the gap and the mark at the listener.
fn is_told(daemon: &Daemon, address: &str, difference: &str) -> Result<()> {
    let port = address.rsplit(':').next().unwrap_or_default();
    let port = format!(":{port} {difference}");
    let view = daemon.until("the gap", |view| {
        let drift = view.gaps.iter().find(|gap| gap.what == "drift");
        drift.is_some_and(|gap| gap.count == HELD as u64 && gap.text.contains(&port))
    })?;
    assert!(!figures(&view, address)?.complete);
    Ok(())
}

fn accept_hook(view: &View) -> Result<&str> {
    let bpf = view.sources.iter().find(|source| source.name == "bpf");
    let hook = bpf.and_then(|bpf| bpf.detail.get("accept"));
    hook.map(String::as_str).context("no accept hook")
}
