//! A full queue, and healthy ones that only look like it.

use anyhow::Result;
use raindrops_tests::{
    daemon::{self, Place, User},
    listening, load,
    lookup::listener,
    netns,
    servers::unicorn,
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::Listener;

const BACKLOG: u32 = 8;
const CONNECTS: usize = 60;
const REQUESTS: usize = 500;

/// Check queue, limit and overflows of a listener on which nobody accepts. The truth is the
/// namespace's ListenOverflows, of which this is the only listener.
#[test]
fn full_queue_overflows() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(BACKLOG.cast_signed())?;
        let address = listening.local_addr()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let start = netns::listen_overflows()?;
        let _connections = listening::begin_connections(address, CONNECTS)?;
        let address = address.to_string();
        let view = daemon.until("a full queue with overflows", |view| {
            listener(view, &address).is_ok_and(|row| {
                row.queue.queued == Some(BACKLOG + 1) && row.queue.overflows > Some(0)
            })
        })?;
        let queue = &listener(&view, &address)?.queue;
        assert_eq!(queue.limit, Some(BACKLOG));
        assert_eq!(queue.peak, Some(BACKLOG + 1));
        assert!(queue.drops >= queue.overflows, "{queue:?}");

        // Clients retry, so the truth moves: take it before the sample and after the view.
        let (low, at) = (netns::listen_overflows()? - start, wait::monotonic_ns());
        let shown = wait::until("a sample after the reading", || {
            let view = daemon.view()?;
            let sampled = daemon::read_at_ns(&view, "sock_diag")?;
            let overflows = listener(&view, &address)?.queue.overflows;
            Ok((sampled > at).then_some(overflows))
        })?;
        let high = netns::listen_overflows()? - start;
        let shown = shown.expect("overflows of a TCP listener are known");
        assert!(low <= shown && shown <= high, "{low} <= {shown} <= {high}");
        Ok(())
    })
}

/// Check that healthy requests to a TCP_DEFER_ACCEPT listener, each of which the kernel counts
/// as a drop, are not overflows.
#[test]
fn deferred_accepts_are_no_overflows() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let unicorn = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let address = unicorn.tcp[0].to_string();
        let first = daemon.view()?;
        daemon::expect_bpf(&first)?;
        let before = listener(&first, &address)?.clone();
        let accepts = |row: &Listener| row.connections.as_ref().and_then(|groups| groups.accepts);
        let expected = accepts(&before).map(|accepts| accepts + REQUESTS as u64);
        load::tcp(unicorn.tcp[0], REQUESTS)?;
        // All of them, because overflows of those not yet seen would not be missed.
        let loaded = wait::monotonic_ns();
        let view = daemon.until(
            "every request, in a reading of the queue after them",
            |view| {
                let read = daemon::read_at_ns(view, "sock_diag");
                listener(view, &address).is_ok_and(|row| accepts(row) == expected)
                    && read.is_ok_and(|read| read > loaded)
            },
        )?;
        let row = listener(&view, &address)?;
        assert!(row.queue.drops > before.queue.drops, "{:?}", row.queue);
        assert_eq!(listener(&view, &address)?.queue.overflows, Some(0));
        assert_eq!(netns::listen_overflows()?, 0, "the kernel's own count");
        Ok(())
    })
}
