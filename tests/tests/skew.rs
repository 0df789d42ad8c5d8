//! How unevenly accepts are spread, held against who says that it has answered.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    client::{Address, Client},
    daemon::{Daemon, Place, User},
    lookup, netns, processes,
    servers::{Server, unicorn},
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::{Skew, View, recent::WINDOW};
use rustix::process::Signal;

/// Below so many for each worker nothing is said.
const ENOUGH: u64 = 20;
/// While each of the workers is stopped: connections to the TCP listener, and to the unix listener.
const LOADS: [[usize; 2]; 3] = [[70, 0], [30, 65], [20, 25]];

/// Who has answered how many of them.
type Counts = BTreeMap<u32, u64>;

fn lead(to: &Address, count: usize, counts: &mut Counts) -> Result<()> {
    for _ in 0..count {
        let mut client = Client::connect(to)?;
        client.ask_and_close("/")?;
        let body = String::from_utf8(client.answered()?)?;
        let pid: u32 = body.trim().strip_prefix("hi ").context("no pid")?.parse()?;
        let count = counts.get_mut(&pid);
        *count.with_context(|| format!("{pid} is no worker"))? += 1;
    }
    Ok(())
}

/// Ratio and accepts: none of one worker's share of too few.
fn expected(counts: &Counts) -> Option<(f64, u64)> {
    let (workers, total) = (counts.len() as u64, counts.values().sum::<u64>());
    let most = *counts.values().max()?;
    let ratio = (most * workers - total) as f64 / (total * (workers - 1)) as f64;
    (total >= ENOUGH * workers).then_some((ratio, total))
}

/// Shown to three places.
fn is_ratio(shown: f64, expected: f64) -> Result<()> {
    ensure!(
        (shown - expected).abs() <= 0.000_6,
        "{shown}, not {expected}"
    );
    Ok(())
}

fn of_listener<'a>(view: &'a View, to: &Address) -> Result<Option<&'a Skew>> {
    Ok(lookup::listener(view, &to.to_string())?.skew.as_ref())
}

/// Compares what is shown of both listeners and of the server, once it shows all.
fn is_as_counted(
    daemon: &Daemon,
    listeners: &[Address; 2],
    counts: &[Counts; 2],
    began: u64,
) -> Result<()> {
    let mut all = counts[0].clone();
    for (pid, count) in &counts[1] {
        *all.entry(*pid).or_default() += count;
    }
    let total = expected(&all).map(|(_, total)| total);
    let view = daemon.until("all accepts", |view| {
        lookup::server(view, "unicorn").is_ok_and(|server| server.skew_accepts == total)
    })?;
    let server = lookup::server(&view, "unicorn")?;
    match (server.skew, expected(&all)) {
        (Some(shown), Some((ratio, _))) => is_ratio(shown, ratio).context("the server")?,
        (None, None) => {}
        others => anyhow::bail!("the server: {others:?}"),
    }
    for (to, counts) in listeners.iter().zip(counts) {
        match (of_listener(&view, to)?, expected(counts)) {
            (Some(skew), Some((ratio, total))) => {
                is_ratio(skew.ratio, ratio).with_context(|| to.to_string())?;
                assert_eq!((skew.accepts, skew.workers), (total, 3), "{to}");
                assert_eq!(counts.get(&skew.pid), counts.values().max(), "{to}");
                let most = (view.monotonic_ns - began) / 1_000_000;
                ensure!(skew.over_ms <= most, "{to}: {skew:?} of {most} ms");
            }
            (None, None) => {}
            others => anyhow::bail!("{to}: {others:?}"),
        }
    }
    Ok(())
}

/// Stops one worker after the other while the others accept. Whether all was within the time of which
/// skew is taken.
fn stop_each(server: &Server, listeners: &[Address; 2]) -> Result<bool> {
    let began = wait::monotonic_ns();
    let place = Place::new()?;
    let daemon = place.start(User::Same, &[])?;
    let loaded = Instant::now();
    let workers = server.workers();
    let none: Counts = workers.iter().map(|pid| (*pid, 0)).collect();
    let mut counts = [none.clone(), none];
    for (pid, load) in workers.into_iter().zip(LOADS) {
        processes::stop(pid)?;
        let before = [0, 1].map(|nth| counts[nth][&pid]);
        for nth in [0, 1] {
            lead(&listeners[nth], load[nth], &mut counts[nth])?;
        }
        assert_eq!(
            [0, 1].map(|nth| counts[nth][&pid]),
            before,
            "{pid} is stopped"
        );
        if loaded.elapsed() > WINDOW / 2 {
            return processes::signal(pid, Signal::CONT).map(|()| false);
        }
        is_as_counted(&daemon, listeners, &counts, began)?;
        processes::signal(pid, Signal::CONT)?;
    }
    Ok(true)
}

/// Check skew of a server and of its listeners while one worker is stopped and others accept.
#[test]
fn is_of_the_workers_own_counts() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start_with(3)?;
        let listeners = [
            Address::Tcp(server.tcp[0]),
            Address::Unix(server.unix[0].clone()),
        ];
        wait::until("a machine that is fast enough", || {
            Ok(stop_each(&server, &listeners)?.then_some(()))
        })
    })
}
