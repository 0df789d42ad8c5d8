//! Where counts are kept: a listener's shard of this CPU, a worker's row, the misses.

use core::num::NonZeroU64;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id};
use raindrops_ebpf::{
    connection::NO_WORKER,
    counters::{ListenerCounters, WorkerKey, WorkerRow},
    globals::SHARDS,
    histogram::{Histogram, bucket},
    listener::{ListenerRow, RowRef},
    miss::Miss,
    peak,
    turns::ListenerTurns,
};

use crate::{
    atomic::{add, raise, subtract},
    maps::{
        FREE_WORKER_ROWS, LISTENER_COUNTERS, LISTENER_ROWS, LISTENER_TURNS, MISSES, WORKER_ROWS,
        WORKER_TURNS, WORKERS,
    },
    sock,
};

const BPF_NOEXIST: u64 = 1;

/// Counts an event that was not counted.
#[inline(always)]
pub fn missed(miss: Miss) {
    if let Some(counter) = MISSES.get_ptr_mut(miss as u32) {
        add(counter, 1);
    }
}

/// This CPU's counters of a listener.
#[derive(Clone, Copy)]
pub struct Listener {
    counters: *mut ListenerCounters,
    index: u32,
}

impl Listener {
    /// Fails when the row has gone to another listener.
    #[inline(always)]
    pub fn at(row: RowRef) -> Result<Self, Miss> {
        let description: *const ListenerRow =
            LISTENER_ROWS.get_ptr(row.slot).ok_or(Miss::NoListener)?;
        // SAFETY: the verifier knows this for a pointer to a whole map value.
        let generation = unsafe { (&raw const (*description).generation).read_volatile() };
        if generation != row.generation {
            return Err(Miss::StaleListener);
        }
        // SAFETY: the helper has no preconditions.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let shards = SHARDS.load();
        let index = row.slot * shards + (cpu & (shards - 1));
        let counters = LISTENER_COUNTERS.get_ptr_mut(index);
        counters
            .map(|counters| Self { counters, index })
            .ok_or(Miss::NoListener)
    }

    /// An accept whose time in the queue is known, or is not.
    #[inline(always)]
    pub fn accepted(self, wait_ns: Option<NonZeroU64>) {
        match wait_ns {
            // SAFETY: `self.counters` points to a whole map value.
            Some(wait) => record(unsafe { &raw mut (*self.counters).wait }, wait.get()),
            // SAFETY: as above.
            None => add(unsafe { &raw mut (*self.counters).wait_unknown }, 1),
        }
        self.changed();
    }

    /// An accept that no hook saw, found out later.
    #[inline(always)]
    pub fn accepted_unseen(self) {
        // SAFETY: `self.counters` points to a whole map value.
        add(unsafe { &raw mut (*self.counters).late_accepts }, 1);
        self.changed();
    }

    #[inline(always)]
    pub fn closed(self, lifetime_ns: Option<NonZeroU64>) {
        match lifetime_ns {
            // SAFETY: `self.counters` points to a whole map value.
            Some(lifetime) => record(
                unsafe { &raw mut (*self.counters).lifetime },
                lifetime.get(),
            ),
            // SAFETY: as above.
            None => add(unsafe { &raw mut (*self.counters).lifetime_unknown }, 1),
        }
        self.changed();
    }

    #[inline(always)]
    pub fn half_closed(self) {
        // SAFETY: `self.counters` points to a whole map value.
        add(unsafe { &raw mut (*self.counters).half_closed }, 1);
        self.changed();
    }

    #[inline(always)]
    pub fn no_longer_half_closed(self) {
        // SAFETY: `self.counters` points to a whole map value.
        subtract(unsafe { &raw mut (*self.counters).half_closed }, 1);
        self.changed();
    }

    /// A connection that is older than the programs and was open.
    #[inline(always)]
    pub fn seeded(self) {
        // SAFETY: `self.counters` points to a whole map value.
        add(unsafe { &raw mut (*self.counters).seeded }, 1);
        self.changed();
    }

