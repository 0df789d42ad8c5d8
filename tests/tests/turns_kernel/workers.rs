//! How the threads of a worker share their work, and how much of it is seen.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use raindrops_tests::{
    ability,
    daemon::{Place, User},
    lookup,
    puppet::{Kind, Listening, Thread, ask, take},
};
use raindrops_user::view::{Class, View};
use rustix::event::{Timespec, epoll};

use crate::stage::{IDLE, NOTHING, SMALL, Stage, Totals, WRITING, on, on_all};

/// Check that a thread that reads for another is told from it, and that no more turns are called than
/// there are threads that answer.
#[test]
fn pool() -> Result<()> {
    on_all(|stage| {
        let clients: Vec<_> = (0..4)
            .map(|_| stage.listening.client())
            .collect::<Result<_>>()?;
        clients.iter().try_for_each(|client| ask(client, 3))?;
        let listening = Arc::clone(&stage.listening);
        let mut read = stage.thread.does(move || {
            let accepted = (0..4).map(|_| {
                let it = listening.accept()?;
                it.read(3)?;
                Ok(it)
            });
            accepted.collect::<Result<Vec<_>>>()
        })?;
        let answers = Thread::start()?;
        let mut totals = Totals {
            turns: 4,
            bytes_in: 12,
            ..Totals::default()
        };
        for waiting in [2, 1, 0] {
            let it = read.pop().context("a connection")?;
            answers.does(move || it.write(2))?;
            totals.answers += 1;
            totals.writes += 1;
            totals.bytes_out += 2;
            let view = stage.shows("one answered", [waiting, 0, 1, 0, 0, 0], totals)?;
            let worker = lookup::worker(&view, process::id())?;
            let pool = (worker.class, worker.threads_seen, worker.threads_busy);
            assert_eq!(pool, (Some(Class::Handoff), Some(1), Some(1)));
        }
        drop(read);
        totals.unanswered += 1;
        stage.shows("closed", NOTHING, totals)?;
        Ok(())
    })
}

/// Check that a thread that waits for events of many connections is told to be a loop, which answers as
/// many turns as there are, and ends each when it waits again.
#[test]
fn event_loop() -> Result<()> {
    on_all(|stage| {
        let thread = &stage.thread;
        let mut totals = stage.begin()?;
        let pairs = [stage.pair()?, stage.pair()?];
        let events = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        for (_, it) in &pairs {
            let (events, it) = (Arc::clone(&events), it.clone());
            thread.does(move || {
                let (data, flags) = (epoll::EventData::new_u64(0), epoll::EventFlags::IN);
                epoll::add(&*events, it.socket(), data, flags).context("epoll_ctl")
            })?;
        }
        let waits = || {
            let events = Arc::clone(&events);
            thread.does(move || {
                let mut ready = [epoll::Event {
                    flags: epoll::EventFlags::empty(),
                    data: epoll::EventData::new_u64(0),
                }];
                let at_once = Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                };
                epoll::wait(&*events, &mut ready[..], Some(&at_once)).context("epoll_wait")
            })
        };
        for (client, it) in &pairs {
            ask(client, 1)?;
            waits()?;
            let it = it.clone();
            thread.does(move || it.read(1))?;
            totals.turns += 1;
            totals.bytes_in += 1;
        }
        stage.shows("both read", [0, 0, 2, 0, 0, 0], totals)?;
        for (client, it) in &pairs {
            let it = it.clone();
            thread.does(move || it.write(1))?;
            take(client, 1)?;
            totals.answers += 1;
            totals.bytes_out += 1;
        }
        stage.shows("both answered", [0, 0, 0, 2, 0, 0], totals)?;
        waits()?;
        let view = stage.shows("waits again", [0, 0, 0, 0, 0, 2], totals)?;
        let worker = lookup::worker(&view, process::id())?;
        assert_eq!(worker.class, Some(Class::Loop));
        Ok(())
    })
}

