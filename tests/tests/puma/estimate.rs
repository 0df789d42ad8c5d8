//! Estimates, where nobody has configured the control server: at each load what they claim has to be what
//! the control server says.

use std::cell::RefCell;

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    client::{self, Address},
    daemon::{Place, User},
    http, netns,
    servers::{Server, middleware::Counted, puma},
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::{
    View,
    puma::{PumaSource, PumaWorker},
};
use serde_json::Value;

use crate::{path, puma as figures, stats};

const THREADS: u64 = 4;

/// The only process, as the view estimates it.
fn estimated(view: &View) -> Result<&PumaWorker> {
    let puma = figures(view).context("no figures of puma")?;
    ensure!(puma.source == PumaSource::Estimate, "{puma:?}");
    let [worker] = &puma.workers[..] else {
        anyhow::bail!("one process: {puma:?}");
    };
    Ok(worker)
}

/// What an estimate has to be where the control server says this: it does not count the backlog among
/// the busy threads, and says nothing of threads that puma could still make.
fn expected(said: &Value, pid: u32) -> Result<PumaWorker> {
    let figure = |name: &str| {
        let figure = said[name].as_u64();
        figure.with_context(|| format!("no {name} in {said}"))
    };
    let [backlog, running, capacity, most] = [
        figure("backlog")?,
        figure("running")?,
        figure("pool_capacity")?,
        figure("max_threads")?,
    ];
    Ok(PumaWorker {
        pid: Some(pid),
        backlog: Some(backlog),
        running: Some(running),
        busy_threads: Some(most - capacity),
        ..PumaWorker::default()
    })
}

/// Parks requests one by one, and compares all figures with what the control server says before and
/// after.
fn at_each_load(server: &Server, listener: &Address) -> Result<()> {
    let place = Place::new()?;
    let daemon = place.start(User::Same, &[])?;
    let control = server.path(puma::CONTROL);
    let ask = || stats(|| http::get(&control, &path()));
    let count = THREADS as usize + 3;
    let mut clients = client::idle(listener, count)?;

    // Threads are known to answer once they have.
    let hold = server.hold("begin")?;
    for client in &mut clients {
        client.ask("/park/begin")?;
    }
    let all_busy = Counted {
        calling: THREADS,
        writing: 0,
    };
    wait::until("busy threads", || {
        Ok((server.middleware()? == all_busy).then_some(()))
    })?;
    drop(hold);
    client::answered(&mut clients)?;

    let hold = server.hold("load")?;
    for parked in 0..=count as u64 {
        if parked > 0 {
            clients[parked as usize - 1].ask("/park/load")?;
        }
        let (busy, backlog) = (parked.min(THREADS), parked.saturating_sub(THREADS));
        // A thread waits on its client for 0.2 s after an answer, which puma counts as work.
        let (said, expected) = wait::until("puma to have taken them", || {
            let said = ask()?;
            let expected = expected(&said, server.master())?;
            let is_taken = expected.backlog == Some(backlog)
                && expected.busy_threads == Some(busy)
                && server.middleware()?.calling == busy
                // What was asked before may be of before the last was counted.
                && ask()? == said;
            Ok(is_taken.then_some((said, expected)))
        })?;
        let last = RefCell::new(None);
        let found = daemon.until("the same figures", |view| {
            *last.borrow_mut() = estimated(view).ok().cloned();
            last.borrow().as_ref() == Some(&expected)
        });
        found.with_context(|| format!("{parked} parked: {last:?}, not {expected:?} of {said}"))?;
        // Nor does it become anything else.
        for _ in 0..3 {
            let view = daemon.looked_anew(&[listener.to_string()])?;
            assert_eq!(*estimated(&view)?, expected, "{parked} parked");
        }
        assert_eq!(ask()?, said);
    }
    drop(hold);
    client::answered(&mut clients)
}

/// Check estimates of a pool of a fixed size at every load from none to three more requests than it has
/// threads.
#[test]
fn a_fixed_pool() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(0, "4:4")?;
        at_each_load(&server, &Address::Tcp(server.tcp[0]))
    })
}

/// Check the same of a pool that grows, over its unix listener.
#[test]
fn a_growing_pool() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(0, "1:4")?;
        at_each_load(&server, &Address::Unix(server.unix[0].clone()))
    })
}
