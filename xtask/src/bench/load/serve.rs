//! Servers as a host has them: each listener has a master, which never accepts, and workers that
//! it has forked.

use std::{
    collections::BTreeMap,
    io::{PipeReader, PipeWriter, Read as _, Write as _},
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    process::Pid,
};

use super::{
    ports, say,
    sockets::{accept, listener},
    wait_for_the_end,
    workers::fork,
};

const BACKLOG: i32 = 4096;

#[derive(Debug, clap::Args)]
pub struct Serve {
    #[arg(long)]
    listeners: u16,
    /// Of each listener
    #[arg(long)]
    workers: u16,
    #[arg(long)]
    port: u16,
}

impl Serve {
    /// Says the pids of all workers.
    pub fn run(&self) -> Result<()> {
        let (mut pids, started) = std::io::pipe()?;
        for port in ports(self.port, self.listeners)? {
            fork(|| master(port, self.workers, &started))?;
        }
        drop(started);
        let workers = usize::from(self.listeners) * usize::from(self.workers);
        let pids: Vec<String> = read_pids(&mut pids, workers)?
            .iter()
            .map(ToString::to_string)
            .collect();
        say(&format!("READY {}", pids.join(" ")))?;
        wait_for_the_end()
    }
}

fn read_pids(started: &mut PipeReader, count: usize) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    let mut pid = [0; size_of::<i32>()];
    for _ in 0..count {
        started
            .read_exact(&mut pid)
            .context("a server ended before its workers had started")?;
        pids.push(i32::from_ne_bytes(pid));
    }
    Ok(pids)
}

fn master(port: u16, workers: u16, mut started: &PipeWriter) -> Result<()> {
    let listener = listener(port, BACKLOG)?;
    for _ in 0..workers {
        let pid: Pid = fork(|| work(&listener))?;
        // Less than PIPE_BUF, so masters do not mix.
        started.write_all(&pid.as_raw_pid().to_ne_bytes())?;
    }
    loop {
        std::thread::park();
    }
}

/// Accepts and keeps each connection until its client closes it.
fn work(listener: &OwnedFd) -> Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let listening = EventData::new_u64(u64::MAX);
    epoll::add(
        &epoll,
        listener,
        listening,
        EventFlags::IN | EventFlags::EXCLUSIVE,
    )?;
    let mut open: BTreeMap<u64, OwnedFd> = BTreeMap::new();
    loop {
        let mut events = [MaybeUninit::uninit(); 64];
        let (events, _) = match epoll::wait(&epoll, &mut events, None) {
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited?,
        };
        for event in events.iter() {
            let data = event.data;
            if data == listening {
                while let Some(connection) = accept(listener)? {
                    let key = u64::try_from(connection.as_raw_fd())?;
                    epoll::add(
                        &epoll,
                        &connection,
                        EventData::new_u64(key),
                        EventFlags::IN | EventFlags::RDHUP,
                    )?;
                    open.insert(key, connection);
                }
            } else {
                open.remove(&data.u64());
            }
        }
    }
}
