//! A worker: four threads count in one slot, four in one each, until it is told to stop or killed.

use std::{error::Error, path::Path, process, sync::atomic::Ordering, thread};

use raindrops_slab::{Slab, Slot, Writing};

use crate::log::{Log, THREADS};

/// What round `number` of any thread records in the histogram.
pub const fn recorded(number: u64) -> u64 {
    number % 10
}

pub const SHARING: usize = THREADS / 2;
/// Slots of one worker.
pub const SLOTS: usize = 1 + THREADS - SHARING;

pub fn run(dir: &Path, worker: usize) -> Result<(), Box<dyn Error>> {
    let log = Log::open(&dir.join("log"))?;
    log.pid(worker)
        .store(u64::from(process::id()), Ordering::SeqCst);
    let slab = Slab::open(&dir.join("slab"))?;
    let shared = slab.claim_shared()?;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (shared, slab) = (&shared, &slab);
            scope.spawn(move || {
                if thread < SHARING {
                    count(shared, log, worker, thread);
                } else {
                    count(&slab.claim().expect("a slot"), log, worker, thread);
                }
            });
        }
    });
    Ok(())
}

fn count<W: Writing>(slot: &Slot<W>, log: Log, worker: usize, thread: usize) {
    let requests = slot.counter("requests").expect("a counter");
    let calling = slot.gauge("calling").expect("a gauge");
    let highest = slot.max("highest").expect("a max");
    let answer = slot.histogram("answer").expect("a histogram");
    let _held = calling.hold();
    for number in 0.. {
        if log.stop(worker).load(Ordering::Relaxed) != 0 {
            return;
        }
        // Sequentially consistent, so that no compiler moves the counting out from in between.
        log.begun(worker, thread)
            .store(number + 1, Ordering::SeqCst);
        requests.add(1);
        answer.record(recorded(number));
        highest.raise(number);
        log.returned(worker, thread)
            .store(number + 1, Ordering::SeqCst);
    }
}
