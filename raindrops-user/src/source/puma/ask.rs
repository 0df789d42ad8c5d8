//! One question to a control server, within a time and a size, whatever the other side does.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, send, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use super::PumaError;
use crate::{
    address::{Address, UnixName},
    config::{PumaControl, Token},
    ids::Pid,
};

/// For everything together. A thread of the interpreter that wants to run waits 100 ms for each of
/// the others that does: with five busy ones puma 5.6.5 answered in 0.5 to 1.0 s.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of an answer; puma 8 writes 330 for each worker.
const LARGEST: usize = 64 << 10;

/// What came back, headers and all, and from whom.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub peer: Option<Pid>,
    pub answer: Vec<u8>,
}

/// As `pumactl stats` asks: one request, and what comes until the end.
pub(super) fn ask(control: &PumaControl, patience: Duration) -> Result<Received, PumaError> {
    let deadline = Instant::now() + patience;
    let socket = connect(&control.address, patience)?;
    write(socket.as_fd(), &request(control.token.as_ref()), deadline)?;
    let answer = read_to_end(socket.as_fd(), deadline)?;
    let peer = match control.address {
        Address::Tcp { .. } => None,
        Address::Unix(_) => peer(socket.as_fd()),
    };
    Ok(Received { peer, answer })
}

fn request(token: Option<&Token>) -> Vec<u8> {
    let query = token.map_or_else(String::new, |token| format!("?token={}", token.secret()));
    format!("GET /stats{query} HTTP/1.0\r\n\r\n").into_bytes()
}

fn connect(address: &Address, patience: Duration) -> Result<OwnedFd, PumaError> {
    let name = match address {
        Address::Tcp { ip, port } => {
            let address = SocketAddr::from((*ip, *port));
            return match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => Ok(stream.into()),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(PumaError::Timeout),
                Err(error) => Err(PumaError::Connect(error)),
            };
        }
        Address::Unix(name) => name,
    };
    connect_unix(name).map_err(|error| match error {
        Errno::AGAIN => PumaError::QueueFull,
        error => PumaError::Connect(error.into()),
    })
}

/// At once or not at all: where the queue is full this would wait for ever.
fn connect_unix(name: &UnixName) -> Result<OwnedFd, Errno> {
    let address = match name {
        UnixName::Path(path) => SocketAddrUnix::new(path.as_slice())?,
        UnixName::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
        UnixName::Unnamed => return Err(Errno::INVAL),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

fn write(socket: BorrowedFd<'_>, mut bytes: &[u8], deadline: Instant) -> Result<(), PumaError> {
    while !bytes.is_empty() {
        until(socket, Timeout::Send, deadline)?;
        let sent = send(socket, bytes, SendFlags::NOSIGNAL);
        bytes = &bytes[moved(sent)?.unwrap_or(0)..];
    }
    Ok(())
}

fn read_to_end(socket: BorrowedFd<'_>, deadline: Instant) -> Result<Vec<u8>, PumaError> {
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        until(socket, Timeout::Recv, deadline)?;
        match moved(rustix::io::read(socket, &mut part))? {
            Some(0) => return Ok(answer),
            Some(length) => answer.extend_from_slice(&part[..length]),
            None => {}
        }
        if answer.len() > LARGEST {
            return Err(PumaError::NotPuma);
        }
    }
}

/// Lets the next call wait until `deadline`.
fn until(socket: BorrowedFd<'_>, which: Timeout, deadline: Instant) -> Result<(), PumaError> {
    let left = deadline.saturating_duration_since(Instant::now());
    // Less would be rounded to nothing, which means for ever.
    if left < Duration::from_millis(1) {
        return Err(PumaError::Timeout);
    }
    set_socket_timeout(socket, which, Some(left)).map_err(|error| PumaError::Broken(error.into()))
}

/// How many bytes moved; `None` to try again.
fn moved(result: Result<usize, Errno>) -> Result<Option<usize>, PumaError> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(Errno::INTR) => Ok(None),
        Err(Errno::AGAIN) => Err(PumaError::Timeout),
        Err(error) => Err(PumaError::Broken(error.into())),
    }
}

/// Who called listen(2), by SO_PEERCRED. Not by rustix, whose pids are never 0: a process that is not
/// seen from our pid namespace is.
fn peer(socket: BorrowedFd<'_>) -> Option<Pid> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `peer`, and the descriptor is open.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    let pid = u32::try_from(peer.pid).ok().filter(|pid| *pid != 0);
    pid.filter(|_| result == 0).map(Pid)
}

#[cfg(test)]
mod tests;
