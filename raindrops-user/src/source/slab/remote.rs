//! Copies out of another process's memory.
//!
//! The only place that does. The other process may unmap, end or be slow meanwhile: the first two
//! are errors, for the third this is called only on a thread that nobody waits for.

use std::io;

use crate::ids::Pid;

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
    // SAFETY: the local range is a buffer that is borrowed for the call; the remote one is an
    // address that the kernel checks.
    let copied =
        unsafe { libc::process_vm_readv(raw, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(copied) {
        Ok(copied) if copied == to.len() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::copy;
    use crate::ids::Pid;

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
