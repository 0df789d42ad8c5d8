//! What one connection goes through.

use std::{process, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    lookup,
    puppet::{Connection, ask, take},
};
use raindrops_user::view::Class;
use rustix::net::{Shutdown, shutdown};

use crate::stage::{BLOCKED, CALLING, IDLE, NOTHING, READING, WAITING, WRITING, on_all};

/// Check one keep-alive connection through two turns, each step by itself.
#[test]
fn step_by_step() -> Result<()> {
    on_all(|stage| {
        let thread = &stage.thread;
        let mut totals = stage.begin()?;
        let (client, it) = stage.pair()?;
        let told = |what: fn(&Connection) -> Result<()>| {
            let it = it.clone();
            thread.does(move || what(&it))
        };
        stage.shows("accepted", IDLE, totals)?;
        ask(&client, 10)?;
        stage.shows("asked", WAITING, totals)?;
        told(|it| it.peek(5).map(drop))?;
        stage.shows("looked at", WAITING, totals)?;
        told(|it| it.read(10).map(drop))?;
        totals.turns += 1;
        totals.bytes_in += 10;
        let view = stage.shows("read", CALLING, totals)?;
        let worker = lookup::worker(&view, process::id())?;
        let turns = worker.turns.as_ref().context("turns")?;
        assert_eq!(turns.oldest_thread, Some(thread.id));
        assert_eq!(worker.class, Some(Class::Direct));
        assert!(turns.oldest_us.is_some());
        told(|it| it.write(20))?;
        take(&client, 20)?;
        totals.answers += 1;
        totals.bytes_out += 20;
        stage.shows("answered", WRITING, totals)?;
        told(|it| it.write(5))?;
        take(&client, 5)?;
        totals.bytes_out += 5;
        stage.shows("answered on", WRITING, totals)?;
        told(Connection::poll)?;
        let view = stage.shows("waited for more", IDLE, totals)?;
        assert!(
            stage
                .row(&view)?
                .turns
                .as_ref()
                .is_some_and(|it| it.oldest_us.is_none())
        );

        ask(&client, 6)?;
        told(|it| it.read(3).map(drop))?;
        totals.turns += 1;
        totals.writes += 1;
        totals.bytes_in += 3;
        stage.shows("read a part", CALLING, totals)?;
        told(|it| it.read(3).map(drop))?;
        totals.bytes_in += 3;
        stage.shows("read the rest", CALLING, totals)?;
        told(Connection::poll)?;
        stage.shows("waited for the rest", READING, totals)?;
        ask(&client, 2)?;
        told(|it| it.read(2).map(drop))?;
        totals.bytes_in += 2;
        stage.shows("read what was waited for", CALLING, totals)?;
        drop(it);
        totals.unanswered += 1;
        stage.shows("closed", NOTHING, totals)?;
        Ok(())
    })
}

/// Check that a client that has asked and half closes is still served, and that one that says nothing
/// waits for nothing.
#[test]
fn half_closed() -> Result<()> {
    on_all(|stage| {
        let thread = &stage.thread;
        let mut totals = stage.begin()?;
        let (client, silent) = stage.pair()?;
        shutdown(&client, Shutdown::Write)?;
        stage.shows("half closed without a word", IDLE, totals)?;
        drop((client, silent));
        let (client, it) = stage.pair()?;
        ask(&client, 4)?;
        shutdown(&client, Shutdown::Write)?;
        stage.shows("asked and half closed", WAITING, totals)?;
        let reads = it.clone();
        thread.does(move || {
            ensure!(reads.read(10)? == 4 && reads.read(10)? == 0, "no end");
            Ok(())
        })?;
        totals.turns += 1;
        totals.bytes_in += 4;
        stage.shows("read to the end", CALLING, totals)?;
        let writes = it.clone();
        thread.does(move || writes.write(8))?;
        take(&client, 8)?;
        totals.answers += 1;
        totals.bytes_out += 8;
        stage.shows("answered", WRITING, totals)?;
        drop(it);
        totals.writes += 1;
        stage.shows("closed", NOTHING, totals)?;
        Ok(())
    })
}

/// Check that connections wait only once they are accepted, each until it is read.
#[test]
fn asked_while_queued() -> Result<()> {
    on_all(|stage| {
        let mut totals = stage.begin()?;
        let clients = [stage.listening.client()?, stage.listening.client()?];
        clients.iter().try_for_each(|client| ask(client, 7))?;
        stage.shows("queued", NOTHING, totals)?;
        let accept = || {
            let listening = Arc::clone(&stage.listening);
            stage.thread.does(move || listening.accept())
        };
        let first = accept()?;
        stage.shows("one accepted", WAITING, totals)?;
        let second = accept()?;
        stage.shows("two accepted", [2, 0, 0, 0, 0, 0], totals)?;
        let reads = first.clone();
        stage.thread.does(move || reads.read(7))?;
        totals.turns += 1;
        totals.bytes_in += 7;
        stage.shows("one read", [1, 0, 1, 0, 0, 0], totals)?;
        drop((first, second));
        totals.unanswered += 1;
        stage.shows("closed", NOTHING, totals)?;
        Ok(())
    })
}

/// Check that a client that takes nothing blocks its answer, whether the server notices or waits in
/// its write, and that the answer goes on when the client does.
#[test]
fn stalled_client() -> Result<()> {
    const LARGE: usize = 16 << 20;
    on_all(|stage| {
        let thread = &stage.thread;
        let mut totals = stage.begin()?;
        let (client, it) = stage.pair()?;
        ask(&client, 1)?;
        let fills = it.clone();
        let room = thread.does(move || {
            fills.read(1)?;
            fills.fill()
        })?;
        totals.turns += 1;
        totals.answers += 1;
        totals.bytes_in += 1;
        totals.bytes_out += room as u64;
        stage.shows("no room", BLOCKED, totals)?;
        take(&client, room)?;
        let writes = it.clone();
        thread.does(move || writes.write(100))?;
        take(&client, 100)?;
        totals.bytes_out += 100;
        stage.shows("room", WRITING, totals)?;

        ask(&client, 1)?;
        let writes = it.clone();
        let write = thread.begins(move || {
            writes.read(1)?;
            writes.write(LARGE)
        })?;
        totals.turns += 1;
        totals.writes += 1;
        totals.bytes_in += 1;
        stage.shows("a write that has to wait", BLOCKED, totals)?;
        take(&client, LARGE)?;
        write.ends()??;
        totals.answers += 1;
        totals.bytes_out += LARGE as u64;
        stage.shows("all taken", WRITING, totals)?;
        drop(it);
        Ok(())
    })
}

/// Check that what `sendfile()` writes is counted as part of the answer.
#[test]
fn file() -> Result<()> {
    const LENGTH: usize = 300_000;
    on_all(|stage| {
        let mut totals = stage.begin()?;
        let (client, it) = stage.pair()?;
        ask(&client, 1)?;
        let sends = it.clone();
        let sent = stage.thread.begins(move || {
            sends.read(1)?;
            sends.write(10)?;
            sends.send_file(LENGTH)
        })?;
        take(&client, LENGTH + 10)?;
        sent.ends()??;
        totals.turns += 1;
        totals.answers += 1;
        totals.bytes_in += 1;
        totals.bytes_out += LENGTH as u64 + 10;
        stage.shows("sent", WRITING, totals)?;
        drop(it);
        Ok(())
    })
}
