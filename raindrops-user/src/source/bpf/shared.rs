//! An array map, mapped into our memory. The programs write to it while we read, so every access
//! is atomic.

use std::{
    io,
    marker::PhantomData,
    mem::MaybeUninit,
    os::fd::AsFd,
    os::fd::AsRawFd,
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};
use raindrops_ebpf::{
    counters::{ListenerCounters, WorkerRow},
    listener::ListenerRow,
    overlooked::Look,
    turns::{Gauges, ListedConnection, ListenerTurns, LookOver, WorkerTurns},
};

const WORD: usize = size_of::<u64>();

/// A value that consists of whole 64-bit words, any bits of which are valid.
///
/// # Safety
/// The type is `repr(C)`, made of integers without padding, and a multiple of 8 bytes long.
pub unsafe trait Words: Copy {}

// SAFETY: `repr(C)`, integers, no padding: the ABI asserts the sizes.
unsafe impl Words for ListenerRow {}
// SAFETY: as above.
unsafe impl Words for ListenerCounters {}
// SAFETY: as above.
unsafe impl Words for WorkerRow {}
// SAFETY: as above.
unsafe impl Words for Look {}
// SAFETY: as above.
unsafe impl Words for ListenerTurns {}
// SAFETY: as above.
unsafe impl Words for WorkerTurns {}
// SAFETY: as above.
unsafe impl Words for Gauges {}
// SAFETY: as above.
unsafe impl Words for LookOver {}
// SAFETY: as above.
unsafe impl Words for ListedConnection {}
// SAFETY: one word.
unsafe impl Words for u64 {}

/// `length` values of a map created with `BPF_F_MMAPABLE`.
pub struct SharedArray<T> {
    memory: MmapRaw,
    length: usize,
    value: PhantomData<T>,
}

impl<T: Words> SharedArray<T> {
    const WORDS: usize = {
        assert!(size_of::<T>().is_multiple_of(WORD));
        size_of::<T>() / WORD
    };

    pub fn new(map: impl AsFd, length: usize) -> io::Result<Self> {
        let memory = MmapOptions::new()
            .len(length * size_of::<T>())
            .map_raw(map.as_fd().as_raw_fd())?;
        Ok(Self {
            memory,
            length,
            value: PhantomData,
        })
    }

    pub const fn len(&self) -> usize {
        self.length
    }

    fn word(&self, index: usize, word: usize) -> &AtomicU64 {
        assert!(
            index < self.length && word < Self::WORDS,
            "index within the map"
        );
        let words = self.memory.as_mut_ptr().cast::<u64>();
        // SAFETY: within the mapping by the assertion; the mapping is page-aligned and lives as
        // long as `self`; the kernel side changes it with atomic or single-word stores only.
        unsafe { AtomicU64::from_ptr(words.add(index * Self::WORDS + word)) }
    }

    /// A word of a value, by its offset in bytes.
    pub fn load(&self, index: usize, offset: usize) -> u64 {
        self.word(index, offset / WORD).load(Ordering::Acquire)
    }

    /// Adds to a word of a value, wrapping.
    pub fn add(&self, index: usize, offset: usize, amount: u64) {
        self.word(index, offset / WORD)
            .fetch_add(amount, Ordering::AcqRel);
    }

    /// Takes a word of a value out and leaves another.
    pub fn swap(&self, index: usize, offset: usize, value: u64) -> u64 {
        self.word(index, offset / WORD)
            .swap(value, Ordering::AcqRel)
    }

    /// A copy of a value. Its words are not read at one instant.
    pub fn read(&self, index: usize) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        let words = value.as_mut_ptr().cast::<u64>();
        for word in 0..Self::WORDS {
            let bits = self.word(index, word).load(Ordering::Acquire);
            // SAFETY: `value` has `WORDS` words; it need not be aligned for `u64`.
            unsafe { words.add(word).write_unaligned(bits) };
        }
        // SAFETY: every word has been written, and any bits are a valid `T`.
        unsafe { value.assume_init() }
    }

    /// Replaces a value, first word last, so that a value whose first word says what it is becomes
    /// that only when the rest is there.
    pub fn write(&self, index: usize, value: &T) {
        let words = std::ptr::from_ref(value).cast::<u64>();
        for word in (0..Self::WORDS).rev() {
            // SAFETY: `value` has `WORDS` words; it need not be aligned for `u64`.
            let bits = unsafe { words.add(word).read_unaligned() };
            self.word(index, word).store(bits, Ordering::Release);
        }
    }
}
