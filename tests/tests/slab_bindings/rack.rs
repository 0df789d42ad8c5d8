//! The Rack middleware in real servers, beside Raindrops::Middleware in the same processes.

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    client::{self, Address, Client},
    netns,
    servers::{Server, puma, unicorn},
    skip::{Need, can_run},
    slab, wait,
};
use rustix::process::{Pid, Signal, kill_process};

/// What both say, by their own account.
const OURS: &str = "/_slab";
const THEIRS: &str = "/_raindrops";

#[test]
fn in_unicorn() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("unicorn"), Need::SlabLibrary]) {
        return Ok(());
    }
    netns::in_new(|| check(&unicorn::start_with_slab(4)?))
}

#[test]
fn in_puma() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("puma"), Need::SlabLibrary]) {
        return Ok(());
    }
    netns::in_new(|| check(&puma::start_with_slab(2, "4:4")?))
}

/// Check that both say the same of requests that the application works on and that it answers, and
/// that after a worker was killed only theirs still has what it was doing.
fn check(server: &Server) -> Result<()> {
    let address = Address::Tcp(server.tcp[0]);
    same(&address, 0, 0)?;

    let parked = server.hold("parked")?;
    let streamed = server.hold("streamed")?;
    let one_parked = client::asking(&address, 1, "/park/parked")?;
    same(&address, 1, 0)?;
    let mut streaming = client::asking(&address, 1, "/stream/streamed")?;
    same(&address, 1, 1)?;
    let mut another = client::asking(&address, 1, "/park/parked")?;
    same(&address, 2, 1)?;
    drop(streamed);
    client::answered(&mut streaming)?;
    same(&address, 2, 0)?;

    let busy = busiest(server)?;
    let lost = busy.count("calling")?;
    let pid = Pid::from_raw(busy.pid.cast_signed()).context("pid 0")?;
    kill_process(pid, Signal::KILL)?;
    // Another worker may have the other request.
    says(&address, OURS, 2 - lost, 0)?;
    says(&address, THEIRS, 2, 0)?;
    drop(parked);
    if lost == 1 {
        // One of the two clients has its answer; the other's worker is gone.
        let mut both = one_parked.into_iter().chain(another.drain(..));
        ensure!(both.any(|mut client| client.answered().is_ok()));
    }
    says(&address, OURS, 0, 0)?;
    says(&address, THEIRS, lost, 0)?;
    counts_requests(server, &address)
}

/// Check that requests of the living are counted, each once.
fn counts_requests(server: &Server, address: &Address) -> Result<()> {
    let before = requests(server)?;
    for _ in 0..10 {
        client::short(address, "/")?;
    }
    assert_eq!(requests(server)?, before + 10);
    Ok(())
}

fn requests(server: &Server) -> Result<i64> {
    let workers = slab::by_worker(&server.slab())?;
    workers.iter().map(|worker| worker.count("requests")).sum()
}

/// The worker with most requests in the application.
fn busiest(server: &Server) -> Result<slab::OfWorker> {
    let workers = slab::by_worker(&server.slab())?;
    let busiest = workers
        .into_iter()
        .max_by_key(|worker| worker.count("calling").unwrap_or(0));
    busiest.context("nobody counts")
}

/// Waits until both say so, in the same words: theirs, ours, theirs.
fn same(address: &Address, calling: i64, writing: i64) -> Result<()> {
    says(address, OURS, calling, writing)?;
    says(address, THEIRS, calling, writing)?;
    wait::until("the same text of both", || {
        let [before, ours, after] = [THEIRS, OURS, THEIRS].map(|path| text(address, path));
        let (before, ours, after) = (before?, ours?, after?);
        Ok((before == after && ours == before).then_some(()))
    })
}

fn says(address: &Address, path: &str, calling: i64, writing: i64) -> Result<()> {
    let expected = format!("calling: {calling}\nwriting: {writing}\n");
    let mut last = String::new();
    let said = wait::until(path, || {
        last = text(address, path)?;
        Ok(last.starts_with(&expected).then_some(()))
    });
    said.with_context(|| format!("{last:?} does not begin with {expected:?}"))
}

fn text(address: &Address, path: &str) -> Result<String> {
    let mut client = Client::connect(address)?;
    client.ask_and_close(path)?;
    Ok(String::from_utf8(client.answered()?)?)
}
