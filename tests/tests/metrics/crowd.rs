//! Sockets that any user may bind, more than may have series; and one that begins anew.

use std::os::{
    linux::net::SocketAddrExt as _,
    unix::net::{SocketAddr, UnixListener},
};

use anyhow::Result;
use raindrops_tests::{
    daemon::{self, Place, User},
    listening, netns,
    prometheus::{scrape, values},
    skip::{Need, can_run},
    wait,
};
use rustix::net::{Shutdown, listen, shutdown};

const CROWD: usize = 40;
const MOST: usize = 5;

/// Check that no more listeners have series than may, that those on TCP have some whenever they come,
/// and that the rest is counted.
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
        let most = MOST.to_string();
        let arguments = [super::LISTEN.as_slice(), &["--metrics-listeners", &most]].concat();
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
