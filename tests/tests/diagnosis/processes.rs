//! Processes as such, and ourselves.

use std::{cell::Cell, fs, net::TcpStream, thread, time::Duration};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    client::{Address, idle},
    daemon::{Place, User},
    doctor::figures,
    netns, processes,
    servers::{nginx, puma, unicorn},
    skip::{Need, can_run},
    wait,
};
use raindrops_user::diagnose::{Severity, Verdict};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

/// Check that workers that end as soon as they start are told, with their server.
#[test]
fn workers_that_die_at_once() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let workers = server.workers();
        daemon.until("its workers", |view| {
            let pids: Vec<u32> = view.workers.iter().map(|it| it.pid).collect();
            workers.iter().all(|pid| pids.contains(pid))
        })?;
        let dying = server.hold("dying")?;
        // One is replaced again and again, the other one lives.
        processes::signal(workers[0], Signal::KILL)?;
        let verdict = daemon.until_verdict("worker-crash-loop", |_| true)?;
        assert_eq!(verdict.subject.pid, Some(server.master()));
        let [ends, life] = figures(&verdict, ["exits", "median_life_ms"]);
        assert!(ends >= Some(3) && life < Some(5000), "{verdict:?}");
        drop(dying);
        Ok(())
    })
}

/// Check that a process whose clients leave it few descriptors is told before it has none.
#[test]
fn descriptors_nearly_used_up() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(0, "2:2")?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let pid = server.master();
        let mut clients = idle(&listener, 30)?;
        // All accepted, and the daemon counts as many descriptors as there are.
        let settled = |clients: usize| -> Result<u64> {
            let open = Cell::new(None);
            daemon.until("the clients", |view| {
                let directory = fs::read_dir(format!("/proc/{pid}/fd"));
                open.set(directory.ok().map(|it| it.count() as u64));
                let mut workers = view.workers.iter();
                workers.any(|it| {
                    it.pid == pid && it.clients == Some(clients as u64) && it.fds == open.get()
                })
            })?;
            open.get().context("descriptors")
        };
        let limit_to = |limit: u64| {
            let limits = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            prlimit(Pid::from_raw(pid.cast_signed()), Resource::Nofile, limits)
        };
        // One client more is 9 in 10 of what it may have.
        let open = settled(clients.len())?;
        let limit = (open + 1) * 10 / 9;
        limit_to(limit)?;
        // Limits are read every ten seconds.
        wait::within(2 * wait::ceiling(), "the limit", || {
            let view = daemon.view()?;
            let mut workers = view.workers.iter();
            let is_seen = workers.any(|it| it.pid == pid && it.fd_limit == Some(limit));
            Ok(is_seen.then_some(()))
        })?;
        daemon.until_well()?;
        clients.extend(idle(&listener, 1)?);
        let open = settled(clients.len())?;
        let is_told =
            |verdict: &Verdict| figures(verdict, ["fds", "fd_limit"]) == [Some(open), Some(limit)];
        let verdict = daemon.until_verdict("fd-limit", is_told)?;
        assert_eq!(verdict.severity, Severity::Warning);
        assert_eq!(verdict.subject.pid, Some(pid));
        // All but one.
        clients.extend(idle(&listener, usize::try_from(limit - open - 1)?)?);
        daemon.until_verdict("fd-limit", |it| it.severity == Severity::Critical)?;
        drop(clients);
        daemon.until_well()?;
        Ok(())
    })
}

/// Check that a table of connections that is full is told: the numbers are wrong. Once the connections
/// that found no room have gone, only totals are, which is no trouble.
#[test]
fn table_of_connections_is_full() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("nginx")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = nginx::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--max-connections", "64"])?;
        let clients: Vec<TcpStream> = (0..200)
            .map(|_| TcpStream::connect(server.tcp[0]))
            .collect::<Result<_, _>>()?;
        let verdict = daemon.until_verdict("blind", |_| true)?;
        // Those who ask doctor are clients of the daemon, and not followed either.
        let [missed] = figures(&verdict, ["map-full"]);
        assert!(missed >= Some(clients.len() as u64 - 64), "{verdict:?}");
        assert!(verdict.next.contains("--max-connections"), "{verdict:?}");
        drop(clients);
        // So long must nothing be missed.
        thread::sleep(Duration::from_secs(10));
        let diagnosis = daemon.until_well()?;
        let past = |it: &Verdict| it.verdict == "blind" && it.text.starts_with("totals since ");
        assert!(diagnosis.verdicts.iter().all(past), "{diagnosis:?}");
        let is_told = |it: &Verdict| it.evidence.contains_key("map-full");
        assert!(diagnosis.verdicts.iter().any(is_told), "{diagnosis:?}");
        Ok(())
    })
}
