//! Where workers of unicorn and Rainbows! leave their signs of life: each writes the seconds of
//! `CLOCK_MONOTONIC` to the counter of its own number, at every request and every wake-up.
//!
//! Told from other counters by what they do: whatever is written between two looks is a second of
//! that time. A single look tells only where several workers say a time that has just been.

use std::{collections::BTreeMap, time::Duration};

use raindrops_slab::Kind as FieldKind;

use super::{Copied, Found, Host, Words, level};
use crate::{
    ids::{Monotonic, Pid, StartTicks},
    snapshot::slabs::{Slab, SlabField, SlabKind},
};

/// Looks with right times until it is told.
const NEEDED: u8 = 1;
/// The same once there was a wrong one: a worker may have been stopped between asking for the time
/// and writing it, but something else may also have met the time by chance.
const NEEDED_AFTER_DOUBT: u8 = 8;
/// How old ticks may be that are believed at once. unicorn kills whoever leaves none for its
/// timeout, 60 s unless that is configured.
const RECENT: u64 = 90;
/// Below, a time may also be a number of requests.
const LEAST_AT_ONCE: u64 = 3600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    No,
    /// Shown as nothing.
    Perhaps,
    Yes,
}

#[derive(Debug)]
pub(super) struct Ticks {
    needed: u8,
    is_doubtful: bool,
    /// It was told that these are ticks.
    was: bool,
}

impl Default for Ticks {
    fn default() -> Self {
        Self {
            needed: NEEDED,
            is_doubtful: false,
            was: false,
        }
    }
}

/// A worker that has the memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worker {
    pub index: usize,
    /// Second in which it was started, or one before.
    pub started: u64,
}

pub(super) fn workers(found: &Found<'_>, host: &Host, copied: Copied) -> Vec<Worker> {
    let worker = |index: u32, started: StartTicks| {
        let started = started.0 / host.ticks_per_second.max(1);
        let slept = copied.suspended.as_secs() + 1;
        Some(Worker {
            index: usize::try_from(index).ok()?,
            started: started.saturating_sub(slept),
        })
    };
    indexed(found)
        .filter_map(|(_, index, started)| worker(index, started))
        .collect()
}

fn indexed(found: &Found<'_>) -> impl Iterator<Item = (Pid, u32, StartTicks)> {
    let workers = found.holders.iter().filter(|(_, it)| it.is_worker());
    workers.filter_map(|(pid, it)| {
        let process = it.process;
        Some((*pid, process.member.index?, process.started))
    })
}

impl Ticks {
    /// `before`: what the last look found, and when it began to copy.
    pub fn look(
        &mut self,
        words: &Words,
        before: Option<(&Words, Monotonic)>,
        workers: &[Worker],
        copied: Copied,
    ) -> Verdict {
        let now = copied.ended.0.as_secs();
        let is_said = words.used() > 0 && !workers.is_empty();
        if is_said && !may_be(words, workers, now) {
            self.needed = NEEDED_AFTER_DOUBT;
            self.is_doubtful = true;
        } else if let Some((before, began)) = before {
            match changed(words, before, began.0.as_secs(), now) {
                Some(true) => self.needed = self.needed.saturating_sub(1),
                Some(false) => {
                    self.needed = NEEDED_AFTER_DOUBT;
                    self.is_doubtful = true;
                }
                None => {}
            }
        } else if are_recent(words, workers, now) {
            self.needed = 0;
        }
        // Whose tick is whose is not known where there are several memories of them.
        let has_all = workers.iter().all(|worker| worker.index < words.count());
        self.was |= self.needed == 0;
        match self.needed {
            0 if has_all => Verdict::Yes,
            _ if self.is_doubtful && !self.was => Verdict::No,
            _ => Verdict::Perhaps,
        }
    }
}

/// Whether all is a time that its worker lived in, or zero: the master clears a worker's counter
/// before it forks.
fn may_be(words: &Words, workers: &[Worker], now: u64) -> bool {
    let is_of_worker = |worker: &Worker| {
        let word = words.get(worker.index);
        word == 0 || word >= worker.started
    };
    words.iter().all(|word| word <= now) && workers.iter().all(is_of_worker)
}

/// Whether all that was written since then is a second between then and now; `None` when nothing
/// was, but zero.
fn changed(words: &Words, before: &Words, then: u64, now: u64) -> Option<bool> {
    let written = words.iter().zip(before.iter());
    let mut written = written
        .filter(|(after, before)| after != before && *after != 0)
        .map(|(after, _)| (then..=now).contains(&after))
        .peekable();
    written.peek()?;
    Some(written.all(|is_right| is_right))
}

fn are_recent(words: &Words, workers: &[Worker], now: u64) -> bool {
    let is_recent = |worker: &Worker| {
        let word = words.get(worker.index);
        word >= LEAST_AT_ONCE && word + RECENT >= now
    };
    workers.len() >= 2 && workers.iter().all(is_recent)
}

pub(super) fn slab(found: &Found<'_>, words: &Words, copied: Copied) -> Slab {
    let field = SlabField {
        name: "tick_age_s".to_owned(),
        kind: FieldKind::Gauge,
        unit: Some("s".to_owned()),
    };
    let age = |index: u32| {
        let tick = words.get(usize::try_from(index).ok()?);
        let age = copied.ended.0.saturating_sub(Duration::from_secs(tick));
        (tick != 0).then(|| level(age.as_secs()))
    };
    let workers: BTreeMap<_, _> = indexed(found)
        .map(|(pid, index, started)| ((pid, started), vec![age(index)]))
        .collect();
    let mut slab = found.slab(SlabKind::UnicornTick, vec![field], vec![None], copied);
    slab.workers = workers;
    slab
}
