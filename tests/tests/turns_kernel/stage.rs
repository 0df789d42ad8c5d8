//! A server that does as it is told beside a daemon, and what must be shown of its turns.

use std::{cell::Cell, os::fd::OwnedFd, process, sync::Arc};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    ability,
    daemon::{self, Daemon, Place, User},
    lookup, netns,
    puppet::{Connection, Kind, Listening, Thread, ask, take},
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::{Listener, View};

/// A look over all connections goes over the whole table, which is slow on an emulated processor.
pub const SMALL: [&str; 2] = ["--max-connections", "1024"];

/// How many connections are waiting, reading, calling, writing, blocked, and idle.
pub type Doing = [u64; 6];

pub const NOTHING: Doing = [0, 0, 0, 0, 0, 0];
pub const WAITING: Doing = [1, 0, 0, 0, 0, 0];
pub const READING: Doing = [0, 1, 0, 0, 0, 0];
pub const CALLING: Doing = [0, 0, 1, 0, 0, 0];
pub const WRITING: Doing = [0, 0, 0, 1, 0, 0];
pub const BLOCKED: Doing = [0, 0, 0, 1, 1, 0];
pub const IDLE: Doing = [0, 0, 0, 0, 0, 1];

/// Since the daemon began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub turns: u64,
    pub answers: u64,
    /// Answers that are over.
    pub writes: u64,
    pub unanswered: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Turns of which is not known when their data came, although this kernel tells that.
    pub unknown_waits: u64,
}

/// A daemon, a listener that it watches, and a thread that serves it.
pub struct Stage {
    pub daemon: Daemon,
    pub listening: Arc<Listening>,
    pub thread: Thread,
    pub place: Place,
}

/// Plays on listeners of both kinds, where this kernel lets raindrops see what is done there. Elsewhere
/// checks that no turns are shown.
pub fn on_all(play: fn(&Stage) -> Result<()>) -> Result<()> {
    Kind::ALL.into_iter().try_for_each(|kind| on(kind, play))
}

pub fn on(kind: Kind, play: fn(&Stage) -> Result<()>) -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let stage = Stage {
            daemon: place.start(User::Same, &SMALL)?,
            // Later: with fexit, less is known of an earlier one's accepts.
            listening: Arc::new(Listening::new(kind, place.path())?),
            thread: Thread::start()?,
            place,
        };
        daemon::expect_bpf(&stage.daemon.view()?)?;
        let sees = match kind {
            Kind::Tcp => ability::turns()?.is_some(),
            Kind::Unix => ability::sees_unix_turns()?,
        };
        if sees {
            play(&stage).with_context(|| format!("{kind:?}"))
        } else {
            stage.shows_no_turns()
        }
    })
}

impl Stage {
    /// A connection that the thread has accepted; the client's end first.
    pub fn pair(&self) -> Result<(OwnedFd, Connection)> {
        let client = self.listening.client()?;
        let listening = Arc::clone(&self.listening);
        Ok((client, self.thread.does(move || listening.accept())?))
    }

    /// A connection with one turn of one byte each way, so that the thread is known to answer.
    pub fn begin(&self) -> Result<Totals> {
        let (client, it) = self.pair()?;
        ask(&client, 1)?;
        self.thread.does(move || {
            it.read(1)?;
            it.write(1)
        })?;
        take(&client, 1)?;
        let begun = Totals {
            turns: 1,
            answers: 1,
            writes: 1,
            bytes_in: 1,
            bytes_out: 1,
            ..Totals::default()
        };
        self.shows("the first turn", NOTHING, begun)?;
        Ok(begun)
    }

    /// Waits for a view that is newer than this call and shows this, of the listener and of the only
    /// worker alike.
    pub fn shows(&self, when: &str, doing: Doing, totals: Totals) -> Result<View> {
        let waits = ability::has_sk_data_ready()?.then_some(totals.turns - totals.unknown_waits);
        let called = wait::monotonic_ns();
        let of_listener = |view: &View| {
            let turns = self.listening.turns(view)?;
            let is_new = wait::before_ns(view.monotonic_ns, turns.age_ms?) > called;
            let shown = [
                turns.waiting?,
                turns.reading?,
                turns.calling?,
                turns.writing?,
                turns.blocked?,
                turns.idle?,
            ];
            let counted = Totals {
                turns: turns.total,
                answers: turns.answer.count,
                writes: turns.write.count,
                unanswered: turns.unanswered,
                bytes_in: turns.bytes_in,
                bytes_out: turns.bytes_out,
                unknown_waits: totals.unknown_waits,
            };
            let waited = turns.read_wait.as_ref().map(|wait| wait.count);
            Some((is_new && turns.complete && waited == waits, shown, counted))
        };
        let of_worker = |view: &View| {
            let worker = lookup::worker(view, process::id()).ok()?;
            let turns = worker.turns.as_ref()?;
            let shown = [
                turns.waiting?,
                turns.reading?,
                turns.calling?,
                turns.writing?,
                turns.blocked?,
                turns.idle?,
            ];
            Some((shown, turns.total, turns.answer.count))
        };
        let last = Cell::new(None);
        let view = self.daemon.until(when, |view| {
            last.set(of_worker(view));
            of_listener(view) == Some((true, doing, totals))
                && of_worker(view) == Some((doing, totals.turns, totals.answers))
        });
        view.with_context(|| {
            let worker = last.get();
            format!("{when}: not {doing:?}, {totals:?}; the worker {worker:?}")
        })
    }

    pub fn row<'a>(&self, view: &'a View) -> Result<&'a Listener> {
        lookup::listener(view, &self.listening.address)
    }

    /// Nothing of turns is shown where none can be told, also when there are some.
    fn shows_no_turns(&self) -> Result<()> {
        let (client, it) = self.pair()?;
        ask(&client, 1)?;
        let held = it;
        self.thread.does(move || {
            held.read(1)?;
            held.write(1)
        })?;
        let view = self.daemon.until("the accept", |view| {
            let connections = self.row(view).ok().and_then(|row| row.connections.as_ref());
            connections.is_some_and(|it| it.accepts == Some(1))
        })?;
        let worker = lookup::worker(&view, process::id())?;
        assert!(self.row(&view)?.turns.is_none() && worker.turns.is_none());
        assert_eq!((worker.class, worker.clients), (None, None));
        Ok(())
    }
}
