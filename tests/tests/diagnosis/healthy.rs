//! What is healthy, and must not be called trouble at any time.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use raindrops_tests::{
    client::{self, Address, Client, answered, asking, idle},
    daemon::{Place, User},
    listening, load, netns, processes,
    servers::{gunicorn, nginx, puma, rainbows, unicorn},
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::Worker;
use rustix::process::Signal;

/// Longer than any verdict waits before it is given.
const LONG: Duration = Duration::from_secs(7);

/// Check that load without a pause, on several servers, is no trouble.
#[test]
fn steady_load() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("nginx"),
        Need::Program("puma"),
        Need::Program("unicorn"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let (nginx, puma, unicorn) = (nginx::start()?, puma::start()?, unicorn::start()?);
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listeners = [
            Address::Tcp(nginx.tcp[0]),
            Address::Unix(nginx.unix[0].clone()),
            Address::Tcp(puma.tcp[0]),
            Address::Tcp(unicorn.tcp[0]),
            Address::Unix(unicorn.unix[0].clone()),
        ];
        load::during(&listeners, 2, "/", || daemon.stays_well(LONG))
    })
}

/// Check the same of servers that work differently.
#[test]
fn steady_load_of_other_servers() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("gunicorn"),
        Need::Program("rainbows"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let (gunicorn, rainbows) = (gunicorn::start()?, rainbows::start()?);
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listeners = [
            Address::Tcp(gunicorn.tcp[0]),
            Address::Tcp(rainbows.tcp[0]),
            Address::Unix(rainbows.unix[0].clone()),
        ];
        load::during(&listeners, 2, "/", || daemon.stays_well(LONG))
    })
}

/// Check that the most that workers can do, with a queue that is hardly ever empty, is no trouble.
#[test]
fn workers_always_busy() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = [Address::Tcp(server.tcp[0])];
        load::during(&listener, 5, "/sleep/0.01", || daemon.stays_well(LONG))
    })
}

/// Check that idle clients are no trouble.
#[test]
fn idle_keep_alive() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("nginx"),
        Need::Program("puma"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let (nginx, puma) = (nginx::start()?, puma::start()?);
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let _idle = [
            idle(&Address::Tcp(nginx.tcp[0]), 20)?,
            idle(&Address::Tcp(puma.tcp[0]), 20)?,
        ];
        daemon.stays_well(LONG)
    })
}

/// Check that downloads by slow readers from an event loop are no trouble.
#[test]
fn long_downloads() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("nginx")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = nginx::start()?;
        File::create(server.path("big"))?.set_len(64 << 20)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let address = server.tcp[0];
        thread::scope(|scope| {
            let end = Instant::now() + LONG;
            let readers = [(); 4].map(|()| {
                scope.spawn(move || {
                    let mut stream = listening::client(address)?;
                    stream.write_all(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
                    while Instant::now() < end {
                        stream.read_exact(&mut vec![0; 1 << 14])?;
                        thread::sleep(Duration::from_millis(20));
                    }
                    Ok::<_, anyhow::Error>(())
                })
            });
            let outcome = daemon.stays_well(LONG);
            for reader in readers {
                reader.join().expect("a client does not panic")?;
            }
            outcome
        })
    })
}

/// Check that downloads by readers who do not go on, from half of the threads of a server that has just
/// been started, are no trouble: the others are there, though none of them has answered yet.
#[test]
fn long_downloads_from_threads() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(1, "8:8")?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let mut readers = Vec::new();
        for _ in 0..4 {
            let mut reader = Client::connect(&Address::Tcp(server.tcp[0]))?;
            reader.ask_and_close("/big/64")?;
            reader.begun()?;
            readers.push(reader);
        }
        daemon.until("those who are blocked", |view| {
            let blocked = |it: &Worker| it.turns.as_ref().and_then(|turns| turns.blocked);
            view.workers.iter().any(|it| blocked(it) == Some(4))
        })?;
        daemon.stays_well(LONG)
    })
}

/// Check that requests that are answered late, because that is what they are for, are no trouble:
/// while others are answered at once, and when all have ended.
#[test]
fn long_polling() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(1, "8:8")?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        for _ in 0..2 {
            let hold = server.hold("poll")?;
            let mut clients = asking(&listener, 6, "/park/poll")?;
            daemon.stays_well(LONG)?;
            drop(hold);
            answered(&mut clients)?;
        }
        Ok(())
    })
}

/// Check that a restart in phases under light load is no trouble.
#[test]
fn phased_restart() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let old = server.workers();
        let listener = [Address::Tcp(server.tcp[0])];
        load::during(&listener, 1, "/sleep/0.02", || {
            daemon.stays_well(Duration::from_secs(1))?;
            processes::signal(server.master(), Signal::USR1)?;
            wait::until("two other workers", || {
                daemon.is_well()?;
                let new = server.workers();
                let are_new = new.len() == 2 && new.iter().all(|pid| !old.contains(pid));
                Ok(are_new.then_some(()))
            })?;
            daemon.stays_well(Duration::from_secs(4))
        })
    })
}

/// Check that servers that replace all their workers at once, under light load, are no trouble.
#[test]
fn reload() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("nginx"),
        Need::Program("unicorn"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let (nginx, unicorn) = (nginx::start()?, unicorn::start()?);
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listeners = [Address::Tcp(nginx.tcp[0]), Address::Tcp(unicorn.tcp[0])];
        load::during(&listeners, 1, "/", || {
            daemon.stays_well(Duration::from_secs(1))?;
            for server in [&nginx, &unicorn] {
                let old = server.workers();
                processes::signal(server.master(), Signal::HUP)?;
                wait::until("two other workers", || {
                    daemon.is_well()?;
                    let new = server.workers();
                    let are_new = new.len() == 2 && new.iter().all(|pid| !old.contains(pid));
                    Ok(are_new.then_some(()))
                })?;
            }
            daemon.stays_well(Duration::from_secs(4))
        })
    })
}

/// Check that many clients at once, whom the workers soon have answered, are no trouble.
#[test]
fn absorbed_spike() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        daemon.stays_well(Duration::from_secs(1))?;
        thread::scope(|scope| {
            let clients: Vec<_> = (0..60)
                .map(|_| scope.spawn(|| client::short(&listener, "/sleep/0.03")))
                .collect();
            daemon.stays_well(Duration::from_secs(4))?;
            for client in clients {
                client.join().expect("a client does not panic")?;
            }
            daemon.stays_well(Duration::from_secs(2))
        })
    })
}
