//! What happens to the processes that have a connection.

use std::{fs, io::Write as _, net::TcpStream, process};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    life::{Setting, led},
    listening::{self, client},
    row::Figures,
    servers::acceptor::Acceptor,
    wait,
};
use rustix::process::{Pid, Signal, kill_process};

fn kill(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(pid.cast_signed()).context("pid 0")?;
    kill_process(pid, Signal::KILL).context("kill")
}

/// Check that a connection of a worker that is killed in the middle of a turn is closed, whether
/// or not it has read what came.
#[test]
fn worker_is_killed_in_a_turn() -> Result<()> {
    led(Setting::default(), |life| {
        // The row must outlive the workers.
        let listening = listening::tcp(16)?;
        let mut clients: Vec<TcpStream> = Vec::new();
        let mut workers = Vec::new();
        for _ in 0..2 {
            let mut worker = Acceptor::start(&listening)?;
            let mut client = client(listening.local_addr()?)?;
            worker.accept()?;
            client.write_all(b"xyz")?;
            clients.push(client);
            workers.push(worker);
        }
        workers[0].begin_turn()?;
        let by: Vec<_> = workers.iter().map(|worker| (worker.pid(), 1)).collect();
        life.shows_by(&listening, Figures::open(2), &by)?;
        while let Some(worker) = workers.pop() {
            let by: Vec<_> = workers.iter().map(|worker| (worker.pid(), 1)).collect();
            worker.kill()?;
            let left = workers.len() as u64;
            let expected = Figures {
                accepts: 2,
                active: left,
                closes: 2 - left,
                ..Figures::NONE
            };
            life.shows_by(&listening, expected, &by)?;
        }
        Ok(())
    })
}

/// Check that a connection that is handed to another process stays open until that closes it, and
/// stays the accept of the one that accepted it.
#[test]
fn handed_to_another_process() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        let mut other = Acceptor::start(&listening)?;
        let (client, server) = listening::pair(&listening)?;
        other.hold(&server)?;
        drop(server);
        life.shows(&listening, Figures::open(1))?;
        other.close_last()?;
        life.shows(&listening, Figures::closed(1))?;
        drop(client);
        Ok(())
    })
}

/// Check that a connection stays open in the child of the process that accepted it, also when that
/// process is gone.
#[test]
fn inherited_by_a_child() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        let mut parent = Acceptor::start(&listening)?;
        let by = [(parent.pid(), 1)];
        let client = client(listening.local_addr()?)?;
        parent.accept()?;
        let child = parent.fork_holding()?;
        let shown = life.shows_by(&listening, Figures::open(1), &by);
        let orphaned = parent
            .kill()
            .and_then(|()| life.shows_by(&listening, Figures::open(1), &[]));
        // In any case, so that no process is left behind.
        kill(child)?;
        shown.and(orphaned)?;
        life.shows_by(&listening, Figures::closed(1), &[])?;
        drop(client);
        Ok(())
    })
}

/// Check that connections of a worker that lets go of the listener stay the listener's.
#[test]
fn worker_leaves_the_listener() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        let mut other = Acceptor::start(&listening)?;
        let own = listening::pair(&listening)?;
        let client = client(listening.local_addr()?)?;
        other.accept()?;
        let by = [(process::id(), 1), (other.pid(), 1)];
        life.shows_by(&listening, Figures::open(2), &by)?;
        // It is a worker no longer, and has its connection until it ends.
        other.close_listener()?;
        drop(own);
        other.kill()?;
        life.shows_by(&listening, Figures::closed(2), &by[..1])?;
        drop(client);
        Ok(())
    })
}

/// Check that a process with the pid of one that is gone does not inherit its accepts.
#[test]
fn pid_is_used_again() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?;
        let mut first = Acceptor::start(&listening)?;
        let pid = first.pid();
        let mut clients = vec![client(address)?, client(address)?];
        first.accept()?;
        first.accept()?;
        life.shows_by(&listening, Figures::open(2), &[(pid, 2)])?;
        first.kill()?;
        life.shows_by(&listening, Figures::closed(2), &[])?;

        let mut second = with_pid(pid, || Acceptor::start(&listening))?;
        clients.push(client(address)?);
        second.accept()?;
        let expected = Figures {
            accepts: 3,
            active: 1,
            closes: 2,
            ..Figures::NONE
        };
        life.shows_by(&listening, expected, &[(pid, 1)])?;
        drop(second);
        life.shows_by(&listening, Figures::closed(3), &[])?;
        Ok(())
    })
}

/// Starts processes until one gets this pid, which must be free.
fn with_pid(pid: u32, start: impl Fn() -> Result<Acceptor>) -> Result<Acceptor> {
    wait::until("a process with the pid of another", || {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())
            .context("writing ns_last_pid")?;
        let started = start()?;
        Ok((started.pid() == pid).then_some(started))
    })
}
