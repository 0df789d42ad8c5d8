//! Turns that are not wanted, or not in full.

use std::fs;

use anyhow::{Context as _, Result};
use raindrops_tests::{
    client::{self, Address, Client},
    daemon::{self, Place, User},
    lookup, netns,
    servers::puma,
    skip::{Need, can_run},
    turns::{self, Doing},
};
use raindrops_user::view::{View, WriteEnd};

const SHORT: u64 = 50;

/// Check that a listener for which the configuration says so has no turns, and its workers have
/// those of their other listeners only.
#[test]
fn a_listener_without_turns() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start()?;
        let place = Place::new()?;
        let config = place.path().join("raindrops.toml");
        fs::write(
            &config,
            "[[listener]]\naddress = \":18180\"\nturns = \"off\"\n",
        )?;
        let daemon = place.start(User::Same, &["--config", &config.to_string_lossy()])?;
        let excluded = server.tcp[0].to_string();
        let followed = server.unix[0].display().to_string();
        for listener in server.listeners() {
            for _ in 0..SHORT {
                client::short(&listener, "/")?;
            }
        }
        let view = daemon.until("all requests", |view| {
            accepts_of(view, &excluded) == Some(SHORT)
                && turns::each(view, std::slice::from_ref(&followed))
                    .is_ok_and(|it| it[0].total == SHORT)
        })?;
        daemon::expect_bpf(&view)?;
        for view in [view, daemon.looked_anew(std::slice::from_ref(&followed))?] {
            assert_eq!(lookup::listener(&view, &excluded)?.turns, None);
            assert_eq!(turns::of_workers(&view, &server.workers())?, SHORT);
        }

        // Nor are the connections that are open there among those of the workers.
        let clients = server
            .listeners()
            .iter()
            .map(|listener| {
                let mut client = Client::connect(listener)?;
                client.get("/")?;
                Ok(client)
            })
            .collect::<Result<Vec<_>>>()?;
        let view = daemon.until("two clients", |view| {
            accepts_of(view, &excluded) == Some(SHORT + 1)
                && Doing::of_listeners(view, std::slice::from_ref(&followed))
                    .is_ok_and(|doing| doing.idle == Some(1))
                && turns::of_workers(view, &server.workers()).is_ok_and(|it| it == SHORT + 1)
        })?;
        assert_eq!(Doing::of_workers(&view, &server.workers())?.idle, Some(1));
        drop(clients);
        Ok(())
    })
}

fn accepts_of(view: &View, address: &str) -> Option<u64> {
    let listener = lookup::listener(view, address).ok()?;
    listener.connections.as_ref()?.accepts
}

/// Check that there are no turns with `--turns off`, and that the source says why.
#[test]
fn no_turns() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--turns", "off"])?;
        let address = server.tcp[0].to_string();
        for _ in 0..SHORT {
            client::short(&Address::Tcp(server.tcp[0]), "/")?;
        }
        let view = daemon.until("all accepts", |view| {
            accepts_of(view, &address) == Some(SHORT)
        })?;
        for listener in &view.listeners {
            assert_eq!(listener.turns, None, "{}", listener.address);
        }
        for pid in server.workers() {
            let worker = lookup::worker(&view, pid)?;
            assert_eq!((&worker.turns, worker.class), (&None, None), "{pid}");
            assert_eq!((worker.threads_busy, worker.clients), (None, None), "{pid}");
        }
        let said = daemon::source(&view, "bpf")?.detail.get("turns");
        let said = said.context("nothing is said of turns")?;
        assert!(
            said.starts_with("off: switched off by --turns off"),
            "{said}"
        );
        Ok(())
    })
}

/// Check that with `--turns light` totals and histograms are whole, and that no gauge says what is
/// not known: which connections are between turns, and which turns a pool works on.
#[test]
fn turns_without_ends() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(0, "4:4")?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--turns", "light"])?;
        let listener = Address::Tcp(server.tcp[0]);
        let address = [listener.to_string()];
        for _ in 0..SHORT {
            client::short(&listener, "/")?;
        }
        let view = daemon.until("all requests", |view| {
            turns::each(view, &address).is_ok_and(|turns| {
                let it = turns[0];
                (it.total, it.answer.count, it.write.count) == (SHORT, SHORT, SHORT)
                    && it
                        .read_wait
                        .as_ref()
                        .is_some_and(|wait| wait.count == SHORT)
            })
        })?;
        let turns = turns::each(&view, &address)?[0];
        assert_eq!((turns.unanswered, turns.write_end), (0, WriteEnd::NextRead));
        let nothing = Doing {
            waiting: Some(0),
            reading: None,
            calling: Some(0),
            writing: Some(0),
            blocked: Some(0),
            idle: Some(0),
        };
        daemon.until("no connection", |view| {
            Doing::of_listeners(view, &address).is_ok_and(|doing| doing == nothing)
        })?;

        // One that is between turns is among those that are written to.
        let mut kept = Client::connect(&listener)?;
        kept.get("/")?;
        daemon.until("one that may be idle", |view| {
            let expected = Doing {
                writing: Some(1),
                idle: None,
                ..nothing
            };
            Doing::of_listeners(view, &address).is_ok_and(|doing| doing == expected)
        })?;

        // More than the pool has threads, read by its reactor.
        let mut clients = (0..8)
            .map(|_| {
                let mut client = Client::connect(&listener)?;
                client.get("/")?;
                Ok(client)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut total = SHORT + 9;
        for round in 0..3 {
            let name = format!("round{round}");
            let hold = server.hold(&name)?;
            for client in &mut clients {
                client.ask(&format!("/park/{name}"))?;
            }
            total += 8;
            let view = daemon.until("eight turns", |view| {
                Doing::of_workers(view, &[server.master()]).is_ok_and(|doing| {
                    (doing.calling, doing.waiting, doing.reading) == (None, None, None)
                })
            })?;
            let worker = lookup::worker(&view, server.master())?;
            assert_eq!(worker.threads_busy, None);
            let of_listener = Doing::of_listeners(&view, &address)?;
            assert_eq!((of_listener.calling, of_listener.waiting), (None, None));
            drop(hold);
            for client in &mut clients {
                client.answered()?;
            }
        }
        let view = daemon.until("all turns", |view| {
            turns::each(view, &address)
                .is_ok_and(|turns| (turns[0].total, turns[0].answer.count) == (total, total))
        })?;
        assert_eq!(turns::of_workers(&view, &[server.master()])?, total);
        Ok(())
    })
}
