//! Short connections: one client process, one server process.

use std::{net::Ipv4Addr, os::fd::OwnedFd, time::Instant};

use anyhow::{Result, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read},
};

use super::{
    obey, ports, processor_time, say,
    sockets::{accept, connection, listener},
    workers::{fork, succeeded},
};

/// Addresses that the client comes from by turns: ends that wait keep their ports.
const SOURCES: u8 = 16;

#[derive(Debug, clap::Args)]
pub struct Churn {
    #[arg(long)]
    listeners: u16,
    #[arg(long)]
    port: u16,
}

impl Churn {
    /// Each line is a number of connections; the answer is the time and the processor time that
    /// they took, in seconds.
    pub fn run(&self) -> Result<()> {
        let ports: Vec<u16> = ports(self.port, self.listeners)?.collect();
        let listeners: Vec<OwnedFd> = ports
            .iter()
            .map(|port| listener(*port, 1024))
            .collect::<Result<_>>()?;
        say("READY")?;
        obey(|connections| {
            let processor = processor_time();
            let began = Instant::now();
            let client = fork(|| call(&ports, connections))?;
            answer(&listeners, connections)?;
            ensure!(succeeded(client)?, "the client failed");
            let took = began.elapsed().as_secs_f64();
            let processor = processor_time().saturating_sub(processor).as_secs_f64();
            Ok(format!("{took} {processor}"))
        })
    }
}

/// Connects and waits for the server to close.
fn call(ports: &[u16], connections: u32) -> Result<()> {
    let sources = (0..SOURCES).map(|source| Ipv4Addr::new(127, 2, source, 1));
    let mut sources = sources.cycle();
    for port in ports.iter().cycle().take(connections as usize) {
        let source = sources.next().unwrap_or(Ipv4Addr::LOCALHOST);
        let connection = connection(source, *port)?;
        let mut byte = [0];
        ensure!(read(&connection, &mut byte)? == 0, "the server sent a byte");
    }
    Ok(())
}

/// Accepts and closes.
fn answer(listeners: &[OwnedFd], connections: u32) -> Result<()> {
    let mut left = connections;
    let patience = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let mut polled: Vec<PollFd<'_>> = listeners
        .iter()
        .map(|listener| PollFd::new(listener, PollFlags::IN))
        .collect();
    while left != 0 {
        match poll(&mut polled, Some(&patience)) {
            Err(Errno::INTR) => continue,
            ready => ensure!(ready? != 0, "no connection for 10 s"),
        }
        for (listener, polled) in listeners.iter().zip(&polled) {
            if polled.revents().is_empty() {
                continue;
            }
            while let Some(connection) = accept(listener)? {
                drop(connection);
                left = left.saturating_sub(1);
            }
        }
    }
    Ok(())
}
