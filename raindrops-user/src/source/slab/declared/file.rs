//! Opens what may be a slab, and may be anything: a FIFO, a device, a symbolic link, a terabyte.
//!
//! It is looked at before it is opened, so that opening has no effect and waits for nobody; it is
//! read and never mapped, so that shortening it harms nobody but itself.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        FileType, Mode, OFlags, ResolveFlags, fstat, major, minor, open as open_at_once, openat2,
    },
    io::{Errno, pread},
};

use super::{DeclaredError, LONGEST};
use crate::snapshot::slabs::Memory;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct Found {
    fd: OwnedFd,
    pub memory: Memory,
    pub length: u64,
    pub uid: u32,
}

/// Opens a regular file of at most [`LONGEST`] bytes. The last part of `path` may not be a symbolic
/// link; with `beneath`, none of its parts, and it may not leave that directory's file system.
///
/// # Errors
/// When it is anything else, or may not be read.
pub fn open(beneath: Option<BorrowedFd<'_>>, path: &Path) -> Result<Found, DeclaredError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (directory, resolve) = match beneath {
        Some(directory) => (
            directory,
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
        ),
        None => (rustix::fs::CWD, ResolveFlags::NO_MAGICLINKS),
    };
    let place =
        openat2(directory, path, flags, Mode::empty(), resolve).map_err(|errno| match errno {
            Errno::LOOP => DeclaredError::NotAFile("symbolic link"),
            Errno::XDEV => DeclaredError::NotAFile("way into another file system"),
            errno => DeclaredError::Open(errno.into()),
        })?;
    let stat = fstat(&place).map_err(|errno| DeclaredError::Open(errno.into()))?;
    if let Some(kind) = other_kind(FileType::from_raw_mode(stat.st_mode)) {
        return Err(DeclaredError::NotAFile(kind));
    }
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    if length > LONGEST {
        return Err(DeclaredError::TooLong(length));
    }
    let again = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = open_at_once(again, flags, Mode::empty())
        .map_err(|errno| DeclaredError::Open(errno.into()))?;
    Ok(Found {
        fd,
        memory: Memory {
            major: major(stat.st_dev),
            minor: minor(stat.st_dev),
            inode: stat.st_ino,
        },
        length,
        uid: stat.st_uid,
    })
}

const fn other_kind(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile => None,
        FileType::Directory => Some("directory"),
        FileType::Symlink => Some("symbolic link"),
        FileType::Fifo => Some("FIFO"),
        FileType::Socket => Some("socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("device"),
        FileType::Unknown => Some("file of an unknown kind"),
    }
}

impl Found {
    /// Fills a buffer from an offset.
    ///
    /// # Errors
    /// When the file does not have so much any more.
    pub fn copy(&self, mut at: usize, mut to: &mut [u8]) -> Result<(), DeclaredError> {
        while !to.is_empty() {
            match pread(&self.fd, &mut *to, at as u64) {
                Ok(0) => return Err(DeclaredError::Shortened),
                Ok(count) => {
                    at += count;
                    to = &mut to[count..];
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(DeclaredError::Read(io::Error::from(errno))),
            }
        }
        Ok(())
    }
}