    /// A connection has become active, of a worker that may not be known.
    #[inline(always)]
    pub fn one_more_active(self, worker: u32) {
        match Worker::at(worker) {
            // SAFETY: `worker.0` points to a whole map value.
            Some(worker) => add(unsafe { &raw mut (*worker.0).active }, 1),
            // SAFETY: `self.counters` points to a whole map value.
            None => add(unsafe { &raw mut (*self.counters).unattributed }, 1),
        }
    }

    /// The reverse of `one_more_active`.
    #[inline(always)]
    pub fn one_less_active(self, worker: u32) {
        match Worker::at(worker) {
            // SAFETY: `worker.0` points to a whole map value.
            Some(worker) => subtract(unsafe { &raw mut (*worker.0).active }, 1),
            // SAFETY: `self.counters` points to a whole map value.
            None => subtract(unsafe { &raw mut (*self.counters).unattributed }, 1),
        }
        self.changed();
    }

    #[inline(always)]
    pub fn aborted(self) {
        // SAFETY: `self.counters` points to a whole map value.
        add(unsafe { &raw mut (*self.counters).aborted }, 1);
        self.changed();
    }

    /// A connection has joined a queue that is now `length` long.
    #[inline(always)]
    pub fn queued(self, length: u32, now: u64) {
        // SAFETY: `self.counters` points to a whole map value.
        let word = unsafe { &raw mut (*self.counters).peak };
        raise(word, peak::pack(length, now), peak::length);
    }

    /// A connection has joined a unix listener's queue.
    #[inline(always)]
    pub fn arrived(self) {
        // SAFETY: `self.counters` points to a whole map value.
        add(unsafe { &raw mut (*self.counters).unix_arrivals }, 1);
        self.changed();
    }

    #[inline(always)]
    fn changed(self) {
        // SAFETY: `self.counters` points to a whole map value.
        add(unsafe { &raw mut (*self.counters).changes }, 1);
    }

    /// A turn has begun with a read of so many bytes; how long its data waited is known, or is not.
    #[inline(always)]
    pub fn turn_began(self, wait_ns: Option<NonZeroU64>, bytes: u64) {
        self.turns(|turns| {
            match wait_ns {
                Some(wait) => record(&raw mut turns.read_wait, wait.get()),
                None => add(&raw mut turns.read_wait_unknown, 1),
            }
            add(&raw mut turns.bytes_in, bytes);
        });
    }

    #[inline(always)]
    pub fn read_more(self, bytes: u64) {
        self.turns(|turns| add(&raw mut turns.bytes_in, bytes));
    }

    /// The first write of a turn, so long after its first read.
    #[inline(always)]
    pub fn answered(self, answer_ns: u64, bytes: u64) {
        self.turns(|turns| {
            record(&raw mut turns.answer, answer_ns);
            add(&raw mut turns.bytes_out, bytes);
        });
    }

    #[inline(always)]
    pub fn written_more(self, bytes: u64) {
        self.turns(|turns| add(&raw mut turns.bytes_out, bytes));
    }

    /// A turn that was answered has ended; its writes took so long.
    #[inline(always)]
    pub fn written(self, write_ns: u64) {
        self.turns(|turns| {
            record(&raw mut turns.write, write_ns);
            add(&raw mut turns.changes, 1);
        });
    }

    #[inline(always)]
    pub fn unanswered(self) {
        self.turns(|turns| {
            add(&raw mut turns.unanswered, 1);
            add(&raw mut turns.changes, 1);
        });
    }

    /// A connection that is older than the programs is followed from now on, or has ended.
    #[inline(always)]
    pub fn seed_settled(self) {
        self.turns(|turns| {
            add(&raw mut turns.seeds_settled, 1);
            add(&raw mut turns.changes, 1);
        });
    }

    #[inline(always)]
    fn turns(self, change: impl Fn(&mut ListenerTurns)) {
        if let Some(turns) = LISTENER_TURNS.get_ptr_mut(self.index) {
            // SAFETY: a pointer to a whole map value.
            change(unsafe { &mut *turns });
        }
    }
}

