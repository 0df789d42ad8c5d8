//! Processes as /proc shows them, read independently of raindrops.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};

use crate::wait;

/// Children of a process, ascending.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    let mut children: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect();
    children.sort_unstable();
    children
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, in parentheses, may itself hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Raises how many descriptors the test's own process may have, which holds an end of each connection.
pub fn allow_descriptors(count: u64) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        limit.current = Some(count);
        limit.maximum = limit.maximum.map(|maximum| maximum.max(count));
        setrlimit(Resource::Nofile, limit).context("raising RLIMIT_NOFILE")?;
    }
    Ok(())
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.cast_signed()).context("pid 0")?;
    kill_process(pid, signal).with_context(|| format!("{signal:?} to {pid:?}"))
}

/// Stops a process, and waits until each of its threads has stopped: one that is in a system call
/// ends it first.
pub fn stop(pid: u32) -> Result<()> {
    signal(pid, Signal::STOP)?;
    wait::until("all threads to stop", || {
        let mut threads = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
        let stopped = threads.all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        });
        Ok(stopped.then_some(()))
    })
}

/// Processes that hold a socket, ascending.
#[must_use]
pub fn holders(inode: u64) -> Vec<u32> {
    let socket = format!("socket:[{inode}]");
    let holds = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
        descriptors.into_iter().flatten().flatten().any(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == socket.as_str())
        })
    };
    let mut holders: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(holds)
        .collect();
    holders.sort_unstable();
    holders
}
