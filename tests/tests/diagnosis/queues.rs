//! Queues that grow, in the kernel and inside a process.

use std::{net::TcpStream, thread, time::Duration};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    client::{Address, answered, asking, idle},
    daemon::{Place, User},
    doctor::figures,
    listening, netns,
    servers::{acceptor::Acceptor, puma, rainbows, unicorn},
    skip::{Need, can_run},
};
use raindrops_user::diagnose::{Diagnosis, Severity, Verdict};

/// Until puma has its reactor wait for more from a client.
const IDLE: Duration = Duration::from_millis(200);

fn codes(diagnosis: &Diagnosis) -> Vec<(Severity, &str)> {
    let verdicts = diagnosis.verdicts.iter();
    verdicts
        .map(|it| (it.severity, it.verdict.as_str()))
        .collect()
}

fn of<'a>(diagnosis: &'a Diagnosis, code: &str) -> Result<&'a Verdict> {
    let mut verdicts = diagnosis.verdicts.iter();
    let found = verdicts.find(|it| it.verdict == code);
    found.with_context(|| format!("no {code}: {:?}", codes(diagnosis)))
}

/// Check that workers that are all in turns while more clients wait are too few, and not stuck.
#[test]
fn more_slow_requests_than_threads() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let hold = server.hold("all")?;
        let mut clients = asking(&listener, 8, "/park/all")?;
        let names = ["workers", "threads", "queued", "stuck_workers"];
        let verdict = daemon.until_verdict("workers-saturated", |_| true)?;
        assert_eq!(
            figures(&verdict, names),
            [Some(2), Some(2), Some(6), None],
            "{verdict:?}"
        );
        assert_eq!(verdict.subject.address, Some(listener.to_string()));
        let diagnosis = daemon.diagnosis()?;
        assert_eq!(
            codes(&diagnosis),
            [(Severity::Warning, "workers-saturated")]
        );
        drop(hold);
        answered(&mut clients)?;
        daemon.until_well()?;
        Ok(())
    })
}

/// Check that what waits inside a worker for its threads is told, where the kernel's queue is empty.
#[test]
fn more_requests_in_a_worker_than_threads() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(1, "2:2")?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let mut clients = idle(&listener, 6)?;
        // Until its threads have answered what its reactor has read, they are not known for a pool.
        for _ in 0..3 {
            thread::sleep(IDLE);
            for client in &mut clients {
                client.get("/")?;
            }
        }
        let hold = server.hold("all")?;
        for client in &mut clients {
            client.ask("/park/all")?;
        }
        let verdict = daemon.until_verdict("pool-shortage", |_| true)?;
        assert_eq!(verdict.subject.pid, server.workers().first().copied());
        let names = ["waiting", "short_workers", "workers", "threads"];
        assert_eq!(
            figures(&verdict, names),
            [Some(4), Some(1), Some(1), Some(2)],
            "{verdict:?}"
        );
        drop(hold);
        answered(&mut clients)?;
        daemon.until_well()?;
        Ok(())
    })
}

/// Check that a queue that is full is told before anything is dropped, and with the first drop that
/// clients are refused, and why.
#[test]
fn more_connections_than_the_queue_takes() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start_with(1)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        // Its own, with the short queue.
        let listener = Address::Tcp(server.tcp[1]);
        let address = Some(listener.to_string());
        let hold = server.hold("all")?;
        let in_turn = asking(&listener, 1, "/park/all")?;
        daemon.until("a turn", |view| {
            let mut listeners = view.listeners.iter();
            listeners.any(|it| {
                let turns = it.turns.as_ref();
                Some(&it.address) == address.as_ref()
                    && turns.is_some_and(|turns| turns.calling == Some(1))
            })
        })?;
        let limit = unicorn::OWN_BACKLOG;
        let mut waiting = asking(&listener, limit as usize + 1, "/")?;
        let verdict = daemon.until_verdict("queue-full", |_| true)?;
        assert_eq!(
            figures(&verdict, ["queued", "limit"]),
            [Some(u64::from(limit) + 1), Some(u64::from(limit))],
            "{verdict:?}"
        );
        assert_eq!(verdict.subject.address, address);

        let refused = listening::begin_connections(server.tcp[1], 5)?;
        let diagnosis = daemon.until_diagnosed("drops, and why", |it| {
            codes(it)
                == [
                    (Severity::Critical, "workers-saturated"),
                    (Severity::Critical, "queue-dropping"),
                ]
        })?;
        let dropping = of(&diagnosis, "queue-dropping")?;
        assert_eq!(dropping.subject.address, address);
        assert!(dropping.text.contains("of 8 (the app's listen backlog)"));
        assert!(figures(dropping, ["recent_overflows"]) >= [Some(5)]);
        drop(refused);
        drop(hold);
        answered(&mut waiting)?;
        drop(in_turn);
        daemon.until_diagnosed("workers with time", |it| {
            of(it, "workers-saturated").is_err()
        })?;
        daemon.until_well()?;
        Ok(())
    })
}

/// Check that workers that hold as many idle clients as they may, so that others wait, are told from
/// workers that are busy.
#[test]
fn idle_clients_take_every_place() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("rainbows")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = rainbows::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        // As many as both workers have places for.
        let clients = idle(&listener, 16)?;
        let mut waiting = asking(&listener, 6, "/")?;
        let verdict = daemon.until_verdict("worker-at-limit", |_| true)?;
        assert_eq!(
            figures(&verdict, ["clients", "workers", "queued"]),
            [Some(16), Some(2), Some(6)],
            "{verdict:?}"
        );
        assert_eq!(verdict.subject.address, Some(listener.to_string()));
        drop(clients);
        answered(&mut waiting)?;
        daemon.until_well()?;
        Ok(())
    })
}

/// Check that a listener that a process holds and never accepts from is told.
#[test]
fn listener_that_nobody_accepts_from() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listener = listening::tcp(16)?;
        let address = listener.local_addr()?;
        let mut acceptor = Acceptor::start(&listener)?;
        drop(listener);
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let clients: Vec<_> = (0..3)
            .map(|_| TcpStream::connect(address))
            .collect::<Result<_, _>>()?;
        let verdict = daemon.until_verdict("no-acceptor", |_| true)?;
        assert_eq!(verdict.subject.address, Some(address.to_string()));
        assert_eq!(verdict.subject.pid, Some(acceptor.pid()));
        let names = ["queued", "holders"];
        assert_eq!(figures(&verdict, names), [Some(3), Some(1)]);
        for _ in &clients {
            acceptor.accept()?;
        }
        daemon.until_well()?;
        Ok(())
    })
}