/// A worker's counters on one listener.
#[derive(Clone, Copy)]
pub struct Worker(*mut WorkerRow);

impl Worker {
    /// Number of the current process's row on a listener; made when there is none yet.
    #[inline(always)]
    pub fn current(slot: u32) -> Result<u32, Miss> {
        let key = WorkerKey {
            started_ns: sock::current_start()?,
            pid: (bpf_get_current_pid_tgid() >> 32) as u32,
            slot,
        };
        if let Some(row) = WORKERS.get_ptr(key) {
            // SAFETY: a pointer to a whole map value.
            return Ok(unsafe { *row });
        }
        let Ok(Some(row)) = FREE_WORKER_ROWS.pop() else {
            return Err(Miss::WorkersFull);
        };
        if let Some(counters) = WORKER_ROWS.get_ptr_mut(row) {
            // SAFETY: a pointer to a whole map value.
            unsafe { (*counters).key = key };
        }
        if WORKERS.insert(key, row, BPF_NOEXIST).is_err() {
            let _ = FREE_WORKER_ROWS.push(row, 0);
            return WORKERS
                .get_ptr(key)
                .map(|row| {
                    // SAFETY: a pointer to a whole map value.
                    unsafe { *row }
                })
                .ok_or(Miss::WorkersFull);
        }
        if let Some(counters) = WORKER_ROWS.get_ptr_mut(row) {
            // SAFETY: a pointer to a whole map value.
            unsafe { (&raw mut (*counters).in_use).write_volatile(1) };
        }
        Ok(row)
    }

    /// The counters in a row; `None` for a worker that is not known.
    #[inline(always)]
    pub fn at(row: u32) -> Option<Self> {
        if row == NO_WORKER {
            return None;
        }
        WORKER_ROWS.get_ptr_mut(row).map(Self)
    }

    #[inline(always)]
    pub fn accepted(self, now: u64, wait_ns: Option<NonZeroU64>) {
        // SAFETY: `self.counters` points to a whole map value.
        let row = unsafe { &mut *self.0 };
        add(&raw mut row.accepts, 1);
        row.last_accept_ns = now;
        if let Some(wait) = wait_ns.map(NonZeroU64::get) {
            add(&raw mut row.wait_count, 1);
            add(&raw mut row.wait_sum_ns, wait);
            if wait > row.wait_max_ns {
                row.wait_max_ns = wait;
            }
        }
    }

    /// One of its turns has begun. `row`: its own.
    #[inline(always)]
    pub fn turn_began(row: u32) {
        if let Some(turns) = WORKER_TURNS.get_ptr_mut(row) {
            // SAFETY: a pointer to a whole map value.
            add(unsafe { &raw mut (*turns).turns }, 1);
        }
    }

    /// One of its turns was answered so long after its first read. `row`: its own.
    #[inline(always)]
    pub fn answered(row: u32, answer_ns: u64, now: u64) {
        if let Some(turns) = WORKER_TURNS.get_ptr_mut(row) {
            // SAFETY: a pointer to a whole map value.
            let turns = unsafe { &mut *turns };
            turns.last_answer_ns = now;
            add(&raw mut turns.answers, 1);
            add(&raw mut turns.answer_sum_ns, answer_ns);
            if answer_ns > turns.answer_max_ns {
                turns.answer_max_ns = answer_ns;
            }
        }
    }
}

/// Adds a duration to a histogram. The maximum of two that meet may be lost; readers correct it
/// by the highest bucket.
#[inline(always)]
fn record(histogram: *mut Histogram, duration_ns: u64) {
    let index = bucket(duration_ns);
    // SAFETY: `histogram` lies within a map value, and `bucket` stays within its buckets.
    let count = unsafe { (&raw mut (*histogram).buckets).cast::<u64>().add(index) };
    add(count, 1);
    // SAFETY: as above.
    add(unsafe { &raw mut (*histogram).sum_ns }, duration_ns);
    // SAFETY: as above.
    let max = unsafe { &mut (*histogram).max_ns };
    if duration_ns > *max {
        *max = duration_ns;
    }
}
