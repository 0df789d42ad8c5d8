//! What the kernel itself says of a socket, asked by system calls only: the truth that a
//! listener's row is held against.

use std::{
    fs,
    io::ErrorKind,
    mem::size_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd as _},
};

use anyhow::{Context as _, Result};

/// States of a TCP socket as /proc shows them.
pub mod state {
    pub const ESTABLISHED: u8 = 1;
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LISTEN: u8 = 10;
}

/// A socket of the calling thread's network namespace.
#[derive(Clone, Copy, Debug)]
pub struct TcpSocket {
    pub local: SocketAddr,
    pub state: u8,
    /// 0 while no process has it.
    pub inode: u64,
}

impl TcpSocket {
    /// Whether it was accepted, or waits to be, at an address that a listener listens on.
    #[must_use]
    pub fn is_of(&self, listener: SocketAddr) -> bool {
        let is_there = match listener.ip() {
            ip if ip == self.local.ip() => true,
            IpAddr::V4(ip) => ip.is_unspecified() && self.local.is_ipv4(),
            IpAddr::V6(ip) => ip.is_unspecified() && self.local.is_ipv6(),
        };
        is_there && self.local.port() == listener.port() && self.state != state::LISTEN
    }
}

/// Every TCP socket, of both families.
pub fn tcp_sockets() -> Result<Vec<TcpSocket>> {
    let mut sockets = Vec::new();
    for table in ["tcp", "tcp6"] {
        // Not /proc/net, which is the main thread's namespace.
        let text = match fs::read_to_string(format!("/proc/thread-self/net/{table}")) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("reading {table}")),
        };
        for line in text.lines().skip(1) {
            let socket = parse(line);
            sockets.push(socket.with_context(|| format!("unexpected line in {table}: {line}"))?);
        }
    }
    Ok(sockets)
}

/// How many sockets accepted at a listener's address are in a state.
pub fn accepted_in(listener: SocketAddr, state: u8) -> Result<u64> {
    let accepted = tcp_sockets()?
        .into_iter()
        .filter(|socket| socket.is_of(listener) && socket.state == state && socket.inode != 0);
    Ok(accepted.count() as u64)
}

/// How many sockets at a listener's address are in a state, whoever has them.
pub fn any_in(listener: SocketAddr, state: u8) -> Result<u64> {
    let sockets = tcp_sockets()?;
    let those = sockets
        .iter()
        .filter(|socket| socket.is_of(listener) && socket.state == state);
    Ok(those.count() as u64)
}

fn parse(line: &str) -> Option<TcpSocket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let words: Option<Vec<u8>> = (0..address.len() / 8)
        .map(|word| u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok())
        .map(|word| word.map(u32::to_ne_bytes))
        .collect::<Option<Vec<_>>>()
        .map(|words| words.concat());
    let bytes = words?;
    let ip: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Ipv4Addr::from(bytes).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(TcpSocket {
        local: SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?),
        state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// `queued` and `limit` of a listening TCP socket.
pub fn backlog(listener: impl AsFd) -> Result<(u32, u32)> {
    // SAFETY: `tcp_info` is plain data, for which zeroes are valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    socket_option(listener, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).context("TCP_INFO")?;
    // For a listener these two are its accept queue, net/ipv4/tcp.c.
    Ok((info.tcpi_unacked, info.tcpi_sacked))
}

/// `sk_drops` of a socket.
pub fn drops(socket: impl AsFd) -> Result<u32> {
    const DROPS: usize = 8;
    let mut memory = [0u32; 9];
    socket_option(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut memory).context("SO_MEMINFO")?;
    Ok(memory[DROPS])
}

/// A socket option of a plain type.
fn socket_option<T>(
    socket: impl AsFd,
    level: i32,
    name: i32,
    value: &mut T,
) -> std::io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(value).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Sets a socket option that is a number.
pub fn set_option(socket: impl AsFd, level: i32, name: i32, value: i32) -> std::io::Result<()> {
    // SAFETY: the kernel reads an `i32`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Inode of the calling thread's network namespace.
pub fn netns_inode() -> Result<u32> {
    let link = fs::read_link("/proc/thread-self/ns/net").context("reading ns/net")?;
    let text = link.to_string_lossy();
    let number = text
        .strip_prefix("net:[")
        .and_then(|rest| rest.strip_suffix(']'))
        .and_then(|number| number.parse().ok());
    number.with_context(|| format!("unexpected {text}"))
}

/// A counter of the calling thread's namespace, of `/proc/net/netstat`.
pub fn netstat(table: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").context("reading netstat")?;
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(table)?.strip_prefix(':'));
    let (names, values) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(known, _)| *known == name)
        .and_then(|(_, value)| value.parse().ok())
        .with_context(|| format!("no {name} in netstat"))
}

/// Sets a variable of the calling thread's network namespace; false where this kernel has none.
pub fn sysctl(name: &str, value: &str) -> Result<bool> {
    let path = format!("/proc/sys/net/{}", name.replace('.', "/"));
    match fs::write(&path, value) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("writing {value} to {path}")),
    }
}
