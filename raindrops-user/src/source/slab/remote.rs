//! Copies out of another process's memory.
//!
//! The only place that does. The other process may unmap, end or be slow meanwhile: the first two
//! are errors, for the third this is called only on a thread that nobody waits for.

use std::io;

use rustix::{
    fs::{major, minor, stat},
    io::Errno,
};

use super::maps::Mapping;
use crate::{ids::Pid, snapshot::slabs::Memory};

/// Which memory a process has where its map said; `None` where it has none there any more.
///
/// # Errors
/// When that may not be asked.
pub fn memory_at(pid: Pid, mapping: &Mapping) -> Result<Option<Memory>, Errno> {
    let (start, end) = (mapping.address, mapping.address + mapping.length);
    match stat(format!("/proc/{pid}/map_files/{start:x}-{end:x}")) {
        Ok(found) => Ok(Some(Memory {
            major: major(found.st_dev),
            minor: minor(found.st_dev),
            inode: found.st_ino,
        })),
        Err(errno @ (Errno::PERM | Errno::ACCESS)) => Err(errno),
        Err(_) => Ok(None),
    }
}

/// Whether a process still has this memory where its map said. Where that may not be asked, the map
/// is believed.
#[must_use]
pub fn is_there(pid: Pid, mapping: &Mapping) -> bool {
    memory_at(pid, mapping).map_or(true, |found| found == Some(mapping.memory))
}

/// Fills a buffer from an address of a process.
///
/// # Errors
/// When it may not be read, or does not have so much there.
pub fn copy(pid: Pid, address: u64, to: &mut [u8]) -> io::Result<()> {
    let local = libc::iovec {
        iov_base: to.as_mut_ptr().cast(),
        iov_len: to.len(),
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(
            usize::try_from(address).map_err(io::Error::other)?,
        ),
        iov_len: to.len(),
    };
    let raw = libc::pid_t::try_from(pid.0).map_err(io::Error::other)?;
    let (local, remote) = (&raw const local, &raw const remote);
    // SAFETY: the local range is a buffer that is borrowed for the call; the remote one is an
    // address that the kernel checks.
    let copied = unsafe { libc::process_vm_readv(raw, local, 1, remote, 1, 0) };
    match usize::try_from(copied) {
        Ok(copied) if copied == to.len() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::{copy, is_there};
    use crate::{ids::Pid, source::slab::maps::Maps};

    #[test]
    fn what_was_unmapped_is_not_there_any_more() {
        let me = Pid(std::process::id());
        let slab = raindrops_slab::Slab::in_memory(
            &raindrops_slab::Schema::new(
                "here",
                1,
                [raindrops_slab::Field::gauge(
                    "calling",
                    raindrops_slab::Unit::NONE,
                )],
            )
            .unwrap(),
        )
        .unwrap();
        let maps = Maps::parse(&std::fs::read("/proc/self/maps").unwrap(), 1 << 20);
        let mut mapped = maps.shared.iter();
        let is_ours = |it: &&crate::source::slab::maps::Mapping| {
            it.label.starts_with(b"/memfd:raindrops-slab:here")
        };
        let mapping = mapped.find(is_ours).unwrap();
        assert!(is_there(me, mapping));
        let mut other = mapping.clone();
        other.memory.inode += 1;
        // Without the right to look behind these links anything is believed.
        let may_look = rustix::process::geteuid().is_root();
        assert_eq!(is_there(me, &other), !may_look);
        drop(slab);
        assert!(!is_there(me, mapping));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let me = Pid(std::process::id());
        let bytes = *b"raindrops";
        let mut to = [0; 9];
        copy(me, bytes.as_ptr().addr() as u64, &mut to).unwrap();
        assert_eq!(to, bytes);
        assert_eq!(
            copy(me, 8, &mut to).unwrap_err().raw_os_error(),
            Some(libc::EFAULT)
        );
        assert!(copy(Pid(u32::MAX), 8, &mut to).is_err());
    }
}
