//! The network namespaces of this host: which there are, what they are called, and a way in.
//!
//! Nothing that is found here is kept open, because a descriptor of a namespace keeps it alive.
//! What is read inside is the business of the caller of [`Home::visit`].

mod names;
mod processes;
mod visit;

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

pub use self::{
    names::Names,
    processes::{Inhabitants, last_pid},
    visit::{Home, VisitError},
};
use crate::ids::{NetnsId, Pid};

/// Where a namespace can be entered, best first.
#[must_use]
pub fn doors(netns: NetnsId, names: &Names, inhabitants: &Inhabitants) -> Vec<PathBuf> {
    let of_process = |pid: &Pid| door_of(*pid);
    names
        .path(netns)
        .map(Path::to_owned)
        .into_iter()
        .chain(inhabitants.of(netns).iter().map(of_process))
        .collect()
}

/// The namespace that a process is in.
///
/// # Errors
/// When there is no such process, or we may not look at it.
pub fn of_process(pid: Pid) -> io::Result<NetnsId> {
    let inode = door_of(pid).metadata()?.ino();
    u32::try_from(inode)
        .map(NetnsId)
        .map_err(|_| io::ErrorKind::InvalidData.into())
}

fn door_of(pid: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}
