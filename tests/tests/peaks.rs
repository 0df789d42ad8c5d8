//! Queues that are long for less time than lies between two samples.

use std::{os::unix::net::UnixListener, os::unix::net::UnixStream, time::SystemTime};

use anyhow::Result;
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening,
    lookup::{connections, listener},
    netns,
    skip::{Need, can_run},
};
use raindrops_user::view::Listener;

/// Connections that wait at the same time.
const WAITING: u32 = 17;

/// Samples are a second apart, so that an emptied queue is most likely seen by none.
const SLOW: [&str; 2] = ["--sample-hz", "1"];

/// Check that the longest queue is known when it was emptied before the next sample.
#[test]
fn short_tcp_queue() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(64)?;
        let address = listening.local_addr()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &SLOW)?;
        let before = SystemTime::now();
        let clients = listening::begin_connections(address, WAITING as usize)?;
        let accepted: Vec<_> = (0..WAITING).map(|_| listening.accept()).collect();
        let after = SystemTime::now();
        has_peaked(&daemon, &address.to_string(), (before, after))?;
        drop((clients, accepted));
        Ok(())
    })
}

#[test]
fn short_unix_queue() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let path = place.path().join("app.sock");
        let listening = UnixListener::bind(&path)?;
        let daemon = place.start(User::Same, &SLOW)?;
        let before = SystemTime::now();
        let clients = (0..WAITING)
            .map(|_| UnixStream::connect(&path))
            .collect::<Result<Vec<_>, _>>()?;
        let accepted: Vec<_> = (0..WAITING).map(|_| listening.accept()).collect();
        let after = SystemTime::now();
        has_peaked(&daemon, &path.to_string_lossy(), (before, after))?;
        drop((clients, accepted));
        Ok(())
    })
}

/// Where the kernel does not tell of arrivals, a peak between samples is missed, and the view says
/// that it may have been.
fn has_peaked(daemon: &Daemon, address: &str, within: (SystemTime, SystemTime)) -> Result<()> {
    let all_accepted = |row: &Listener| {
        connections(row).is_ok_and(|shown| shown.accepts == Some(u64::from(WAITING)))
    };
    let view = daemon.until("every accept", |view| {
        listener(view, address).is_ok_and(all_accepted)
    })?;
    let row = listener(&view, address)?;
    let sees_arrivals = daemon::source(&view, "bpf")?
        .detail
        .get("listener")
        .is_some_and(|way| way == "sk_data_ready");
    assert_eq!(row.queue.peak_exact, Some(sees_arrivals));
    if sees_arrivals {
        assert_eq!(row.queue.peak, Some(WAITING));
        assert_eq!(row.recent.peak, Some(WAITING));
        let at = row.queue.peak_at.expect("a peak has a time");
        // The programs keep it in units of 2^20 ns, and views print milliseconds.
        let slack = std::time::Duration::from_millis(3);
        assert!(
            within.0 - slack <= at && at <= within.1 + slack,
            "{within:?} {at:?}"
        );
    }
    Ok(())
}
