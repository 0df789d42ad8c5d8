//! Turns that wait for a thread: in the kernel's queue, and inside the process.

use std::thread;

use anyhow::{Context as _, Result};
use raindrops_tests::{
    client::{self, Address, Client, answered, asking},
    daemon::{Daemon, Place, User},
    lookup, netns,
    servers::{Hold, Server, middleware::Counted, puma, rainbows},
    skip::{Need, can_run},
    turns::{self, Doing},
    wait,
};
use raindrops_user::view::{Class, View};

/// In microseconds, the two buckets of a histogram around a handler that sleeps 20 ms: it wakes up
/// a little later.
const TWENTY_MS: std::ops::Range<u64> = 16_384..24_576;
const QUEUED_US: u64 = 15_000;

/// Check that requests to the only thread of puma, which takes 20 ms for each, are answered in 20 ms
/// and wait before.
#[test]
fn one_thread_for_three_clients() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        const EACH: u64 = 40;
        let server = puma::start_with(0, "1:1")?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        thread::scope(|scope| {
            let clients = [(); 3].map(|()| {
                scope.spawn(|| {
                    (0..EACH).try_for_each(|_| client::short(&listener, "/sleep/0.02").map(drop))
                })
            });
            let ends = clients.map(|client| client.join().expect("a client does not panic"));
            ends.into_iter().collect::<Result<()>>()
        })?;
        let address = listener.to_string();
        let view = daemon.until("all turns", |view| {
            let turns = lookup::listener(view, &address).and_then(turns::of);
            turns.is_ok_and(|turns| turns.answer.count == 3 * EACH)
        })?;
        let row = lookup::listener(&view, &address)?;
        let turns = turns::of(row)?;
        let answer = turns.answer.p50_us.context("no median")?;
        assert!(TWENTY_MS.contains(&answer), "{:?}", turns.answer);
        let wait = lookup::connections(row)?.wait.as_ref();
        let queued = [
            wait.and_then(|wait| wait.p50_us),
            turns.read_wait.as_ref().and_then(|it| it.p50_us),
        ];
        assert!(
            queued.into_iter().flatten().any(|wait| wait >= QUEUED_US),
            "waits {queued:?}"
        );
        Ok(())
    })
}

/// Check that `calling` is the number of puma's threads that sleep, however many clients there are.
#[test]
fn eight_clients_and_one_thread() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(0, "1:1")?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let address = [listener.to_string()];
        // Until its reactor has read for its thread, it is not known to do so.
        wait::until("a known pool", || {
            let mut client = Client::connect(&listener)?;
            daemon.until("an idle client", |view| {
                Doing::of_listeners(view, &address).is_ok_and(|doing| doing.idle == Some(1))
            })?;
            client.ask("/")?;
            answered(&mut [client])?;
            let view = daemon.until("no client", |view| {
                Doing::of_listeners(view, &address).is_ok_and(|doing| doing.idle == Some(0))
            })?;
            let worker = lookup::worker(&view, server.master())?;
            Ok((worker.class == Some(Class::Handoff)).then_some(()))
        })?;
        let hold = server.hold("eight")?;
        let mut clients = asking(&listener, 8, "/park/eight")?;
        let asleep = Counted {
            calling: 1,
            writing: 0,
        };
        wait::until("a busy thread", || {
            Ok((server.middleware()? == asleep).then_some(()))
        })?;
        for _ in 0..10 {
            let view = daemon.looked_anew(&address)?;
            let doing = Doing::of_listeners(&view, &address)?;
            assert_eq!((doing.calling, doing.writing), (Some(1), Some(0)));
            assert_eq!(server.middleware()?, asleep);
        }
        drop(hold);
        answered(&mut clients)
    })
}

