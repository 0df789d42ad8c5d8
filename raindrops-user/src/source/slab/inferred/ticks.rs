//! Where workers of unicorn and Rainbows! leave their signs of life: each writes the seconds of
//! `CLOCK_MONOTONIC` to the counter of its own number, at every request and every wake-up.
//!
//! Told from other counters by what they do: whatever is written between two looks is a second of
//! that time. A single look tells only where several workers say a time that has just been.

use std::{collections::BTreeMap, time::Duration};

use raindrops_slab::Kind as FieldKind;

use super::{Copied, Family, Found, Host, Mapped, Words, level};
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

/// Who writes, or has written, to the memory.
#[derive(Clone, Debug)]
pub(super) struct Writers {
    /// Second in which the first of all processes that have it was started, or one before.
    since: u64,
    /// The same of each worker, by its number.
    workers: Vec<(usize, u64)>,
    /// All workers of the server are among them.
    is_whole: bool,
}

impl Writers {
    pub fn of(found: &Found<'_>, family: Option<&Family<'_>>, host: &Host, copied: Copied) -> Self {
        let second = |started: StartTicks| {
            let started = started.0 / host.ticks_per_second.max(1);
            started.saturating_sub(copied.suspended.as_secs() + 1)
        };
        let all = found.holders.values();
        let is_there =
            |(pid, it): (&Pid, &Mapped<'_>)| !it.is_worker() || found.holders.contains_key(pid);
        Self {
            is_whole: family.is_some_and(|family| family.iter().all(is_there)),
            since: all.map(|it| second(it.process.started)).min().unwrap_or(0),
            workers: indexed(found)
                .filter_map(|(_, index, started)| {
                    Some((usize::try_from(index).ok()?, second(started)))
                })
                .collect(),
        }
    }
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
        writers: &Writers,
        copied: Copied,
    ) -> Verdict {
        let now = copied.ended.0.as_secs();
        let changed =
            before.and_then(|(before, began)| changed(words, before, began.0.as_secs(), now));
        if !may_be(words, writers, now) || changed == Some(false) {
            self.needed = NEEDED_AFTER_DOUBT;
            self.is_doubtful = true;
        } else if changed == Some(true) {
            self.needed = self.needed.saturating_sub(1);
        }
        if !self.is_doubtful && are_recent(words, writers, now) {
            self.needed = 0;
        }
        // Whose tick is whose is not known where there are several memories of them.
        let has_all = writers
            .workers
            .iter()
            .all(|(index, _)| *index < words.count());
        self.was |= self.needed == 0;
        match self.needed {
            0 if has_all => Verdict::Yes,
            _ if self.is_doubtful && !self.was => Verdict::No,
            _ => Verdict::Perhaps,
        }
    }
}

/// Whether all is zero, or a time that its worker lived in: the master clears a worker's counter
/// before it forks.
fn may_be(words: &Words, writers: &Writers, now: u64) -> bool {
    let is_in = |word: u64, since: u64| word == 0 || (since..=now).contains(&word);
    words.iter().all(|word| is_in(word, writers.since))
        && writers
            .workers
            .iter()
            .all(|(index, started)| is_in(words.get(*index), *started))
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

fn are_recent(words: &Words, writers: &Writers, now: u64) -> bool {
    let is_recent = |(index, _): &(usize, u64)| {
        let word = words.get(*index);
        word >= LEAST_AT_ONCE && word + RECENT >= now
    };
    writers.is_whole && writers.workers.len() >= 2 && writers.workers.iter().all(is_recent)
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
