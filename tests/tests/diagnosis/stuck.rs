//! One worker that gets nowhere.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    client::{Address, Client, answered, asking, idle},
    daemon::{Daemon, Place, User},
    doctor::figures,
    listening, load, netns, processes,
    servers::{Server, acceptor::Acceptor, nginx, puma, unicorn},
    skip::{Need, can_run},
};
use raindrops_user::diagnose::{Severity, Verdict};
use rustix::process::Signal;

/// To learn who answers, but for a chance of one in 2^60 even where each has half.
const QUESTIONS: usize = 60;

/// The worker, of two, that answers nobody: by what the other one says.
fn silent_worker(server: &Server, listener: &Address) -> Result<u32> {
    let mut silent: BTreeSet<u32> = server.workers().into_iter().collect();
    for _ in 0..QUESTIONS {
        let mut client = Client::connect(listener)?;
        client.ask_and_close("/")?;
        let answer = String::from_utf8(client.answered()?)?;
        let pid = answer.trim().strip_prefix("hi ");
        silent.remove(&pid.context("no pid")?.parse()?);
    }
    let only = silent.first().filter(|_| silent.len() == 1);
    only.copied().with_context(|| format!("silent: {silent:?}"))
}

fn stuck(daemon: &Daemon, pid: u32) -> Result<Verdict> {
    daemon.until_verdict("stuck-worker", |it| it.subject.pid == Some(pid))
}

/// Check that one of two workers that is stopped inside a request, while the other one has work
/// without a pause, is named with its age, and that nothing is wrong once it goes on.
#[test]
fn worker_stopped_inside_a_request() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let shared = [listener.clone()];
        load::during(&shared, 2, "/", || {
            let hold = server.hold("one")?;
            let mut client = asking(&listener, 1, "/park/one")?;
            let pid = silent_worker(&server, &listener)?;
            processes::stop(pid)?;
            let verdict = daemon.until_verdict("stuck-worker", |it| {
                it.subject.pid == Some(pid) && it.text.contains("has been stopped (state T)")
            })?;
            assert_eq!(verdict.severity, Severity::Warning);
            assert_eq!(figures(&verdict, ["thread"]), [Some(u64::from(pid))]);
            let [stopped, turn] = figures(&verdict, ["stuck_ms", "turn_ms"]);
            assert!(stopped >= Some(1000) && turn >= stopped, "{verdict:?}");
            let all = daemon.diagnosis()?.verdicts;
            let stuck: Vec<_> = all
                .iter()
                .filter(|it| it.verdict == "stuck-worker")
                .map(|it| it.subject.pid)
                .collect();
            assert_eq!(stuck, [Some(pid)]);
            assert_eq!(all[0].verdict, "stuck-worker");

            drop(hold);
            processes::signal(pid, Signal::CONT)?;
            answered(&mut client)?;
            daemon.until_well()?;
            Ok(())
        })
    })
}

/// Check that a server that is stopped as a whole is critical.
#[test]
fn every_worker_is_stopped() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let workers = server.workers();
        for pid in &workers {
            processes::stop(*pid)?;
        }
        let mut clients = asking(&listener, 3, "/")?;
        for pid in &workers {
            let verdict = daemon.until_verdict("stuck-worker", |it| {
                it.subject.pid == Some(*pid) && it.severity == Severity::Critical
            })?;
            assert_eq!(verdict.subject.address, Some(listener.to_string()));
            assert_eq!(figures(&verdict, ["queued"]), [Some(3)]);
        }
        for pid in &workers {
            processes::signal(*pid, Signal::CONT)?;
        }
        answered(&mut clients)?;
        daemon.until_well()?;
        Ok(())
    })
}

