//! Parts of a view by what an operator calls them.

use anyhow::{Context as _, Result};
use raindrops_user::view::{Connections, Listener, Server, View, Worker};

/// All listeners of an address: several where they share it by SO_REUSEPORT.
#[must_use]
pub fn listeners<'a>(view: &'a View, address: &str) -> Vec<&'a Listener> {
    view.listeners
        .iter()
        .filter(|listener| listener.address == address)
        .collect()
}

/// The only listener of an address.
pub fn listener<'a>(view: &'a View, address: &str) -> Result<&'a Listener> {
    match listeners(view, address)[..] {
        [listener] => Ok(listener),
        ref several => {
            let there: Vec<&str> = view
                .listeners
                .iter()
                .map(|listener| listener.address.as_str())
                .collect();
            anyhow::bail!(
                "{} listeners at {address}; there are {there:?}",
                several.len()
            )
        }
    }
}

pub fn connections(listener: &Listener) -> Result<&Connections> {
    let connections = listener.connections.as_ref();
    connections.with_context(|| format!("{} has no connections group", listener.address))
}

pub fn server<'a>(view: &'a View, kind: &str) -> Result<&'a Server> {
    let server = view.servers.iter().find(|server| server.kind == kind);
    server.with_context(|| format!("no server of kind {kind} among {:?}", view.servers))
}

pub fn worker(view: &View, pid: u32) -> Result<&Worker> {
    let worker = view.workers.iter().find(|worker| worker.pid == pid);
    worker.with_context(|| format!("no worker {pid}"))
}

/// What the workers accepted on one listener, by their own rows.
#[must_use]
pub fn accepts_by_workers(view: &View, listener: &Listener) -> u64 {
    view.workers
        .iter()
        .flat_map(|worker| &worker.listeners)
        .filter(|part| part.id == listener.id)
        .filter_map(|part| part.accepts)
        .sum()
}
