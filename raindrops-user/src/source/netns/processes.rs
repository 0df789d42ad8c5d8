//! Which network namespace each process is in: one link read per process.
//!
//! Apart from [`crate::source::proc`] because it cannot hang: the kernel reads this link without
//! the process's memory, and so without its locks.

use std::{collections::BTreeMap, ffi::CStr, fs, io::Write as _, mem::MaybeUninit, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw},
    io::Errno,
};

use crate::ids::{NetnsId, Pid};

/// Processes looked at.
const MOST_PROCESSES: usize = 1 << 17;
/// Processes remembered of one namespace: any may end before it is entered.
const MOST_DOORS: usize = 4;

/// Which processes were where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inhabitants {
    by_namespace: BTreeMap<NetnsId, Vec<Pid>>,
    /// Processes that were looked at.
    pub processes: usize,
    /// Processes whose namespace we may not know.
    pub unreadable: usize,
}

impl Inhabitants {
    /// Looks at the first thread of each process under `proc`.
    #[must_use]
    pub fn look(proc: &Path) -> Self {
        let mut found = Self::default();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = openat(CWD, proc, flags, Mode::empty()) else {
            return found;
        };
        let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
        let mut entries = RawDir::new(&dir, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            let Some(pid) = pid(entry.file_name()) else {
                continue;
            };
            if found.processes == MOST_PROCESSES {
                break;
            }
            found.processes += 1;
            let mut path = [0; 32];
            let mut link = [0; 24];
            if write!(&mut path[..], "{pid}/ns/net").is_err() {
                continue;
            }
            let Ok(path) = CStr::from_bytes_until_nul(&path) else {
                continue;
            };
            match readlinkat_raw(&dir, path, &mut link[..]) {
                Ok(length) => found.add(&link[..length], pid),
                // It has ended.
                Err(Errno::NOENT | Errno::SRCH) => {}
                Err(_) => found.unreadable += 1,
            }
        }
        found
    }

    fn add(&mut self, link: &[u8], pid: Pid) {
        if let Some(netns) = namespace(link) {
            let doors = self.by_namespace.entry(netns).or_default();
            if doors.len() < MOST_DOORS {
                doors.push(pid);
            }
        }
    }

    pub(super) fn of(&self, netns: NetnsId) -> &[Pid] {
        self.by_namespace.get(&netns).map_or(&[], Vec::as_slice)
    }

    /// Every namespace that a process is in.
    pub fn namespaces(&self) -> impl Iterator<Item = NetnsId> {
        self.by_namespace.keys().copied()
    }
}

/// The pid that was given out last, from `loadavg` under `proc`.
#[must_use]
pub fn last_pid(proc: &Path) -> Option<u32> {
    let text = fs::read_to_string(proc.join("loadavg")).ok()?;
    text.split_whitespace().next_back()?.parse().ok()
}

fn pid(name: &CStr) -> Option<Pid> {
    let name = name.to_str().ok()?;
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.parse().ok().map(Pid))?
}

/// The inode in `net:[N]`.
fn namespace(link: &[u8]) -> Option<NetnsId> {
    let number = link.strip_prefix(b"net:[")?.strip_suffix(b"]")?;
    str::from_utf8(number).ok()?.parse().ok().map(NetnsId)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{Inhabitants, last_pid};
    use crate::ids::{NetnsId, Pid};

    #[test]
    fn processes_are_found_by_their_links() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, link) in [
            ("1", "net:[4026531840]"),
            ("20", "net:[7]"),
            ("21", "net:[7]"),
            ("22", "mnt:[8]"),
            ("23", "net:[99999999999]"),
            ("self", "net:[9]"),
        ] {
            let ns = proc.path().join(pid).join("ns");
            fs::create_dir_all(&ns).unwrap();
            symlink(link, ns.join("net")).unwrap();
        }
        fs::create_dir(proc.path().join("24")).unwrap();
        let found = Inhabitants::look(proc.path());
        let namespaces: Vec<_> = found.namespaces().collect();
        assert_eq!(namespaces, [NetnsId(7), NetnsId(4026531840)]);
        let mut there = found.of(NetnsId(7)).to_vec();
        there.sort_unstable();
        assert_eq!(there, [Pid(20), Pid(21)]);
        assert_eq!((found.processes, found.unreadable), (6, 0));
    }

    #[test]
    fn the_last_pid_is_read() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(last_pid(proc.path()), None);
        fs::write(proc.path().join("loadavg"), "4.71 5.60 4.91 2/512 28481\n").unwrap();
        assert_eq!(last_pid(proc.path()), Some(28481));
    }

    #[test]
    fn the_own_process_is_found() {
        let own = super::super::of_process(Pid(std::process::id())).unwrap();
        let found = Inhabitants::look("/proc".as_ref());
        assert!(found.namespaces().any(|netns| netns == own));
    }
}
