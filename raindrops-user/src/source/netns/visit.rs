//! Entering a network namespace for as long as something is read there.
//!
//! A namespace belongs to a thread. The thread that visits must be one that ends when anything
//! goes wrong on the way back: what it did afterwards would be about the wrong namespace.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, fstat, openat},
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::ids::NetnsId;

/// The namespace of the thread that made it, to return to.
#[derive(Debug)]
pub struct Home(OwnedFd);

#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// It ended since it was found, or this way in leads elsewhere now.
    #[error("the network namespace is gone")]
    Gone,
    #[error("{} may not be opened: {source}", path.display())]
    Closed {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the kernel refuses to enter {}: {source}", path.display())]
    Refused {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The thread must end.
    #[error("cannot return to the own network namespace: {0}")]
    Stranded(#[source] io::Error),
}

impl Home {
    /// # Errors
    /// When the namespace of the calling thread may not be opened.
    pub fn here() -> Result<Self, VisitError> {
        let path = Path::new("/proc/thread-self/ns/net");
        open(path)
            .map(Self)
            .map_err(|errno| VisitError::closed(path, errno))
    }

    /// Runs `read` on this thread in the namespace `netns`, which `door` leads to, and returns.
    ///
    /// # Errors
    /// Without having run `read`, but for [`VisitError::Stranded`].
    pub fn visit<T>(
        &self,
        netns: NetnsId,
        door: &Path,
        read: impl FnOnce() -> T,
    ) -> Result<T, VisitError> {
        self.enter(netns, door)?;
        let result = read();
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|errno| VisitError::Stranded(errno.into()))?;
        Ok(result)
    }

    /// Leaves no descriptor behind.
    fn enter(&self, netns: NetnsId, door: &Path) -> Result<(), VisitError> {
        let target = open(door).map_err(|errno| VisitError::closed(door, errno))?;
        let (there, here) = (fstat(&target), fstat(&self.0));
        let is_it = matches!((there, here), (Ok(there), Ok(here))
            if there.st_dev == here.st_dev && there.st_ino == u64::from(netns.0));
        if !is_it {
            return Err(VisitError::Gone);
        }
        move_into_link_name_space(target.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
            |errno| VisitError::Refused {
                path: door.to_owned(),
                source: errno.into(),
            },
        )
    }
}

impl VisitError {
    fn closed(path: &Path, errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::SRCH => Self::Gone,
            errno => Self::Closed {
                path: path.to_owned(),
                source: errno.into(),
            },
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    openat(CWD, path, flags, Mode::empty())
}
