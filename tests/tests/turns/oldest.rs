//! The age of the oldest turn, between readings of the test's own clock.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    client::{self, Address},
    daemon::{Daemon, Place, User},
    lookup, netns,
    servers::{Server, middleware::Counted, puma, unicorn},
    skip::{Need, can_run},
    turns,
    wait::{self, Between},
};
use raindrops_user::view::WorkerTurns;

/// So that the age of one turn is not taken for that of another.
const APART: Duration = Duration::from_millis(50);

/// Checks what is shown of the oldest turn: of the listener, and of the only one of these workers that
/// has one. `answers`: it is being written to.
fn is_shown(
    daemon: &Daemon,
    server: &Server,
    listener: &Address,
    began: Between,
    answers: bool,
) -> Result<()> {
    let address = listener.to_string();
    for _ in 0..2 {
        let view = daemon.looked_anew(std::slice::from_ref(&address))?;
        // Ages in a view are of one time.
        let made = Between::at(view.monotonic_ns);
        let of_listener = turns::of(lookup::listener(&view, &address)?)?.oldest_us;
        made.has_age_us("the oldest turn", of_listener, began)?;
        let mut workers: Vec<&WorkerTurns> = Vec::new();
        for pid in serving(server) {
            let turns = lookup::worker(&view, pid)?.turns.as_ref();
            workers.extend(turns.filter(|turns| turns.oldest_us.is_some()));
        }
        let [worker] = workers[..] else {
            anyhow::bail!("one worker with a turn: {workers:?}");
        };
        assert_eq!(worker.oldest_us, of_listener);
        let called = of_listener.filter(|_| !answers);
        assert_eq!(worker.oldest_calling_us, called);
        ensure!(worker.oldest_thread.is_some(), "{worker:?}");
        thread::sleep(APART);
    }
    Ok(())
}

fn serving(server: &Server) -> Vec<u32> {
    let workers = server.workers();
    if workers.is_empty() {
        vec![server.master()]
    } else {
        workers
    }
}

fn until(server: &Server, expected: Counted) -> Result<()> {
    wait::until(&format!("{expected:?}"), || {
        Ok((server.middleware()? == expected).then_some(()))
    })
}

/// A parked request, which has begun after the first reading and before the second: by then the
/// application has been called.
fn ages(server: &Server, listener: &Address, places: u64) -> Result<()> {
    let place = Place::new()?;
    let daemon = place.start(User::Same, &[])?;
    // Who answers is known.
    client::short(listener, "/")?;
    let mut parked = Vec::new();
    for nth in 1..=places {
        let name = format!("nth{nth}");
        let hold = server.hold(&name)?;
        let before = wait::monotonic_ns();
        let client = client::asking(listener, 1, &format!("/park/{name}"))?;
        until(
            server,
            Counted {
                calling: nth,
                writing: 0,
            },
        )?;
        parked.push((hold, client, Between::since(before)));
        thread::sleep(APART);
    }
    // As the oldest one ends, the next one is it.
    for (nth, (hold, mut client, began)) in parked.into_iter().enumerate() {
        is_shown(&daemon, server, listener, began, false)
            .with_context(|| format!("turn {nth} of {places}"))?;
        drop(hold);
        client::answered(&mut client)?;
    }

    let hold = server.hold("body")?;
    let before = wait::monotonic_ns();
    let mut client = client::asking(listener, 1, "/stream/body")?;
    client[0].begun()?;
    let began = Between::since(before);
    thread::sleep(APART);
    is_shown(&daemon, server, listener, began, true).context("an answer that goes on")?;
    drop(hold);
    client::answered(&mut client)?;

    let address = listener.to_string();
    daemon.until("no turn", |view| {
        let row = lookup::listener(view, &address).and_then(turns::of);
        row.is_ok_and(|turns| turns.oldest_us.is_none())
    })?;
    Ok(())
}

/// Check ages of turns of puma, whose threads work on several at once, TCP and unix.
#[test]
fn oldest_of_several() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(0, "4:4")?;
        server
            .listeners()
            .iter()
            .try_for_each(|listener| ages(&server, listener, 3))
    })
}

/// Check the same of unicorn, one of whose workers has the turn, TCP and unix.
#[test]
fn oldest_of_one() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let listeners = [
            Address::Tcp(server.tcp[0]),
            Address::Unix(server.unix[0].clone()),
        ];
        listeners
            .iter()
            .try_for_each(|listener| ages(&server, listener, 1))
    })
}