/// Check that a turn that does not end is named, with its worker, while the other worker's turns
/// end.
#[test]
fn one_turn_far_longer_than_the_others() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let shared = [listener.clone()];
        load::during(&shared, 1, "/", || {
            let hold = server.hold("one")?;
            let mut client = asking(&listener, 1, "/park/one")?;
            let pid = silent_worker(&server, &listener)?;
            let verdict = stuck(&daemon, pid)?;
            assert!(verdict.text.contains("in one turn"), "{verdict:?}");
            let [turn, usual] = figures(&verdict, ["turn_ms", "answer_p99_us"]);
            assert!(turn >= Some(1000) && usual < Some(100_000), "{verdict:?}");

            drop(hold);
            answered(&mut client)?;
            daemon.until_well()?;
            Ok(())
        })
    })
}

/// Check the same of one thread of a pool, and that it is the thread that is named.
#[test]
fn one_thread_far_longer_than_the_others() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(0, "4:4")?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        load::tcp(server.tcp[0], 100)?;
        let shared = [listener.clone()];
        load::during(&shared, 1, "/", || {
            let hold = server.hold("one")?;
            // What is there when a connection is accepted is read by the thread that will answer it.
            processes::stop(server.master())?;
            let mut client = asking(&listener, 1, "/park/one")?;
            processes::signal(server.master(), Signal::CONT)?;
            let verdict = stuck(&daemon, server.master())?;
            let [thread] = figures(&verdict, ["thread"]);
            let thread = thread.context("no thread")?;
            let name = format!("/proc/{}/task/{thread}/comm", server.master());
            let name = fs::read_to_string(name)?;
            assert!(name.starts_with("puma srv tp"), "{name}");

            drop(hold);
            answered(&mut client)?;
            daemon.until_well()?;
            Ok(())
        })
    })
}

/// Check that a worker in a turn that waits where nothing can interrupt it is named.
#[test]
fn worker_in_uninterruptible_sleep() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listener = listening::tcp(16)?;
        let address = listener.local_addr()?;
        let mut acceptor = Acceptor::start(&listener)?;
        drop(listener);
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let mut client = TcpStream::connect(address)?;
        client.write_all(b"G")?;
        acceptor.accept()?;
        acceptor.begin_turn()?;
        let child = acceptor.wait_for_child()?;
        let verdict = stuck(&daemon, acceptor.pid())?;
        assert!(verdict.text.contains("(state D)"), "{verdict:?}");
        let [thread] = figures(&verdict, ["thread"]);
        assert_eq!(thread, Some(u64::from(acceptor.pid())));

        processes::signal(child, Signal::KILL)?;
        daemon.until_well()?;
        Ok(())
    })
}

/// Check that an event loop that something keeps from reading is named: a worker of nginx whose log
/// is a pipe that is full.
#[test]
fn blocked_event_loop() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("nginx")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let (server, pipe) = nginx::start_logging_to_pipe()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        // With either worker, but for a chance of one in 2^31.
        let mut clients = idle(&listener, 32)?;
        let held = fill(&pipe)?;
        clients[0].get("/logged")?;
        for client in &mut clients {
            client.ask("/")?;
        }
        let verdict = daemon.until_verdict("stuck-worker", |_| true)?;
        assert!(verdict.text.contains("unread"), "{verdict:?}");
        let [unread] = figures(&verdict, ["unread"]);
        assert!(unread >= Some(1), "{verdict:?}");
        let pid = verdict.subject.pid.context("no pid")?;
        let wchan = fs::read_to_string(format!("/proc/{pid}/wchan"))?;
        assert!(wchan.contains("pipe_w"), "{pid} is in {wchan}");

        drain(&pipe, held)?;
        answered(&mut clients)?;
        daemon.until_well()?;
        Ok(())
    })
}

/// Fills a pipe; how many bytes it took.
fn fill(mut pipe: &File) -> Result<usize> {
    rustix::io::ioctl_fionbio(pipe, true)?;
    let mut held = 0;
    loop {
        match pipe.write(&[b'\n'; 4096]) {
            Ok(count) => held += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(held),
            Err(error) => return Err(error.into()),
        }
    }
}

fn drain(mut pipe: &File, held: usize) -> Result<()> {
    pipe.read_exact(&mut vec![0; held])?;
    Ok(())
}
