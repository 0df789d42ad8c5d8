//! Figures of each worker, held against what the workers count themselves.

use std::{ffi::OsStr, net::TcpStream};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    ability,
    daemon::{self, Place, User},
    http, listening, load,
    lookup::{connections, listener, worker},
    netns,
    servers::epoll::Workers,
    skip::{Need, can_run},
    wait::CEILING,
};
use raindrops_user::view::View;

const CONNECTIONS: usize = 400;

/// Check that of four processes sharing a listener, each has exactly the accepts that it counts,
/// and that where the kernel may skip events, those that are missing are late accepts.
#[test]
fn workers_accepts_equal_their_own_counts() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let titles = [OsStr::new("epoll_worker"); 4];
        let program = env!("CARGO_BIN_EXE_epoll_worker");
        let workers = Workers::start(program, listening::tcp(128)?, &titles)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        daemon::expect_bpf(&daemon.view()?)?;
        // Whoever takes this one waits for its request, so that the load goes to another.
        let mut held = TcpStream::connect(workers.address)?;
        held.set_read_timeout(Some(CEILING))?;
        load::tcp(workers.address, CONNECTIONS - 1)?;
        assert_eq!(http::request(&mut held, "/")?.status, 200);

        let address = workers.address.to_string();
        let accepts = |view: &View| listener(view, &address).ok()?.connections.as_ref()?.accepts;
        let view = daemon.until("all accepts", |view| {
            accepts(view) >= Some(CONNECTIONS as u64)
        })?;
        assert_eq!(accepts(&view), Some(CONNECTIONS as u64));
        let row = listener(&view, &address)?;
        let counts = workers.counts()?;
        let busy = counts.iter().filter(|(_, count)| *count > 0).count();
        assert!(busy > 1, "nothing to tell apart: {counts:?}");
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        assert_eq!(total, CONNECTIONS as u64, "what the workers count");
        let mut missed = 0;
        for (pid, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let shown = worker(&view, pid)?;
            let accepts = shown.accepts.context("a worker without accepts")?;
            ensure!(accepts <= count, "worker {pid}: {accepts} of {count}");
            missed += count - accepts;
            let part = shown.listeners.iter().find(|part| part.id == row.id);
            let part = part.and_then(|part| part.accepts);
            assert_eq!(part, Some(accepts), "worker {pid}");
            let waits = shown.wait.as_ref().map(|wait| wait.count);
            assert_eq!(waits, Some(accepts), "worker {pid}");
            assert!(row.workers.as_ref().is_some_and(|pids| pids.contains(&pid)));
        }
        assert_eq!(connections(row)?.late_accepts, Some(missed));
        if ability::may_skip_accepts()? {
            let value = "all but those that were skipped, which are late accepts";
            return ability::state("accepts told by worker", value);
        }
        assert_eq!(missed, 0);
        ability::state("accepts told by worker", "all")
    })
}
