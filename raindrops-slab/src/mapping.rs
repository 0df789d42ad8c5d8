//! Memory shared with other processes, as atomic words.
//!
//! The only place that maps, and that makes pointers into what it mapped.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::claim::Words;

#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
    fd: OwnedFd,
}

// SAFETY: the memory is only accessed through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes, which must be there and stay there.
    pub fn new(fd: OwnedFd, length: usize) -> rustix::io::Result<Self> {
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe {
            mmap(
                core::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &fd,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { start, length, fd })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The word at an offset. Panics where there is none.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at < self.length && self.length - at >= 8);
        // SAFETY: within the mapping and aligned, as just checked; mappings begin at a page.
        // Everybody who has this memory mapped uses atomics.
        unsafe { self.start.add(at).cast::<AtomicU64>().as_ref() }
    }

    /// So many words from an offset on. Panics where there are less.
    fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        assert!(at.is_multiple_of(8) && at <= self.length && (self.length - at) / 8 >= count);
        // SAFETY: as in `word`.
        unsafe { core::slice::from_raw_parts(self.start.add(at).cast().as_ptr(), count) }
    }

    /// The same for 32 bits.
    pub fn half(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at < self.length && self.length - at >= 4);
        // SAFETY: as in `word`.
        unsafe { self.start.add(at).cast::<AtomicU32>().as_ref() }
    }

    /// Copies whole words out, in ascending order for all that other processes can tell.
    pub fn copy(&self, at: usize, to: &mut [u8]) {
        assert!(to.len().is_multiple_of(8));
        let words = self.words(at, to.len() / 8);
        for (word, chunk) in words.iter().zip(to.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
        }
    }

    /// Copies bytes in.
    pub fn fill(&self, at: usize, from: &[u8]) {
        for (offset, chunk) in (at..).step_by(8).zip(from.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(offset)
                .store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing borrows from what is dropped.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

impl Words for Mapping {
    fn load(&self, at: usize, order: Ordering) -> u64 {
        self.word(at).load(order)
    }

    fn store(&self, at: usize, value: u64, order: Ordering) {
        self.word(at).store(value, order);
    }

    fn compare_exchange(&self, at: usize, from: u64, to: u64) -> Result<u64, u64> {
        self.word(at)
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
    }
}
