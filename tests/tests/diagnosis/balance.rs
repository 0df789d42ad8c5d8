//! How work is spread over the workers.

use anyhow::{Result, ensure};
use raindrops_tests::{
    client::{Address, answered, idle},
    daemon::{Place, User},
    doctor::figures,
    load, netns, processes,
    servers::{Server, nginx, puma},
    skip::{Need, can_run},
    wait,
};
use rustix::process::Signal;

/// Runs `body` while a worker is stopped.
fn without<T>(pid: u32, body: impl FnOnce() -> Result<T>) -> Result<T> {
    processes::stop(pid)?;
    let outcome = body();
    processes::signal(pid, Signal::CONT)?;
    outcome
}

fn two(server: &Server) -> Result<[u32; 2]> {
    let workers = server.workers();
    <[u32; 2]>::try_from(workers).map_err(|it| anyhow::anyhow!("two workers: {it:?}"))
}

/// Check that one worker that takes everything is seen, and is no verdict while nobody waits.
#[test]
fn light_load_on_one_worker() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("nginx")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = nginx::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let [favoured, other] = two(&server)?;
        without(other, || load::unix(&server.unix[0], 200))?;
        daemon.until("one with most", |view| {
            let mut skews = view.listeners.iter().filter_map(|it| it.skew.as_ref());
            skews.any(|skew| skew.pid == favoured && skew.ratio >= 0.5 && skew.accepts >= 100)
        })?;
        let diagnosis = daemon.until_well()?;
        ensure!(
            diagnosis.verdicts.iter().all(|it| it.verdict != "skew"),
            "{diagnosis:?}"
        );
        Ok(())
    })
}

/// Check that it is trouble when requests wait inside this worker, and another has nothing to do.
#[test]
fn one_worker_with_all_connections() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(2, "4:4")?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let [favoured, other] = two(&server)?;
        without(favoured, || load::tcp(server.tcp[0], 10))?;
        let mut clients = without(other, || {
            load::tcp(server.tcp[0], 150)?;
            idle(&listener, 12)
        })?;
        let hold = server.hold("all")?;
        for client in &mut clients {
            client.ask("/park/all")?;
        }
        wait::until("busy threads", || {
            Ok((server.middleware()?.calling == 4).then_some(()))
        })?;
        let verdict = daemon.until_verdict("skew", |_| true)?;
        assert_eq!(verdict.subject.pid, Some(favoured));
        assert_eq!(verdict.subject.address, Some(listener.to_string()));
        let [share, idle, waiting] =
            figures(&verdict, ["share_percent", "idle_workers", "waiting"]);
        ensure!(share >= Some(75), "{verdict:?}");
        assert_eq!((idle, waiting), (Some(1), Some(8)), "{verdict:?}");

        drop(hold);
        answered(&mut clients)?;
        daemon.until_well()?;
        Ok(())
    })
}
