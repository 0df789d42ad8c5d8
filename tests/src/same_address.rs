//! Listeners at one fixed address, each in a network namespace of its own.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
};

use anyhow::{Context as _, Result, ensure};
use raindrops_user::view::{Connections, Listener, View};

use crate::lookup::connections;

const PORT: u16 = 18_080;
const ADDRESS: &str = "127.0.0.1:18080";

/// The only listener of the usual address in a namespace.
pub fn listener_in(view: &View, namespace: u32) -> Result<&Listener> {
    let mut there = view
        .listeners
        .iter()
        .filter(|listener| listener.netns.inode == namespace && listener.address == ADDRESS);
    let found = there.next();
    let found = found.with_context(|| format!("no {ADDRESS} in {namespace}"))?;
    ensure!(there.next().is_none(), "two of {ADDRESS} in {namespace}");
    Ok(found)
}

#[must_use]
pub fn connections_in(view: &View, namespace: u32) -> Option<&Connections> {
    connections(listener_in(view, namespace).ok()?).ok()
}

/// Namespaces of which a view shows listeners.
#[must_use]
pub fn namespaces(view: &View) -> Vec<u32> {
    let mut inodes: Vec<u32> = view.listeners.iter().map(|it| it.netns.inode).collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

pub fn listen() -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?)
}

pub fn accept(listening: &TcpListener, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| Ok(listening.accept()?.0)).collect()
}

pub fn connect(count: usize) -> Result<Vec<TcpStream>> {
    (0..count)
        .map(|_| Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?))
        .collect()
}

/// Of the calling thread.
pub fn own_inode() -> Result<u32> {
    let inode = fs::metadata("/proc/thread-self/ns/net")?.ino();
    Ok(u32::try_from(inode)?)
}
