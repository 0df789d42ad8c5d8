//! Events that the programs missed: found by counting the kernel's connections. They are made to
//! miss some by taking entries out of their table behind their back.

use std::net::TcpListener;

use anyhow::Result;
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening,
    lookup::{connections, listener},
    maps::Map,
    netns,
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::{Connections, View};

const HELD: usize = 5;

/// Check that connections whose end was missed are told.
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

/// Check that connections whose accept was missed are told.
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

fn forget_connections(daemon: &Daemon) -> Result<()> {
    let map = Map::of(daemon.pid(), "CONNECTIONS")?;
    let keys = map.keys()?;
    assert_eq!(keys.len(), HELD);
    keys.into_iter().try_for_each(|key| map.remove(key))
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