/// Check that of what puma's reactor has read only as much is `calling` as there are threads; the
/// rest waits.
#[test]
fn what_a_reactor_reads_waits_for_the_pool() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(0, "4:4")?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let address = [listener.to_string()];
        let mut clients = (0..8)
            .map(|_| Client::connect(&listener))
            .collect::<Result<Vec<_>>>()?;
        let rounds = 10;
        for round in 1..=rounds {
            let name = format!("round{round}");
            let hold = server.hold(&name)?;
            daemon.until("idle clients", |view| {
                Doing::of_listeners(view, &address).is_ok_and(|doing| doing.idle == Some(8))
            })?;
            for client in &mut clients {
                client.ask(&format!("/park/{name}"))?;
            }
            let expected = Counted {
                calling: 4,
                writing: 0,
            };
            wait::until("four busy threads", || {
                Ok((server.middleware()? == expected).then_some(()))
            })?;
            if round == rounds {
                let view = daemon.until("four calling, four waiting", |view| {
                    Doing::of_listeners(view, &address).is_ok_and(|doing| {
                        (doing.calling, doing.waiting, doing.idle) == (Some(4), Some(4), Some(0))
                    })
                })?;
                let worker = lookup::worker(&view, server.master())?;
                assert_eq!(worker.class, Some(Class::Handoff));
                assert_eq!(
                    (worker.threads_busy, worker.threads_seen),
                    (Some(4), Some(4))
                );
            }
            drop(hold);
            answered(&mut clients)?;
        }
        Ok(())
    })
}

/// Check that a worker of Rainbows! is `learning` until its threads have answered, and that then
/// what its acceptor has read is told from what its three threads work on.
#[test]
fn rainbows_learns_its_pool() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("rainbows")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = rainbows::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);

        let (hold, mut clients) = thirty(&server, &listener, "first")?;
        let view = full(&daemon, &server, &listener)?;
        let turns = turns::of(lookup::listener(&view, &listener.to_string())?)?;
        assert_eq!((turns.calling, turns.waiting), (None, None));
        for pid in server.workers() {
            let worker = lookup::worker(&view, pid)?;
            assert_eq!(worker.class, Some(Class::Learning), "{pid}");
            let turns = worker.turns.as_ref().context("no turns")?;
            assert_eq!((turns.calling, turns.waiting), (None, None), "{pid}");
        }
        drop(hold);
        answered(&mut clients)?;

        let (hold, mut clients) = thirty(&server, &listener, "second")?;
        full(&daemon, &server, &listener)?;
        let view = daemon.looked_anew(&[listener.to_string()])?;
        for pid in server.workers() {
            let worker = lookup::worker(&view, pid)?;
            assert_eq!(worker.class, Some(Class::Handoff), "{pid}");
            assert_eq!(
                (worker.threads_busy, worker.threads_seen),
                (Some(3), Some(3))
            );
            let doing = Doing::of_workers(&view, &[pid])?;
            assert_eq!((doing.calling, doing.waiting), (Some(3), Some(5)), "{pid}");
        }
        let doing = Doing::of_listeners(&view, &[listener.to_string()])?;
        assert_eq!((doing.calling, doing.waiting), (Some(6), Some(10)));
        drop(hold);
        answered(&mut clients)
    })
}

/// Thirty clients that ask for what will not be answered yet.
fn thirty(server: &Server, listener: &Address, name: &str) -> Result<(Hold, Vec<Client>)> {
    let hold = server.hold(name)?;
    Ok((hold, asking(listener, 30, &format!("/park/{name}"))?))
}

/// Both workers have all the connections that they may have, six threads work, and the other
/// connections are queued.
fn full(daemon: &Daemon, server: &Server, listener: &Address) -> Result<View> {
    wait::until("six busy threads", || {
        Ok((server.middleware()?.calling == 6).then_some(()))
    })?;
    let address = listener.to_string();
    daemon.until("16 connections, and 14 queued", |view| {
        let row = lookup::listener(view, &address);
        let clients = |pid: &u32| {
            let worker = lookup::worker(view, *pid);
            worker.is_ok_and(|worker| worker.clients == Some(8))
        };
        row.is_ok_and(|row| row.queue.queued == Some(14)) && server.workers().iter().all(clients)
    })
}
