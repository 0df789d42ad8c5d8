//! A network namespace for a test, with loopback up.
//!
//! Made by unsharing one thread: processes that the thread starts are born in the namespace, and
//! keep the host's mounts, so that they see tracefs (which `ip netns exec` hides).

mod inhabited;

pub use inhabited::{Inhabited, ip, named_path, new_name};

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd as _,
    panic, thread,
};

use anyhow::{Context as _, Result};

use crate::kernel;

/// Runs `body` in a network namespace of its own.
pub fn in_new<T: Send>(body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let name = thread::current().name().unwrap_or("test").to_owned();
    thread::scope(|scope| {
        let inside = thread::Builder::new().name(name).spawn_scoped(scope, || {
            // SAFETY: it concerns only the calling thread, which nothing else shares.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
                return Err(io::Error::last_os_error()).context("making a network namespace");
            }
            loopback(true).context("bringing up loopback")?;
            body()
        })?;
        inside
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

/// Brings the namespace's loopback up or down.
pub fn loopback(is_up: bool) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: `ifreq` is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    let flags = if is_up {
        libc::IFF_UP | libc::IFF_RUNNING
    } else {
        0
    };
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which lives across the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `ListenOverflows` of the calling thread's namespace.
pub fn listen_overflows() -> Result<u64> {
    kernel::netstat("TcpExt", "ListenOverflows")
}
