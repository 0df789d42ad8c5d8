//! Turns of connections that were accepted before there was a daemon.

use anyhow::Result;
use raindrops_tests::{
    client::{self, Address, Client},
    daemon::{self, Daemon, Place, User},
    lookup, netns,
    servers::{Server, nginx, puma},
    skip::{Need, can_run},
    turns,
};
use raindrops_user::view::{Connections, View};

const CLIENTS: u64 = 12;

/// Of all listeners of an address. Of unix connections is not told what has ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    seeded: Option<u64>,
    accepts: Option<u64>,
    active: Option<u64>,
    half_closed: Option<u64>,
    closes: Option<u64>,
    turns: u64,
    answers: u64,
    complete: bool,
}

impl Known {
    fn of(view: &View, address: &str) -> Result<Self> {
        let listeners = lookup::listeners(view, address);
        let turns = turns::each(view, &[address.to_owned()])?;
        let connections: Vec<&Connections> = listeners
            .into_iter()
            .map(lookup::connections)
            .collect::<Result<_>>()?;
        let sum = |figure: fn(&Connections) -> Option<u64>| {
            connections.iter().map(|it| figure(it)).sum::<Option<u64>>()
        };
        Ok(Self {
            seeded: sum(|it| it.seeded),
            accepts: sum(|it| it.accepts),
            active: sum(|it| it.active),
            half_closed: sum(|it| it.half_closed),
            closes: sum(|it| it.closes),
            turns: turns.iter().map(|turns| turns.total).sum(),
            answers: turns.iter().map(|turns| turns.answer.count).sum(),
            complete: turns.iter().all(|turns| turns.complete),
        })
    }
}

fn shows(daemon: &Daemon, address: &str, expected: &Known) -> Result<()> {
    for _ in 0..2 {
        daemon.until(&format!("{expected:?} on {address}"), |view| {
            Known::of(view, address).is_ok_and(|known| known == *expected)
        })?;
        daemon.looked_anew(&[address.to_owned()])?;
    }
    Ok(())
}

/// Half of the connections have been used before the daemon begins, half have not. `is_alone`: no
/// other listener has the address, so that it is known whose they are.
fn are_followed_from_their_next_request(
    server: &Server,
    listener: &Address,
    is_alone: bool,
) -> Result<()> {
    let mut clients = (0..CLIENTS)
        .map(|number| {
            let mut client = Client::connect(listener)?;
            if number % 2 == 0 {
                client.get("/")?;
            }
            Ok(client)
        })
        .collect::<Result<Vec<_>>>()?;
    // Whoever is served later was accepted later.
    let mut last = Client::connect(listener)?;
    last.ask_and_close("/")?;
    last.answered()?;
    last.closed()?;

    let place = Place::new()?;
    let daemon = place.start(User::Same, &[])?;
    daemon::expect_bpf(&daemon.view()?)?;
    let address = listener.to_string();
    let is_unix = matches!(listener, Address::Unix(_));
    let told = |count| (!is_unix).then_some(count);
    let mut expected = Known {
        seeded: told(CLIENTS),
        accepts: Some(u64::from(is_unix)),
        active: Some(CLIENTS),
        half_closed: told(0),
        closes: told(0),
        ..Known::default()
    };
    if is_unix {
        client::short(listener, "/")?;
        (expected.turns, expected.answers) = (1, 1);
    }
    shows(&daemon, &address, &expected)?;
    let all = clients.len();
    for (number, client) in clients.iter_mut().enumerate() {
        client.get("/")?;
        expected.turns += 1;
        expected.answers += 1;
        let is_last = number + 1 == all;
        expected.complete = is_alone && is_last;
        if is_last || number == 0 || number + 2 == all {
            shows(&daemon, &address, &expected)?;
        }
    }
    for client in &mut clients {
        client.get("/")?;
    }
    expected.turns += CLIENTS;
    expected.answers += CLIENTS;
    shows(&daemon, &address, &expected)?;
    assert_eq!(
        turns::of_workers(&daemon.view()?, &server.workers())?,
        expected.turns
    );
    drop(clients);
    let ended = Known {
        active: Some(0),
        closes: told(CLIENTS),
        ..expected
    };
    shows(&daemon, &address, &ended)
}

/// Check older connections to the threads of puma.
#[test]
fn older_connections_of_puma() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start()?;
        are_followed_from_their_next_request(&server, &Address::Tcp(server.tcp[0]), true)
    })
}

/// Check older connections to nginx, whose workers have a listener each at the same address.
#[test]
fn older_connections_of_nginx() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("nginx")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = nginx::start()?;
        are_followed_from_their_next_request(&server, &Address::Tcp(server.tcp[0]), false)
    })
}

/// Check older connections over a unix socket, of which nothing tells whose they are before a new one
/// has come to their listener.
#[test]
fn older_unix_connections_of_puma() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start()?;
        are_followed_from_their_next_request(&server, &Address::Unix(server.unix[0].clone()), true)
    })
}
