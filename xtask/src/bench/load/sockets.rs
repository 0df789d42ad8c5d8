//! Loopback sockets as the loads need them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
        sockopt,
    },
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// As many descriptors as this process may have.
pub fn raise_descriptor_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("raising the limit of descriptors")
}

/// A non-blocking listener on 127.0.0.1.
pub fn listener(port: u16, backlog: i32) -> Result<OwnedFd> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let make = || {
        let socket = tcp(SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, backlog)?;
        Ok::<_, Errno>(socket)
    };
    make().with_context(|| format!("listening on {address}"))
}

/// A connection to a listener from an address of the client's own, so that ports do not run out.
pub fn connection(source: Ipv4Addr, port: u16) -> Result<OwnedFd> {
    let make = || {
        let socket = tcp(SocketFlags::CLOEXEC)?;
        late_port(&socket)?;
        bind(&socket, &SocketAddrV4::new(source, 0))?;
        connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        Ok::<_, io::Error>(socket)
    };
    make().with_context(|| format!("connecting from {source} to port {port}"))
}

/// Accepts what is queued; `None` when nothing is.
pub fn accept(listener: &OwnedFd) -> Result<Option<OwnedFd>> {
    match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(connection) => Ok(Some(connection)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error).context("accepting"),
    }
}

fn tcp(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
}

/// The port is chosen when the connection is made, when the kernel knows its other end: one port
/// can then serve many connections.
fn late_port(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int that lives across the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
