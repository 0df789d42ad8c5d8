//! Connections that stay open.

use std::{
    io::{PipeReader, PipeWriter, Read as _, Write as _},
    net::Ipv4Addr,
    os::fd::OwnedFd,
};

use anyhow::{Context as _, Result};

use super::{ports, say, sockets::connection, wait_for_the_end, workers::fork};

/// Descriptors of one client process; the usual hard limit is 20,000.
const PER_PROCESS: u32 = 15_000;

#[derive(Debug, clap::Args)]
pub struct Hold {
    #[arg(long)]
    connections: u32,
    #[arg(long)]
    listeners: u16,
    #[arg(long)]
    port: u16,
}

impl Hold {
    pub fn run(&self) -> Result<()> {
        let ports: Vec<u16> = ports(self.port, self.listeners)?.collect();
        let (mut done, finished) = std::io::pipe()?;
        let clients = self.connections.div_ceil(PER_PROCESS);
        for client in 0..clients {
            let quota = (self.connections - client * PER_PROCESS).min(PER_PROCESS);
            fork(|| hold(client, quota, &ports, &finished))?;
        }
        drop(finished);
        wait_for_all(&mut done, clients)?;
        say("READY")?;
        wait_for_the_end()
    }
}

fn wait_for_all(done: &mut PipeReader, clients: u32) -> Result<()> {
    let mut each = vec![0; clients as usize];
    done.read_exact(&mut each)
        .context("a client ended before it had its connections")
}

fn hold(client: u32, quota: u32, ports: &[u16], mut finished: &PipeWriter) -> Result<()> {
    let source = Ipv4Addr::new(127, 1, u8::try_from(client)?, 1);
    let _open: Vec<OwnedFd> = ports
        .iter()
        .cycle()
        .take(quota as usize)
        .map(|port| connection(source, *port))
        .collect::<Result<_>>()?;
    finished.write_all(&[1])?;
    loop {
        std::thread::park();
    }
}
