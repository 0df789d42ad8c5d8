//! Listeners that nobody connects to.

use anyhow::Result;

use super::{ports, say, sockets::listener, wait_for_the_end};

#[derive(Debug, clap::Args)]
pub struct Listen {
    #[arg(long)]
    listeners: u16,
    #[arg(long)]
    port: u16,
}

impl Listen {
    pub fn run(&self) -> Result<()> {
        let _listeners: Vec<_> = ports(self.port, self.listeners)?
            .map(|port| listener(port, 1024))
            .collect::<Result<_>>()?;
        say("READY")?;
        wait_for_the_end()
    }
}
