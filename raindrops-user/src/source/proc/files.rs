//! Files of one process, read relative to its directory, so that a pid which is given to another
//! process meanwhile reads as gone.
//!
//! Apart because it is the only code here that makes system calls on another process. It decides
//! nothing about what the bytes mean.

use std::{
    collections::BTreeSet,
    ffi::CStr,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RawDir, fstatfs, openat, readlinkat_raw, statat},
    io::{Errno, read},
    path::DecInt,
};

use super::stat;
use crate::{
    ids::{Inode, Pid, Tid},
    source::watch::Watch,
};

/// Room for directory entries: 32 KiB are about a thousand.
pub(super) type Entries = [MaybeUninit<u8>; 32 * 1024];

/// Descriptors between signs of life: some milliseconds.
const STRETCH: usize = 4096;

/// Why a file gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// The process has ended.
    Gone,
    /// We may not look, or something else is wrong.
    Unreadable,
}

impl From<Errno> for Absent {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::SRCH => Self::Gone,
            _ => Self::Unreadable,
        }
    }
}

/// What a process has open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Those of the listeners that are looked for.
    pub listeners: BTreeSet<Inode>,
    /// Descriptors of whatever kind.
    pub descriptors: u64,
}

/// A directory: of all processes, of one, or of its threads.
#[derive(Debug)]
pub(super) struct Dir(OwnedFd);

impl Dir {
    pub fn open(path: &Path) -> Result<Self, Absent> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(rustix::fs::CWD, path, flags, Mode::empty())?))
    }

    pub fn process(&self, pid: Pid) -> Result<Self, Absent> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(
            &self.0,
            DecInt::new(pid.0),
            flags,
            Mode::empty(),
        )?))
    }

    /// At most `most` bytes of a file.
    pub fn file(&self, name: &CStr, most: usize) -> Result<Vec<u8>, Absent> {
        read_at(&self.0, name, most)
    }

    /// Children of one thread; empty where the kernel was built without CONFIG_PROC_CHILDREN.
    pub fn children_of(&self, thread: Pid) -> Vec<Pid> {
        let path = format!("task/{thread}/children");
        read_at(&self.0, path.as_str(), 64 * 1024)
            .map(|bytes| stat::pids(&bytes).collect())
            .unwrap_or_default()
    }

    /// The directory of a process's threads.
    pub fn task(&self) -> Result<Self, Absent> {
        self.subdirectory(c"task")
    }

    /// Threads of a process, at most `most`.
    pub fn threads(&self, entries: &mut Entries, most: usize) -> Vec<Pid> {
        self.task()
            .map(|dir| dir.numbers(entries, most))
            .unwrap_or_default()
    }

    /// A file of one thread, which the kernel gives whole at the first reading.
    pub fn of_thread<'a>(
        &self,
        thread: Tid,
        name: &str,
        room: &'a mut [u8],
    ) -> Result<&'a [u8], Absent> {
        let path = format!("{thread}/{name}");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.0, path, flags, Mode::empty())?;
        let length = loop {
            match read(&file, &mut *room) {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        };
        // What fills the room may be longer.
        if length == room.len() {
            return Err(Absent::Unreadable);
        }
        Ok(&room[..length])
    }

    /// Entries that are numbers, at most `most`, ascending.
    pub fn numbers(&self, entries: &mut Entries, most: usize) -> Vec<Pid> {
        let mut found = Vec::new();
        let mut dir = RawDir::new(&self.0, entries);
        while found.len() < most
            && let Some(Ok(entry)) = dir.next()
        {
            found.extend(stat::number(entry.file_name().to_bytes()).map(Pid));
        }
        found.sort_unstable();
        found
    }

    /// Whether the kernel makes these files, so that their sizes and times mean what it says.
    pub fn is_procfs(&self) -> bool {
        fstatfs(&self.0).is_ok_and(|stats| stats.f_type == rustix::fs::PROC_SUPER_MAGIC)
    }

    /// How many descriptors a process has, where the kernel says so (6.2, commit f1f1f2569901).
    pub fn descriptors(&self) -> Option<u64> {
        let stat = statat(&self.0, c"fd", AtFlags::empty()).ok()?;
        u64::try_from(stat.st_size).ok().filter(|size| *size != 0)
    }

    /// Which of `wanted` the process holds. Nothing is allocated for a descriptor that is not one
    /// of them: a table can have a million.
    pub fn sockets(
        &self,
        entries: &mut Entries,
        wanted: &BTreeSet<Inode>,
        watch: &Watch,
    ) -> Result<Held, Absent> {
        let dir = self.subdirectory(c"fd")?;
        let mut held = Held::default();
        let mut names = RawDir::new(&dir.0, entries);
        let mut seen = 0_usize;
        while let Some(entry) = names.next() {
            let entry = entry?;
            seen += 1;
            if seen.is_multiple_of(STRETCH) {
                watch.moved();
                if watch.stopped() {
                    return Err(Absent::Gone);
                }
            }
            let name = entry.file_name();
            if !name.to_bytes().first().is_some_and(u8::is_ascii_digit) {
                continue;
            }
            held.descriptors += 1;
            // As long as "socket:[18446744073709551615]" and one more, so that a longer link is
            // cut before its bracket.
            let mut link = [0; 30];
            match readlinkat_raw(&dir.0, name, &mut link[..]) {
                Ok(length) => {
                    let inode = socket(&link[..length]).filter(|inode| wanted.contains(inode));
                    held.listeners.extend(inode);
                }
                // The descriptor was closed meanwhile.
                Err(Errno::NOENT) => held.descriptors -= 1,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(held)
    }

    fn subdirectory(&self, name: &CStr) -> Result<Self, Absent> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(&self.0, name, flags, Mode::empty())?))
    }
}

fn read_at<P: rustix::path::Arg>(dir: impl AsFd, path: P, most: usize) -> Result<Vec<u8>, Absent> {
    let file = openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while bytes.len() < most {
        let room = chunk.len().min(most - bytes.len());
        match read(&file, &mut chunk[..room]) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(bytes)
}

/// The inode in `socket:[N]`.
fn socket(link: &[u8]) -> Option<Inode> {
    stat::number(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?).map(Inode)
}

#[cfg(test)]
mod tests {
    use super::socket;
    use crate::ids::Inode;

    #[test]
    fn knows_a_socket_from_other_links() {
        for (link, expected) in [
            (&b"socket:[33456]"[..], Some(Inode(33456))),
            (b"socket:[18446744073709551615]", Some(Inode(u64::MAX))),
            (b"socket:[18446744073709551616]", None),
            (b"socket:[]", None),
            (b"socket:[-1]", None),
            (b"pipe:[33456]", None),
            (b"/tmp/socket:[33456]", None),
            (b"", None),
        ] {
            assert_eq!(socket(link), expected, "{}", link.escape_ascii());
        }
    }
}
