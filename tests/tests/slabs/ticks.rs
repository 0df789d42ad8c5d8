//! unicorn's signs of life: of a worker that is stopped, and of one that works.

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    client::{Address, Client},
    daemon::{Place, User},
    netns, processes,
    servers::{Server, unicorn},
    shown_slabs,
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::{View, slabs::Number};
use rustix::process::Signal;

use super::is_of;

const SECOND: u64 = 1_000_000_000;
/// unicorn kills it after 30.
const GROWN: u64 = 5;

/// Check that the last sign of a stopped worker grows old, and that of the other does not.
#[test]
fn a_stopped_worker_gives_none() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let (stopped, other) = (asked(&server, 1)?, asked(&server, 2)?);
        let view = daemon.until_slab("unicorn-tick")?;
        let all = [server.master(), stopped, other];
        let slab = shown_slabs::only(&view, "unicorn-tick")?;
        is_of(slab, &format!("unicorn:{}", server.master()), all);
        assert_eq!(shown_slabs::totals(slab), [("tick_age_s", None)]);

        asked(&server, 1)?;
        processes::stop(stopped)?;
        let stopped_ns = wait::monotonic_ns();
        wait::within(2 * wait::ceiling(), "an old tick", || {
            let asked_ns = wait::monotonic_ns();
            asked(&server, 2)?;
            let view = daemon.slabs_anew()?;
            let now_ns = view.monotonic_ns;
            let (old, new) = (age(&view, stopped)?, age(&view, other)?);
            // Ticks are whole seconds.
            ensure!(
                new <= (now_ns - asked_ns) / SECOND + 2,
                "{new} s although asked"
            );
            let read_ns = now_ns
                .saturating_sub((shown_slabs::only(&view, "unicorn-tick")?.age_ms + 1) * 1_000_000);
            ensure!(
                old >= read_ns.saturating_sub(stopped_ns) / SECOND,
                "{old} s although stopped for longer"
            );
            Ok((old >= GROWN).then_some(()))
        })?;
        // It would not let its server end.
        processes::signal(stopped, Signal::KILL)
    })
}

/// Has the worker answer that has this listener for itself; its pid.
fn asked(server: &Server, listener: usize) -> Result<u32> {
    let mut client = Client::connect(&Address::Tcp(server.tcp[listener]))?;
    client.ask_and_close("/")?;
    let answer = String::from_utf8(client.answered()?)?;
    let pid = answer.strip_prefix("hi ").context("no pid")?.trim();
    Ok(pid.parse()?)
}

fn age(view: &View, pid: u32) -> Result<u64> {
    match shown_slabs::of_worker(view, pid)?.get("tick_age_s") {
        Some(Number::Count(age)) => Ok(*age),
        other => anyhow::bail!("tick of {pid}: {other:?}"),
    }
}
