//! gunicorn's hooks, with workers of one thread and of several.

use anyhow::{Context as _, Result};
use raindrops_slab::{Slab, read::Value};
use raindrops_tests::{
    client::{self, Address},
    netns,
    servers::gunicorn,
    skip::{Need, can_run},
    slab, wait,
};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn with_one_thread() -> Result<()> {
    check(&[])
}

#[test]
fn with_threads() -> Result<()> {
    check(&["--worker-class", "gthread", "--threads", "4"])
}

/// Check that requests are counted, each once, and that what a killed worker was doing is gone.
fn check(arguments: &[&str]) -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("gunicorn"), Need::SlabLibrary]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = gunicorn::start_with_slab(arguments)?;
        let address = Address::Tcp(server.tcp[0]);
        let file = Slab::open(&server.slab())?;
        let of_slab = || -> Result<(u64, i64)> {
            let totals = file.totals();
            let requests = totals.counter("requests").context("no requests")?;
            Ok((requests, totals.gauge("calling").context("no calling")?))
        };
        let is = |expected: (u64, i64)| {
            let mut last = (0, 0);
            let reached = wait::until("requests and calling", || {
                last = of_slab()?;
                Ok((last == expected).then_some(()))
            });
            reached.with_context(|| format!("{last:?}, not {expected:?}"))
        };
        // The first requests, which said that it serves, have been counted when they are over.
        let mut begun = of_slab()?.0;
        wait::until("rest", || {
            let (requests, calling) = of_slab()?;
            let is_at_rest = requests == begun && calling == 0;
            begun = requests;
            Ok(is_at_rest.then_some(()))
        })?;
        for _ in 0..10 {
            client::short(&address, "/")?;
        }
        is((begun + 10, 0))?;
        // Workers that have not had a request are there, too.
        let pids: Vec<u32> = slab::by_worker(&server.slab())?
            .iter()
            .map(|it| it.pid)
            .collect();
        assert_eq!(pids.len(), server.workers().len(), "{pids:?}");

        let parked = server.hold("parked")?;
        let waiting = client::asking(&address, 1, "/park/parked")?;
        is((begun + 10, 1))?;
        let workers = slab::by_worker(&server.slab())?;
        let is_busy = |it: &&slab::OfWorker| it.count("calling").is_ok_and(|it| it == 1);
        let busy = workers.iter().find(is_busy).context("nobody is calling")?;
        kill_process(
            Pid::from_raw(busy.pid.cast_signed()).context("pid 0")?,
            Signal::KILL,
        )?;
        is((begun + 10, 0))?;
        drop((parked, waiting));

        client::short(&address, "/")?;
        is((begun + 11, 0))?;
        let Some(Value::Histogram { buckets, .. }) = file.totals().get("answer").cloned() else {
            anyhow::bail!("no histogram");
        };
        assert_eq!(buckets.iter().sum::<u64>(), begun + 11);
        Ok(())
    })
}
