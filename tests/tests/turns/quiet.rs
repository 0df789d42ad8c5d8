//! Connections on which nothing happens, or which their clients hold up.

use std::{fs::File, thread};

use anyhow::Result;
use raindrops_tests::{
    client::{self, Address, Client},
    daemon::{Place, User},
    lookup, netns,
    servers::{
        Server,
        middleware::Counted,
        nginx::{self, Status},
        puma, unicorn,
    },
    skip::{Need, can_run},
    turns::Doing,
    wait,
};

const CLIENTS: u64 = 20;
/// More than the buffers of a connection that nobody reads.
const BIG: u64 = 64 << 20;

const IDLE: Doing = Doing {
    waiting: Some(0),
    reading: Some(0),
    calling: Some(0),
    writing: Some(0),
    blocked: Some(0),
    idle: Some(CLIENTS),
};

/// Check that idle clients of nginx are idle, as it says itself.
#[test]
fn idle_clients_of_nginx() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("nginx")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = nginx::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let address = [listener.to_string()];
        let clients = client::idle(&listener, CLIENTS as usize)?;
        daemon.until("idle clients", |view| {
            Doing::of_listeners(view, &address).is_ok_and(|doing| doing == IDLE)
        })?;
        for _ in 0..10 {
            let view = daemon.looked_anew(&address)?;
            assert_eq!(Doing::of_listeners(&view, &address)?, IDLE);
        }
        let status = Status::of(&server)?;
        assert_eq!((status.writing, status.waiting), (0, CLIENTS));
        drop(clients);
        daemon.until("no client", |view| {
            Doing::of_listeners(view, &address).is_ok_and(|doing| doing.idle == Some(0))
        })?;
        Ok(())
    })
}

/// Check that idle clients of puma are idle, TCP and unix.
#[test]
fn idle_clients_of_puma() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        for listener in server.listeners() {
            let address = [listener.to_string()];
            let clients = client::idle(&listener, CLIENTS as usize)?;
            daemon.until("idle clients", |view| {
                Doing::of_listeners(view, &address).is_ok_and(|doing| doing == IDLE)
            })?;
            for _ in 0..10 {
                let view = daemon.looked_anew(&address)?;
                assert_eq!(Doing::of_listeners(&view, &address)?, IDLE);
            }
            drop(clients);
            daemon.until("no client", |view| {
                Doing::of_listeners(view, &address).is_ok_and(|doing| doing.idle == Some(0))
            })?;
        }
        Ok(())
    })
}

/// Check that clients of unicorn that say nothing are idle, as many as it has accepted, and those that
/// have said half of a request are being read.
#[test]
fn silent_clients_of_unicorn() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        for listener in [
            Address::Tcp(server.tcp[0]),
            Address::Unix(server.unix[0].clone()),
        ] {
            let address = [listener.to_string()];
            let mut clients = (0..CLIENTS)
                .map(|_| Client::connect(&listener))
                .collect::<Result<Vec<_>>>()?;
            // It has two workers, each of which waits for the request of the one that it has accepted.
            let silent = Doing {
                idle: Some(2),
                ..IDLE
            };
            daemon.until("two idle clients", |view| {
                Doing::of_listeners(view, &address).is_ok_and(|doing| doing == silent)
            })?;
            for client in &mut clients {
                client.send("GET / HT")?;
            }
            let half = Doing {
                reading: Some(2),
                idle: Some(0),
                ..IDLE
            };
            daemon.until("two half requests", |view| {
                Doing::of_listeners(view, &address).is_ok_and(|doing| doing == half)
            })?;
            for client in &mut clients {
                client.send("TP/1.1\r\n\r\n")?;
            }
            for client in &mut clients {
                client.answered()?;
            }
            let none = Doing {
                idle: Some(0),
                ..IDLE
            };
            daemon.until("no client", |view| {
                Doing::of_listeners(view, &address).is_ok_and(|doing| doing == none)
            })?;
        }
        Ok(())
    })
}

