//! Listeners of the test's own, with a chosen backlog, and connections that are left waiting.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
        sockopt::{set_socket_linger, set_socket_reuseaddr, set_socket_reuseport},
    },
};

use crate::wait::CEILING;

/// Backlog of unix listeners, which the kernel tells nobody but sock_diag.
pub const UNIX_BACKLOG: u32 = 16;

/// Listens on a free port of 127.0.0.1.
pub fn tcp(backlog: i32) -> Result<TcpListener> {
    let socket = stream_socket(SocketFlags::CLOEXEC)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).context("bind")?;
    listen(&socket, backlog).context("listen")?;
    Ok(socket.into())
}

/// Listens where connections of an earlier listener may still be, and where a later one may.
pub fn reusable(address: SocketAddr, backlog: i32) -> Result<TcpListener> {
    let socket = stream_socket(SocketFlags::CLOEXEC)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address).context("bind")?;
    listen(&socket, backlog).context("listen")?;
    Ok(socket.into())
}

/// `count` listeners that share a free port of 127.0.0.1 by SO_REUSEPORT.
pub fn group(count: usize, backlog: i32) -> Result<Vec<TcpListener>> {
    let mut members: Vec<TcpListener> = Vec::new();
    for _ in 0..count {
        let socket = stream_socket(SocketFlags::CLOEXEC)?;
        set_socket_reuseport(&socket, true)?;
        let address = match members.first() {
            Some(first) => first.local_addr()?,
            None => SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into(),
        };
        bind(&socket, &address).context("bind")?;
        listen(&socket, backlog).context("listen")?;
        members.push(socket.into());
    }
    Ok(members)
}

/// Listens on a unix name with a backlog of [`UNIX_BACKLOG`].
pub fn unix(name: &SocketAddrUnix) -> Result<UnixListener> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    );
    let socket = socket.context("socket")?;
    bind(&socket, name).context("bind")?;
    listen(&socket, UNIX_BACKLOG.cast_signed()).context("listen")?;
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

/// Connects, with a ceiling on what is read from it.
pub fn client(address: SocketAddr) -> Result<TcpStream> {
    let client = TcpStream::connect_timeout(&address, CEILING).context("connect")?;
    client.set_read_timeout(Some(CEILING))?;
    Ok(client)
}

/// Makes a connection and accepts it; both ends, client first.
pub fn pair(listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let client = client(listener.local_addr()?)?;
    let (server, _) = listener.accept().context("accept")?;
    server.set_read_timeout(Some(CEILING))?;
    Ok((client, server))
}

/// Makes `count` connections and accepts them; both ends, client first.
pub fn accepted(listener: &TcpListener, count: usize) -> Result<Vec<(TcpStream, TcpStream)>> {
    (0..count).map(|_| pair(listener)).collect()
}

/// Accepts without asking for the client's address.
pub fn accept_without_address(listener: impl AsFd) -> Result<TcpStream> {
    let listener = listener.as_fd().as_raw_fd();
    // SAFETY: no address is asked for, so nothing is written.
    let accepted = unsafe { libc::accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) };
    if accepted < 0 {
        return Err(io::Error::last_os_error()).context("accept");
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { TcpStream::from_raw_fd(accepted) })
}

/// Resets a connection instead of closing it.
pub fn reset(stream: impl Into<OwnedFd>) -> Result<()> {
    let stream = stream.into();
    set_socket_linger(&stream, Some(Duration::ZERO)).context("SO_LINGER")?;
    drop(stream);
    Ok(())
}

fn stream_socket(flags: SocketFlags) -> Result<OwnedFd> {
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).context("socket")
}
