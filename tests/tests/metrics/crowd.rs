//! Sockets that any user may bind, more than may have series; and one that begins anew.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
};

use anyhow::Result;
use raindrops_tests::{
    daemon::{self, Place, User},
    listening, netns,
    prometheus::{scrape, values},
    skip::{Need, can_run},
    wait,
};
use rustix::{
    net::{Shutdown, listen, shutdown},
    process::Signal,
};

const CROWD: usize = 40;
const MOST: usize = 5;

/// Check that no more listeners have series than may, that those on TCP have some whenever they come,
/// that the rest is counted, and that a daemon which runs can be told to show more.
#[test]
fn series_are_bounded_and_tcp_comes_first() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let unix = (0..CROWD).map(|number| {
            let name = SocketAddr::from_abstract_name(format!("crowd-{number}"))?;
            Ok(UnixListener::bind_addr(&name)?)
        });
        let _unix: Vec<UnixListener> = unix.collect::<Result<_>>()?;
        let place = Place::new()?;
        let config = place.path().join("raindrops.toml");
        let allow =
            |listeners: usize| fs::write(&config, format!("metrics_listeners = {listeners}"));
        allow(MOST)?;
        let typed = config.to_str().expect("a temporary path is UTF-8");
        let arguments = [super::LISTEN.as_slice(), &["--config", typed]].concat();
        let daemon = place.start(User::Same, &arguments)?;
        let mut tcp = Vec::new();
        for _ in 0..3 {
            tcp.push(listening::tcp(16)?);
            wait::until("a series for each on TCP", || {
                let text = scrape(super::daemon())?;
                let shown = |labels: &[&str]| values(&text, "raindrops_listener_queued", labels);
                assert_eq!(shown(&[]).len(), MOST);
                // And that which is scraped.
                let is_there = shown(&["protocol=\"tcp\""]).len() == tcp.len() + 1;
                Ok(is_there.then_some(()))
            })?;
        }
        daemon.until("the rest to be counted", |view| {
            let text = scrape(super::daemon()).unwrap_or_default();
            let left_out = values(&text, "raindrops_series_left_out", &["of=\"listeners\""]);
            left_out == [(view.listeners.len() - MOST) as f64]
        })?;
        allow(MOST + 3)?;
        daemon.signal(Signal::HUP)?;
        wait::until("three more to have series", || {
            let shown = values(&scrape(super::daemon())?, "raindrops_listener_queued", &[]);
            Ok((shown.len() == MOST + 3).then_some(()))
        })?;
        Ok(())
    })
}

/// Check that totals go on when a socket is shut down and listens again at once.
#[test]
fn a_socket_that_listens_again_goes_on() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        // A port that the kernel has chosen is lost with the shutdown.
        let listening = listening::reusable(([127, 0, 0, 1], 18080).into(), 16)?;
        let address = listening.local_addr()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &super::LISTEN)?;
        daemon::expect_bpf(&daemon.view()?)?;
        let label = format!("address=\"{address}\"");
        let accepts = || -> Result<Vec<f64>> {
            let text = scrape(super::daemon())?;
            Ok(values(&text, "raindrops_listener_accepts_total", &[&label]))
        };
        let mut open = Vec::new();
        for round in [3.0, 6.0] {
            for _ in 0..3 {
                open.push((listening::client(address)?, listening.accept()?));
            }
            wait::until("all to be counted", || {
                Ok((accepts()? == [round]).then_some(()))
            })?;
            shutdown(&listening, Shutdown::Read)?;
            listen(&listening, 16)?;
        }
        Ok(())
    })
}
