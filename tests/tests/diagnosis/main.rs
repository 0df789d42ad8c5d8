//! Verdicts on real servers: each trouble is found, named rightly, and gone when it is over; what is
//! healthy is never called trouble.

mod balance;
mod clients;
mod healthy;
mod processes;
mod queues;
mod stuck;

use anyhow::{Result, ensure};
use raindrops_tests::client::{Address, Client};

/// Clients that ask, each over a connection of its own, for what will not be answered yet.
fn asking(listener: &Address, count: usize, path: &str) -> Result<Vec<Client>> {
    let asking = || {
        let mut client = Client::connect(listener)?;
        client.ask_and_close(path)?;
        Ok(client)
    };
    (0..count).map(|_| asking()).collect()
}

/// Clients that have had an answer, and stay.
fn idle(listener: &Address, count: usize) -> Result<Vec<Client>> {
    let idle = || {
        let mut client = Client::connect(listener)?;
        client.get("/")?;
        ensure!(client.stays(), "{listener} closes");
        Ok(client)
    };
    (0..count).map(|_| idle()).collect()
}

fn answered(clients: &mut [Client]) -> Result<()> {
    clients
        .iter_mut()
        .try_for_each(|client| client.answered().map(drop))
}
