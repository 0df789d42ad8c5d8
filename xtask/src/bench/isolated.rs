//! A place of its own for a measurement: network namespace with loopback up, and tracefs visible.
//!
//! Made by unsharing one thread; processes that the thread starts are born there. The host's mounts
//! do not change.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd as _,
    panic,
    path::Path,
    thread,
};

use anyhow::{Context as _, Result};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

const TRACEFS: &str = "/sys/kernel/tracing";

/// Runs `body` there.
pub fn isolated<T: Send>(body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let inside = thread::Builder::new()
            .name("bench".to_owned())
            .spawn_scoped(scope, || {
                // SAFETY: the thread's file descriptors stay shared; a network namespace and a
                // mount namespace concern only the calling thread.
                unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }
                    .context("making a network namespace")?;
                loopback_up().context("bringing up loopback")?;
                show_tracefs().context("mounting tracefs")?;
                body()
            })?;
        inside
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

fn loopback_up() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: `ifreq` is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which lives across the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn show_tracefs() -> io::Result<()> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    if !Path::new(TRACEFS).join("events").exists() {
        mount("tracefs", TRACEFS, "tracefs", MountFlags::empty(), None)?;
    }
    Ok(())
}
