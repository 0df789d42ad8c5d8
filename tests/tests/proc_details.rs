//! What /proc tells of each worker: a thread that is stalled, its threads, its descriptors, and that
//! it has ended.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    daemon::{Daemon, Place, User},
    listening,
    lookup::{listener, server, worker},
    netns,
    servers::{Server, acceptor::Acceptor, puma, unicorn},
    skip::{Need, can_run},
    wait,
};
use raindrops_user::{
    ids::{Inode, Pid, Tid},
    source::proc::ProcReader,
    view::{Stalled, View},
};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

fn signal(pid: u32, signal: Signal) -> Result<()> {
    kill_process(process(pid)?, signal).with_context(|| format!("{signal:?} to {pid}"))
}

fn process(pid: u32) -> Result<rustix::process::Pid> {
    rustix::process::Pid::from_raw(pid.cast_signed()).context("pid 0")
}

fn stalled(view: &View, pid: u32) -> Option<&Stalled> {
    worker(view, pid).ok()?.stalled.as_ref()
}

/// A daemon that shows the workers of a server.
fn watching(place: &Place, started: &Server) -> Result<Daemon> {
    let daemon = place.start(User::Same, &["--no-bpf"])?;
    shows_workers(&daemon, started)?;
    Ok(daemon)
}

fn shows_workers(daemon: &Daemon, started: &Server) -> Result<()> {
    let workers = started.workers();
    daemon.until("its workers", |view| {
        let shown = server(view, started.kind);
        shown.is_ok_and(|shown| shown.workers == workers && workers.len() == 2)
    })?;
    Ok(())
}

/// Check that a worker that is stopped is shown to be, for no longer than it was, and no more when
/// it goes on.
#[test]
fn a_stopped_worker_is_stalled_until_it_goes_on() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let unicorn = unicorn::start()?;
        let workers = unicorn.workers();
        let place = Place::new()?;
        let daemon = watching(&place, &unicorn)?;
        let view = daemon.view()?;
        ensure!(workers.iter().all(|pid| stalled(&view, *pid).is_none()));

        let stop = Instant::now();
        signal(workers[0], Signal::STOP)?;
        let view = daemon.until("a stalled worker", |view| {
            stalled(view, workers[0]).is_some()
        })?;
        let first = stalled(&view, workers[0]).context("stalled")?.clone();
        let expected = Stalled {
            thread: workers[0],
            thread_name: "unicorn".to_owned(),
            state: "T".to_owned(),
            for_ms: first.for_ms,
            // Which depends on the version of unicorn and of Ruby.
            syscall: first.syscall.clone(),
            wchan: first.wchan.clone(),
        };
        assert_eq!(first, expected);
        let syscall = first.syscall.as_deref().context("no system call")?;
        let waits = [
            "epoll_wait",
            "epoll_pwait",
            "select",
            "pselect6",
            "poll",
            "ppoll",
        ];
        assert!(waits.contains(&syscall), "{syscall}");
        assert_eq!(stalled(&view, workers[1]), None);

        let view = daemon.until("it to last", |view| {
            stalled(view, workers[0]).is_some_and(|stalled| stalled.for_ms > first.for_ms)
        })?;
        let lasting = stalled(&view, workers[0]).context("stalled")?;
        assert!(Duration::from_millis(lasting.for_ms) <= stop.elapsed());
        assert_eq!(worker(&view, workers[0])?.state, "T");

        signal(workers[0], Signal::CONT)?;
        daemon.until("it to go on", |view| {
            worker(view, workers[0]).is_ok_and(|worker| worker.stalled.is_none())
        })?;
        Ok(())
    })
}

/// Check that a worker that waits where nothing can interrupt it is stalled, with what it waits in.
#[test]
fn a_worker_that_cannot_be_interrupted_is_stalled() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(16)?;
        let mut acceptor = Acceptor::start(&listening)?;
        // It alone is the server.
        let address = listening.local_addr()?.to_string();
        drop(listening);
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        let pid = acceptor.pid();
        daemon.until("the worker", |view| {
            listener(view, &address).is_ok_and(|it| it.workers == Some(vec![pid]))
        })?;
        let child = acceptor.wait_for_child()?;
        let seen = daemon.until("a stalled worker", |view| stalled(view, pid).is_some());
        signal(child, Signal::KILL)?;
        let view = seen?;
        let shown = stalled(&view, pid).context("stalled")?;
        let expected = Stalled {
            thread: pid,
            thread_name: "acceptor".to_owned(),
            state: "D".to_owned(),
            for_ms: shown.for_ms,
            syscall: Some("clone".to_owned()),
            wchan: shown.wchan.clone(),
        };
        assert_eq!(*shown, expected);
        daemon.until("it to go on", |view| {
            worker(view, pid).is_ok_and(|worker| worker.stalled.is_none())
        })?;
        Ok(())
    })
}

