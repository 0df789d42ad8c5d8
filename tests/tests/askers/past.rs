//! The past, against what was done.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{Daemon, Place, User},
    listening, lookup, netns,
    skip::{Need, can_run},
    wait::{self, CEILING},
};
use raindrops_user::view::{
    View,
    history::{History, ListenerHistory},
};

fn history(daemon: &Daemon, query: &str) -> Result<History> {
    let answer = daemon.get(&format!("/v1/history?{query}"))?;
    anyhow::ensure!(answer.status == 200, "{}", answer.text()?);
    Ok(serde_json::from_slice(&answer.body)?)
}

fn of<'a>(history: &'a History, address: &str) -> Result<&'a ListenerHistory> {
    let mut listeners = history.listeners.iter();
    listeners
        .find(|it| it.address == address)
        .context("no such listener in the past")
}

/// Check that the accepts of all steps are those that were made, that a queue that was emptied again
/// stays in the past, and that coarser steps tell the same sums.
#[test]
fn accepts_and_queues() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    const ROUNDS: u32 = 6;
    const EACH: u32 = 5;
    netns::in_new(|| {
        let listening = listening::tcp(64)?;
        let address = listening.local_addr()?.to_string();
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        wait::until("a first step", || {
            Ok((!history(&daemon, "")?.times_ms.is_empty()).then_some(()))
        })?;
        for round in 1..=ROUNDS {
            let clients = listening::begin_connections(listening.local_addr()?, EACH as usize)?;
            daemon.until("a queue", |view| {
                lookup::listener(view, &address).is_ok_and(|it| it.queue.queued == Some(EACH))
            })?;
            (0..EACH).try_for_each(|_| listening.accept().map(drop))?;
            daemon.until("every accept", |view| {
                let accepts = lookup::listener(view, &address)
                    .and_then(lookup::connections)
                    .map(|it| it.accepts);
                accepts.is_ok_and(|it| it == Some(u64::from(round * EACH)))
            })?;
            drop(clients);
        }
        let sum = |figures: &[Option<u32>]| figures.iter().flatten().sum::<u32>();
        let past = wait::until("steps with all accepts", || {
            let past = history(&daemon, &format!("listener={address}"))?;
            let all = sum(&of(&past, &address)?.accepts) == ROUNDS * EACH;
            Ok(all.then_some(past))
        })?;
        let row = of(&past, &address)?;
        assert_eq!(row.peak.iter().flatten().max(), Some(&EACH));
        assert_eq!(row.queued.last(), Some(&Some(0)));
        assert_eq!(sum(&row.overflows), 0);
        assert_eq!(past.times_ms.len(), row.accepts.len());
        let waits = row.wait_p99_us.iter().zip(&row.accepts);
        for (wait, accepts) in waits.filter(|(_, accepts)| accepts.is_some()) {
            assert_eq!(wait.is_some(), *accepts > Some(0), "{row:?}");
        }
        // Less than one, as it is young, and so whole: the first step is not known.
        let coarse = history(&daemon, "step=1h")?;
        assert!(coarse.times_ms.len() <= 2, "{:?}", coarse.times_ms);
        assert_eq!(
            of(&coarse, &address)?.peak.iter().flatten().max(),
            Some(&EACH)
        );
        Ok(())
    })
}

/// Check that each line of a stream is a later view, also while nobody else asks.
#[test]
fn stream() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        let mut stream = UnixStream::connect(daemon.socket())?;
        stream.set_read_timeout(Some(CEILING))?;
        stream.write_all(b"GET /v1/stream?interval=100ms HTTP/1.1\r\nhost: x\r\n\r\n")?;
        let mut taken = Vec::new();
        for line in BufReader::new(stream).lines() {
            let line = line?;
            if line.starts_with('{') {
                let view: View = serde_json::from_str(&line)?;
                taken.push(view.monotonic_ns);
            }
            if taken.len() == 10 {
                break;
            }
        }
        assert_eq!(taken.len(), 10, "the stream ended");
        assert!(taken.is_sorted_by(|a, b| a < b), "{taken:?}");
        Ok(())
    })
}
