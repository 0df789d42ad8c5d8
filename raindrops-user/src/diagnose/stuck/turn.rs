//! Whether a worker's oldest unanswered turn is far older than turns are.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::{
    diagnose::{
        scene::{Scene, last_accept},
        words,
    },
    view::{Class, Listener, Worker},
};

/// A turn that is younger is not called old, however short others are.
const YOUNGEST: Duration = Duration::from_secs(1);

/// How many times as long as 99 of 100 answers take.
const TIMES_THE_USUAL: u32 = 10;

/// How many times as long as the longest answer of the last seconds. One long poll among a hundred
/// quick answers does not show in their 99th percentile; it shows here.
const TIMES_THE_LONGEST: u32 = 2;

/// With so many answers that ever took half as long, such a turn is one of its kind: a long poll or
/// an export that comes once a minute is in no window of seconds. One or two may have been stuck.
const FEWEST_ALIKE: u64 = 3;

/// Fewer answers say little of what is usual.
const ENOUGH_ANSWERS: u64 = 10;

/// Where the histogram ends. How much longer answers take than that is not known, so nothing can
/// be many times as long.
const MEASURABLE: Duration = Duration::from_micros(1 << 26);

/// Others' turns must have ended within this time, and within the later half of this turn's: when
/// all wait for the same thing, some ended just after it began.
const LATELY: Duration = Duration::from_secs(10);
const PART: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LongTurn {
    pub age: Duration,
    /// 99 of 100 answers take no longer.
    pub usual: Duration,
    pub thread: Option<u32>,
}

/// An event loop is never told by this: it works on other connections meanwhile.
pub(super) fn long(scene: &Scene<'_>, worker: &Worker) -> Option<LongTurn> {
    if !matches!(worker.class?, Class::Direct | Class::Handoff) {
        return None;
    }
    let (age, thread) = oldest_unanswered(worker)?;
    let mut usual = Duration::ZERO;
    let mut limit = YOUNGEST;
    for listener in of_turn(scene, worker, age) {
        let (of_most, longest) = answers(listener)?;
        if has_taken(listener, age / TIMES_THE_LONGEST) {
            return None;
        }
        usual = usual.max(of_most);
        limit = limit
            .max(of_most * TIMES_THE_USUAL)
            .max(longest * TIMES_THE_LONGEST);
    }
    let is_long = age > limit && !usual.is_zero();
    (is_long && others_end(scene, worker, age)).then_some(LongTurn { age, usual, thread })
}

/// The age of the oldest turn that is wholly read and not answered, and who is at it. A turn of
/// which only the age is known must be such a one: a slow upload or download is no fault of the
/// worker's.
fn oldest_unanswered(worker: &Worker) -> Option<(Duration, Option<u32>)> {
    let turns = worker.turns.as_ref()?;
    let others = (turns.reading, turns.writing);
    let (age, thread) = match turns.oldest_calling_us {
        Some(age) => (age, turns.oldest_calling_thread),
        None if turns.calling? > 0 && others == (Some(0), Some(0)) => {
            (turns.oldest_us?, turns.oldest_thread)
        }
        None => return None,
    };
    Some((Duration::from_micros(age), thread))
}

/// The listeners that the turn may be of: those with one as old.
fn of_turn<'v>(scene: &Scene<'v>, worker: &Worker, age: Duration) -> Vec<&'v Listener> {
    let as_old = |listener: &&Listener| {
        let turns = listener.turns.as_ref();
        let oldest = turns.and_then(|turns| turns.oldest_us);
        oldest.is_some_and(|oldest| Duration::from_micros(oldest) >= age)
    };
    let candidates: Vec<_> = scene.served(worker).filter(as_old).collect();
    if candidates.is_empty() {
        scene.served(worker).collect()
    } else {
        candidates
    }
}

/// How long 99 of 100 answers take, and the longest of the last seconds; `None` when too few are
/// known, or they take longer than is measured.
fn answers(listener: &Listener) -> Option<(Duration, Duration)> {
    let recent = listener.recent.answer.as_ref();
    let all = listener.turns.as_ref().map(|turns| &turns.answer);
    let lately = recent.filter(|it| it.count >= ENOUGH_ANSWERS);
    let of_most = match lately {
        Some(recent) => recent.p99_us?,
        None => all.filter(|it| it.count >= ENOUGH_ANSWERS)?.p99_us?,
    };
    let longest = recent.and_then(|it| it.max_us).unwrap_or(0);
    let of_most = Duration::from_micros(of_most);
    let longest = Duration::from_micros(longest);
    (of_most < MEASURABLE && longest < MEASURABLE).then_some((of_most, longest))
}

/// Whether a few answers have ever taken so long. Where only the longest is told, and not how many
/// there were, it may be one of them.
fn has_taken(listener: &Listener, long: Duration) -> bool {
    let Some(turns) = &listener.turns else {
        return false;
    };
    let long = words::to_micros(long);
    match &turns.answer.buckets {
        Some(buckets) => {
            let reach = |bound: Option<f64>| bound.is_none_or(|bound| bound >= long as f64);
            let alike = buckets.iter().filter(|(bound, _)| reach(*bound));
            alike.map(|(_, count)| count).sum::<u64>() >= FEWEST_ALIKE
        }
        None => turns.answer.max_us.is_some_and(|max| max >= long),
    }
}

/// Whether a turn of somebody else has ended lately, while this one has not: of another worker of
/// its server, or of another thread of its own.
fn others_end(scene: &Scene<'_>, worker: &Worker, age: Duration) -> bool {
    let lately = (age / PART).min(LATELY);
    let answers = |worker: &Worker| {
        let turns = worker.turns.as_ref();
        let last = turns.and_then(|turns| turns.last_answer_age_us);
        last.is_some_and(|last| Duration::from_micros(last) < lately)
    };
    // One thread that does both accepts when it is done with a turn.
    let accepts = |worker: &Worker| {
        let is_alone = worker.threads_seen == Some(1) && worker.class == Some(Class::Direct);
        is_alone && last_accept(worker).is_some_and(|last| last < lately)
    };
    // Whosever they are, they were given in the later half of this turn.
    let recent = |listener: &Listener| {
        let over = Duration::from_millis(listener.recent.over_ms);
        let answers = listener.recent.answer.as_ref();
        age >= over * PART && answers.is_some_and(|answers| answers.count > 0)
    };
    answers(worker)
        || scene
            .peers(worker)
            .any(|peer| answers(peer) || accepts(peer))
        || scene.served(worker).any(recent)
}