/// Check that every turn of many connections by several threads is counted, with all of its bytes.
#[test]
fn many() -> Result<()> {
    const CLIENTS: usize = 4;
    const CONNECTIONS: usize = 25;
    const SERVERS: usize = 3;
    on_all(|stage| {
        let mut totals = stage.begin()?;
        let accepted = AtomicUsize::new(0);
        let serve = || {
            while accepted.fetch_add(1, Ordering::Relaxed) < CLIENTS * CONNECTIONS {
                let it = stage.listening.accept()?;
                loop {
                    match it.read(100)? {
                        0 => break,
                        length => it.write(2 * length)?,
                    }
                }
            }
            anyhow::Ok(())
        };
        let turns = |connection: usize| connection % 3;
        let length = |connection: usize| 1 + connection;
        let ask_often = || {
            for connection in 0..CONNECTIONS {
                let client = stage.listening.client()?;
                for _ in 0..turns(connection) {
                    ask(&client, length(connection))?;
                    take(&client, 2 * length(connection))?;
                }
            }
            anyhow::Ok(())
        };
        thread::scope(|scope| {
            let servers = [(); SERVERS].map(|()| scope.spawn(serve));
            let clients = [(); CLIENTS].map(|()| scope.spawn(ask_often));
            let all = clients.into_iter().chain(servers);
            all.map(|it| it.join().map_err(|_| anyhow!("panicked"))?)
                .collect::<Result<Vec<()>>>()
        })?;
        for connection in (0..CONNECTIONS).flat_map(|it| [it; CLIENTS]) {
            let (turns, length) = (turns(connection) as u64, length(connection) as u64);
            totals.turns += turns;
            totals.answers += turns;
            totals.writes += turns;
            totals.bytes_in += turns * length;
            totals.bytes_out += turns * 2 * length;
        }
        stage.shows("all served", NOTHING, totals)?;
        Ok(())
    })
}

/// Check that a connection that is older than the daemon is followed from its next read on, and that the
/// figures are marked until then.
#[test]
fn older_than_the_daemon() -> Result<()> {
    on(Kind::Tcp, |stage| {
        let mut totals = stage.begin()?;
        let (client, it) = stage.pair()?;
        stage.shows("accepted", IDLE, totals)?;
        let place = Place::new()?;
        let later = Stage {
            daemon: place.start(User::Same, &SMALL)?,
            listening: Arc::clone(&stage.listening),
            thread: Thread::start()?,
            place,
        };
        let is_complete = |view: &View| Some(later.row(view).ok()?.turns.as_ref()?.complete);
        later
            .daemon
            .until("a mark", |view| is_complete(view) == Some(false))?;
        ask(&client, 5)?;
        let serves = it;
        later.thread.does(move || {
            serves.read(5)?;
            serves.write(6)
        })?;
        let theirs = Totals {
            turns: 1,
            answers: 1,
            bytes_in: 5,
            bytes_out: 6,
            unknown_waits: 1,
            ..Totals::default()
        };
        later.shows("answered", WRITING, theirs)?;
        totals.turns += 1;
        totals.answers += 1;
        totals.bytes_in += 5;
        totals.bytes_out += 6;
        stage.shows("answered", WRITING, totals)?;
        Ok(())
    })
}

/// Check that a worker that also serves a listener whose turns this kernel does not tell is not said to
/// do only what is told.
#[test]
fn of_both_kinds() -> Result<()> {
    on(Kind::Tcp, |stage| {
        let totals = stage.begin()?;
        let unix = Arc::new(Listening::new(Kind::Unix, stage.place.path())?);
        let client = unix.client()?;
        ask(&client, 1)?;
        let held = stage.thread.does(move || {
            let it = unix.accept()?;
            it.read(1)?;
            it.write(1)?;
            Ok((it, unix))
        })?;
        let sees_unix = ability::sees_unix_turns()?;
        let told = if sees_unix {
            Some(totals.turns + 1)
        } else {
            None
        };
        stage.daemon.until("both kinds of turns", |view| {
            let worker = lookup::worker(view, process::id());
            let turns = worker.map(|worker| worker.turns.as_ref().map(|turns| turns.total));
            let of_unix = lookup::listener(view, &held.1.address)
                .map(|row| row.turns.as_ref().map(|turns| turns.total));
            let of_tcp = stage.listening.turns(view).map(|turns| turns.total);
            turns.ok() == Some(told)
                && of_unix.ok() == Some(sees_unix.then_some(1))
                && of_tcp == Some(totals.turns)
        })?;
        Ok(())
    })
}