/// Check that of each of puma's workers every thread is found, by the name that it gave itself.
#[test]
fn pumas_threads_are_found_by_name() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let puma = puma::start()?;
        let place = Place::new()?;
        let daemon = watching(&place, &puma)?;
        let row = listener(&daemon.view()?, &puma.tcp[0].to_string())?.clone();
        let mut reader = ProcReader::new("/proc".into());
        for pid in puma.workers() {
            wait::until("puma's threads", || {
                let before = threads(pid)?;
                let snapshot = reader.scan(&[Inode(row.inode)].into(), &[].into());
                let process = snapshot.processes.get(&Pid(pid)).context("no worker")?;
                let found = process.each_thread.as_ref().context("no threads")?;
                let names = found.by_id.iter();
                let names = names.map(|(tid, it)| (*tid, it.comm.clone())).collect();
                // They begin and end while there is something to do.
                Ok((before == threads(pid)? && before == names && found.complete).then_some(()))
            })?;
            let pool = threads(pid)?.into_values();
            let pool = pool.filter(|name| name.starts_with(b"puma srv tp "));
            ensure!(pool.count() > 0, "no thread of a pool in {pid}");
        }
        Ok(())
    })
}

/// Names of a process's threads.
fn threads(pid: u32) -> Result<BTreeMap<Tid, Vec<u8>>> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        let tid = entry.file_name().to_string_lossy().parse()?;
        let mut name = fs::read(entry.path().join("comm"))?;
        name.pop();
        threads.insert(Tid(tid), name);
    }
    Ok(threads)
}

/// Check that a worker has as many descriptors as the kernel lists, and the limit that was set.
#[test]
fn descriptors_and_their_limit_are_told() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let unicorn = unicorn::start()?;
        let pid = unicorn.workers()[0];
        let limit = Rlimit {
            current: Some(777),
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        prlimit(Some(process(pid)?), Resource::Nofile, limit).context("prlimit")?;
        let place = Place::new()?;
        let daemon = watching(&place, &unicorn)?;
        let listed =
            || -> Result<u64> { Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64) };
        let view = daemon.until("its descriptors", |view| {
            let shown = worker(view, pid).ok().and_then(|worker| worker.fds);
            listed().is_ok_and(|listed| shown == Some(listed))
        })?;
        assert_eq!(worker(&view, pid)?.fd_limit, Some(777));
        Ok(())
    })
}

/// Check that workers that are killed are counted, once, and that those of a server that is stopped
/// are not.
#[test]
fn workers_that_ended_are_counted() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let began = Instant::now();
        let unicorn = unicorn::start()?;
        let place = Place::new()?;
        let daemon = watching(&place, &unicorn)?;
        assert_eq!(server(&daemon.view()?, "unicorn")?.exits, None);
        for killed in 1..=3 {
            let before = unicorn.workers();
            signal(before[0], Signal::KILL)?;
            wait::until("another worker in its place", || {
                let now = unicorn.workers();
                Ok((now.len() == 2 && !now.contains(&before[0])).then_some(()))
            })?;
            let view = daemon.until("the end of a worker", |view| {
                let shown = server(view, "unicorn").ok();
                let exits = shown.and_then(|shown| shown.exits.as_ref());
                exits.is_some_and(|exits| exits.count >= killed)
            })?;
            let exits = server(&view, "unicorn")?.exits.as_ref().context("exits")?;
            assert_eq!(exits.count, killed);
            assert!(Duration::from_millis(exits.median_life_ms) <= began.elapsed());
            shows_workers(&daemon, &unicorn)?;
        }
        signal(unicorn.master(), Signal::QUIT)?;
        daemon.until("no server", |view| server(view, "unicorn").is_err())?;
        Ok(())
    })
}
