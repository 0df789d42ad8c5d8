//! Listeners of the test's own, with a chosen backlog, and connections that are left waiting.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::OwnedFd,
};

use anyhow::{Context as _, Result};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with},
};

/// Listens on a free port of 127.0.0.1.
pub fn tcp(backlog: i32) -> Result<TcpListener> {
    let socket = stream_socket(SocketFlags::CLOEXEC)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).context("bind")?;
    listen(&socket, backlog).context("listen")?;
    Ok(socket.into())
}

/// Begins `count` connections without waiting for any.
pub fn begin_connections(address: SocketAddr, count: usize) -> Result<Vec<OwnedFd>> {
    (0..count)
        .map(|_| {
            let socket = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
            match connect(&socket, &address) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
                Err(error) => Err(error).context("connect"),
            }
        })
        .collect()
}

/// Makes `count` connections and accepts them; both ends, client first.
pub fn accepted(listener: &TcpListener, count: usize) -> Result<Vec<(TcpStream, TcpStream)>> {
    let address = listener.local_addr()?;
    (0..count)
        .map(|_| {
            let client = TcpStream::connect(address).context("connect")?;
            let (server, _) = listener.accept().context("accept")?;
            Ok((client, server))
        })
        .collect()
}

fn stream_socket(flags: SocketFlags) -> Result<OwnedFd> {
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).context("socket")
}
