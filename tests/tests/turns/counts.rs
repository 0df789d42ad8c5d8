//! How many turns there were, and how many bytes: exactly what clients and servers have counted.

use std::thread;

use anyhow::Result;
use raindrops_tests::{
    ab,
    client::{self, Address},
    daemon::{self, Daemon, Place, User},
    netns,
    servers::{
        Server,
        nginx::{self, Status},
        puma, unicorn,
    },
    skip::{Need, can_run},
    turns::{self, Done},
};

const REQUESTS: u64 = 10_000;
const CLIENTS: usize = 50;
/// To each listener, over connections of their own.
const SHORT: u64 = 200;

/// Waits until listeners and workers together show what was done, and no more a while later.
fn shows(daemon: &Daemon, addresses: &[String], workers: &[u32], expected: Done) -> Result<()> {
    for _ in 0..2 {
        let view = daemon.until(&format!("{expected:?}"), |view| {
            Done::on_listeners(view, addresses).is_ok_and(|done| done == expected)
                && turns::of_workers(view, workers).is_ok_and(|turns| turns == expected.turns)
        })?;
        daemon::expect_bpf(&view)?;
        daemon.looked_anew(addresses)?;
    }
    Ok(())
}

/// Check that turns over keep-alive connections to nginx are the requests that `ab` made and nginx
/// counted, in all its listeners and in all its workers.
#[test]
fn keep_alive_requests_to_nginx() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("ab"),
        Need::Program("nginx"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = nginx::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let before = Status::of(&server)?;
        let (requests, clients) = (REQUESTS.to_string(), CLIENTS.to_string());
        let url = format!("http://{}/", nginx::ADDRESS);
        let made = ab::run(&["-k", "-n", &requests, "-c", &clients], &url)?;
        let after = Status::of(&server)?;
        assert_eq!(made.requests, REQUESTS);
        // The second time it was asked comes on top.
        assert_eq!(after.requests - before.requests, REQUESTS + 1);

        let addresses = [nginx::ADDRESS.to_owned()];
        // They have answered the status over the unix listener, too.
        let of_workers = REQUESTS + 2;
        let view = daemon.until("all turns", |view| {
            Done::on_listeners(view, &addresses).is_ok_and(|done| {
                (done.turns, done.answers, done.bytes_out) == (REQUESTS, REQUESTS, made.received)
            }) && turns::of_workers(view, &server.workers()).is_ok_and(|it| it == of_workers)
        })?;
        let group = view.groups.iter().find(|it| it.address == nginx::ADDRESS);
        let group = group.and_then(|group| group.turns.as_ref());
        assert_eq!(group.map(|turns| turns.total), Some(REQUESTS));
        daemon.looked_anew(&addresses)?;
        let view = daemon.view()?;
        let later = Done::on_listeners(&view, &addresses)?;
        assert_eq!((later.turns, later.bytes_out), (REQUESTS, made.received));
        assert_eq!(turns::of_workers(&view, &server.workers())?, of_workers);
        Ok(())
    })
}

/// Leads short connections to a server's listeners and compares every figure.
fn short_connections(server: &Server, listeners: &[Address]) -> Result<()> {
    let place = Place::new()?;
    let daemon = place.start(User::Same, &[])?;
    let mut expected = Done {
        turns: 0,
        answers: 0,
        bytes_in: 0,
        bytes_out: 0,
    };
    let mut addresses = Vec::new();
    for listener in listeners {
        let bytes: Vec<(u64, u64)> = thread::scope(|scope| {
            let clients = [(); 4].map(|()| {
                scope.spawn(|| {
                    (0..SHORT / 4)
                        .map(|_| client::short(listener, "/"))
                        .collect::<Result<Vec<_>>>()
                })
            });
            let bytes = clients.map(|client| client.join().expect("a client does not panic"));
            Ok::<_, anyhow::Error>(bytes.into_iter().collect::<Result<Vec<_>>>()?.concat())
        })?;
        let here = Done {
            turns: SHORT,
            answers: SHORT,
            bytes_in: bytes.iter().map(|(sent, _)| sent).sum(),
            bytes_out: bytes.iter().map(|(_, received)| received).sum(),
        };
        expected = Done {
            turns: expected.turns + here.turns,
            answers: expected.answers + here.answers,
            bytes_in: expected.bytes_in + here.bytes_in,
            bytes_out: expected.bytes_out + here.bytes_out,
        };
        let address = listener.to_string();
        daemon.until(&format!("{here:?} on {address}"), |view| {
            Done::on_listeners(view, std::slice::from_ref(&address)).is_ok_and(|done| done == here)
        })?;
        addresses.push(address);
    }
    shows(&daemon, &addresses, &server.workers(), expected)
}

/// Check turns and bytes of puma over short connections, TCP and unix, in one process and in two.
#[test]
fn short_connections_to_puma() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start()?;
        short_connections(&server, &server.listeners())
    })
}

/// Check turns and bytes of unicorn over short connections, TCP and unix.
#[test]
fn short_connections_to_unicorn() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        short_connections(&server, &server.listeners())
    })
}
