//! What is kept of unix connections goes with them, although nothing tells of their end.

use anyhow::{Context as _, Result};
use raindrops_tests::{
    client::{self, Address, Client},
    daemon::{Daemon, Place, User},
    maps, netns,
    servers::{Server, puma, unicorn},
    skip::{Need, can_run},
    wait,
};

const CLIENTS: usize = 20;
const SHORT: usize = 100;

/// Nobody reads a view meanwhile, which would also be a unix connection.
fn kept(daemon: &Daemon) -> Result<usize> {
    let entries = maps::entries(daemon.pid())?;
    entries.get("CONNECTIONS").copied().context("no such table")
}

fn until_kept(daemon: &Daemon, what: &str, is: impl Fn(usize) -> bool) -> Result<()> {
    let mut last = 0;
    let found = wait::until(what, || {
        last = kept(daemon)?;
        Ok(is(last).then_some(()))
    });
    found.with_context(|| format!("{last} entries"))
}

fn nothing_stays(server: &Server, path: &str, stays: bool) -> Result<()> {
    let place = Place::new()?;
    let daemon = place.start(User::Same, &[])?;
    let listener = Address::Unix(server.unix[0].clone());
    until_kept(&daemon, "no entry before", |entries| entries == 0)?;

    // The server closes these, or sees that the client has.
    for _ in 0..SHORT {
        client::short(&listener, path)?;
    }
    until_kept(&daemon, "no entry of short connections", |it| it == 0)?;

    if stays {
        // These are left open, and then closed by the clients.
        let mut clients = (0..CLIENTS)
            .map(|_| Client::connect(&listener))
            .collect::<Result<Vec<_>>>()?;
        for client in &mut clients {
            client.get(path)?;
        }
        until_kept(&daemon, "an entry for each", |it| it == CLIENTS)?;
        drop(clients);
        until_kept(&daemon, "no entry of idle clients", |it| it == 0)?;
    }

    // Clients that go while they are being answered, or waited for.
    let hold = server.hold("gone")?;
    let clients = (0..CLIENTS)
        .map(|number| {
            let mut client = Client::connect(&listener)?;
            match number % 3 {
                0 => client.ask("/park/gone")?,
                1 => client.send("GET / HT")?,
                _ => {}
            }
            Ok(client)
        })
        .collect::<Result<Vec<_>>>()?;
    until_kept(&daemon, "an entry of some", |it| it > 0)?;
    drop(clients);
    drop(hold);
    until_kept(&daemon, "no entry of clients that went", |it| it == 0)
}

/// Check that no entry of a unix connection to puma stays.
#[test]
fn no_entry_of_puma_stays() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| nothing_stays(&puma::start()?, "/", true))
}

/// Check that no entry of a unix connection to unicorn stays.
#[test]
fn no_entry_of_unicorn_stays() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| nothing_stays(&unicorn::start()?, "/", false))
}
