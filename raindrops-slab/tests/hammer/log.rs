//! What each worker has begun and finished, in memory that outlives it: the truth that the slab is
//! held against. It shares nothing with the crate.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::mm::{MapFlags, ProtFlags, mmap};

pub const THREADS: usize = 8;
/// More workers than one run has.
const WORKERS: usize = 8192;
/// Words of one worker.
const WORDS: usize = 32;

/// Of one thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rounds {
    pub begun: u64,
    pub returned: u64,
}

/// Stays mapped until the process ends.
#[derive(Clone, Copy, Debug)]
pub struct Log(NonNull<AtomicU64>);

// SAFETY: atomics only, in a mapping that stays.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Log {
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create_new(path)?;
        file.set_len((WORKERS * WORDS * 8) as u64)?;
        Self::open(path)
    }

    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = WORKERS * WORDS * 8;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                access,
                MapFlags::SHARED,
                &file,
                0,
            )
        };
        Ok(Self(NonNull::new(start?.cast()).expect("not null")))
    }

    fn word(&self, worker: usize, word: usize) -> &AtomicU64 {
        assert!(worker < WORKERS && word < WORDS);
        // SAFETY: within the mapping, as just checked.
        unsafe { self.0.add(worker * WORDS + word).as_ref() }
    }

    /// Set to end a worker in its own time.
    pub fn stop(&self, worker: usize) -> &AtomicU64 {
        self.word(worker, 0)
    }

    pub fn pid(&self, worker: usize) -> &AtomicU64 {
        self.word(worker, 1)
    }

    /// Written before a round.
    pub fn begun(&self, worker: usize, thread: usize) -> &AtomicU64 {
        self.word(worker, 2 + 2 * thread)
    }

    /// Written after it.
    pub fn returned(&self, worker: usize, thread: usize) -> &AtomicU64 {
        self.word(worker, 3 + 2 * thread)
    }

    pub fn rounds(&self, worker: usize, thread: usize) -> Rounds {
        let returned = self.returned(worker, thread).load(Ordering::SeqCst);
        let begun = self.begun(worker, thread).load(Ordering::SeqCst);
        Rounds { begun, returned }
    }

    /// Of all threads of so many workers.
    pub fn all(&self, workers: usize) -> impl Iterator<Item = Rounds> {
        let threads = move |worker| (0..THREADS).map(move |thread| self.rounds(worker, thread));
        (0..workers).flat_map(threads)
    }
}