/// Check that downloads whose clients do not read are writing and blocked, and neither once they are
/// read.
#[test]
fn stalled_downloads_from_nginx() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("nginx")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = nginx::start()?;
        File::create(server.path("big"))?.set_len(BIG)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        for listener in server.listeners() {
            for path in ["/big", "/copied/big"] {
                let address = [listener.to_string()];
                let mut clients = (0..4)
                    .map(|_| Client::connect(&listener))
                    .collect::<Result<Vec<_>>>()?;
                // Not the first that their connections stall.
                for _ in 0..2 {
                    for client in &mut clients {
                        client.ask(path)?;
                        client.begun()?;
                    }
                    let stalled = Doing {
                        writing: Some(4),
                        blocked: Some(4),
                        idle: Some(0),
                        ..IDLE
                    };
                    daemon.until(&format!("four stalled downloads of {path}"), |view| {
                        Doing::of_listeners(view, &address).is_ok_and(|doing| doing == stalled)
                    })?;
                    assert_eq!(Status::of(&server)?.writing, 4);
                    let view = daemon.looked_anew(&address)?;
                    assert_eq!(Doing::of_listeners(&view, &address)?, stalled);
                    let bodies = thread::scope(|scope| {
                        let reading = clients
                            .iter_mut()
                            .map(|client| scope.spawn(|| client.answered()))
                            .collect::<Vec<_>>();
                        let bodies = reading.into_iter().map(|it| {
                            let body = it.join().expect("a client does not panic")?;
                            Ok(body.len() as u64)
                        });
                        bodies.collect::<Result<Vec<_>>>()
                    })?;
                    assert_eq!(bodies, [BIG; 4]);
                    let idle = Doing {
                        idle: Some(4),
                        ..IDLE
                    };
                    daemon.until("four idle clients", |view| {
                        Doing::of_listeners(view, &address).is_ok_and(|doing| doing == idle)
                    })?;
                }
                drop(clients);
            }
        }
        Ok(())
    })
}

/// Streams with pauses are writing in every look, whatever the server does in the pauses.
fn paused_streams(server: &Server) -> Result<()> {
    let place = Place::new()?;
    let daemon = place.start(User::Same, &[])?;
    let listener = Address::Tcp(server.tcp[0]);
    let address = [listener.to_string()];
    let mut clients = (0..4)
        .map(|_| Client::connect(&listener))
        .collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        client.ask("/slow/25")?;
        client.begun()?;
    }
    let streaming = Counted {
        calling: 0,
        writing: 4,
    };
    let mut looks = 0;
    while server.middleware()? == streaming {
        let view = daemon.looked_anew(&address)?;
        let doing = Doing::of_listeners(&view, &address)?;
        if server.middleware()? == streaming {
            let expected = Doing {
                writing: Some(4),
                idle: Some(0),
                ..IDLE
            };
            assert_eq!(doing, expected, "look {looks}");
            looks += 1;
        }
    }
    assert!(looks >= 5, "only {looks} looks");
    for client in &mut clients {
        client.answered()?;
    }
    wait::until("no stream", || {
        let none = Counted {
            calling: 0,
            writing: 0,
        };
        Ok((server.middleware()? == none).then_some(()))
    })?;
    daemon.until("no stream", |view| {
        Doing::of_listeners(view, &address).is_ok_and(|doing| doing.writing == Some(0))
    })?;
    let view = daemon.view()?;
    let turns = lookup::listener(&view, &address[0])?.turns.as_ref();
    assert_eq!(turns.map(|turns| turns.total), Some(4));
    Ok(())
}

/// Check that paused streams through threads of puma are writing.
#[test]
fn paused_streams_of_puma() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| paused_streams(&puma::start_with(0, "4:4")?))
}

/// Check that paused streams through processes of unicorn are writing.
#[test]
fn paused_streams_of_unicorn() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| paused_streams(&unicorn::start_with(4)?))
}
