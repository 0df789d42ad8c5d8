//! Steps as they are published: those of some listeners, in lists by listener, merged into coarser
//! ones where that is asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Figure, Figures, History, Name, STEP, Step};
use crate::view::{
    durations::millis,
    history::{self, ListenerHistory, SCHEMA},
};

/// What was since `from`. `wanted`: ids of listeners; all where there are none named.
///
/// Figures of the end of a step are those of the last that it is merged of, counts are summed, and of
/// maxima and quantiles the highest is told.
#[must_use]
pub fn merged(
    history: &History,
    from: SystemTime,
    step: Duration,
    wanted: Option<&BTreeSet<String>>,
    now: SystemTime,
) -> history::History {
    let steps = history.since(from);
    let step = step.max(STEP);
    let parts = parts(&steps, step);
    let mut listeners: BTreeMap<&str, ListenerHistory> = BTreeMap::new();
    for (at, part) in parts.iter().enumerate() {
        for (name, figures) in summed(part, wanted).into_values() {
            let listener = listeners
                .entry(&name.id)
                .or_insert_with(|| unknown(name, parts.len()));
            set(listener, at, figures);
        }
    }
    history::History {
        schema: SCHEMA.to_owned(),
        taken_at: now,
        step_ms: millis(step),
        times_ms: parts
            .iter()
            .filter_map(|part| part.last())
            .map(|step| millis_since_1970(step.ended))
            .collect(),
        lasted_ms: parts.iter().map(|part| lasted(part)).collect(),
        listeners: listeners.into_values().collect(),
    }
}

/// Steps that become one. Coarser ones end at multiples of their length, so that whoever asks again
/// gets the same ones.
fn parts(steps: &[Arc<Step>], length: Duration) -> Vec<&[Arc<Step>]> {
    let length = millis(length);
    if length == millis(STEP) {
        return steps.chunks(1).collect();
    }
    let place = |step: &Arc<Step>| millis_since_1970(step.ended).div_ceil(length);
    steps.chunk_by(|a, b| place(a) == place(b)).collect()
}

/// Time over which the counts of a part are.
fn lasted(part: &[Arc<Step>]) -> Option<u64> {
    let lasted: Option<Duration> = part.iter().map(|step| step.lasted).sum();
    lasted.map(millis)
}

fn summed<'s>(
    part: &'s [Arc<Step>],
    wanted: Option<&BTreeSet<String>>,
) -> BTreeMap<&'s str, (&'s Name, Figures)> {
    let mut sums: BTreeMap<&str, (&Name, Figures)> = BTreeMap::new();
    let rows = part.iter().flat_map(|step| &step.rows);
    for (name, figures) in
        rows.filter(|(name, _)| wanted.is_none_or(|wanted| wanted.contains(&name.id)))
    {
        sums.entry(&name.id)
            .and_modify(|(_, sum)| *sum = sum.then(figures))
            .or_insert((name, *figures));
    }
    sums
}

impl Figures {
    /// Of two steps, one after the other.
    fn then(&self, later: &Self) -> Self {
        let sum = |a: Figure, b: Figure| {
            let sum = a.value().zip(b.value());
            Figure::of(sum.map(|(a, b)| u64::from(a) + u64::from(b)))
        };
        let greatest = |a: Figure, b: Figure| Figure::of(a.value().max(b.value()).map(u64::from));
        Self {
            queued: later.queued,
            peak: greatest(self.peak, later.peak),
            active: later.active,
            accepts: sum(self.accepts, later.accepts),
            overflows: sum(self.overflows, later.overflows),
            wait_p99_us: greatest(self.wait_p99_us, later.wait_p99_us),
            waiting: later.waiting,
            calling: later.calling,
        }
    }
}

fn unknown(name: &Name, steps: usize) -> ListenerHistory {
    let Name {
        id,
        address,
        protocol,
    } = name;
    let none = || vec![None; steps];
    ListenerHistory {
        id: id.clone(),
        address: address.clone(),
        protocol: protocol.clone(),
        queued: none(),
        peak: none(),
        active: none(),
        accepts: none(),
        overflows: none(),
        wait_p99_us: none(),
        waiting: none(),
        calling: none(),
    }
}

fn set(listener: &mut ListenerHistory, at: usize, figures: Figures) {
    let Figures {
        queued,
        peak,
        active,
        accepts,
        overflows,
        wait_p99_us,
        waiting,
        calling,
    } = figures;
    listener.queued[at] = queued.value();
    listener.peak[at] = peak.value();
    listener.active[at] = active.value();
    listener.accepts[at] = accepts.value();
    listener.overflows[at] = overflows.value();
    listener.wait_p99_us[at] = wait_p99_us.value();
    listener.waiting[at] = waiting.value();
    listener.calling[at] = calling.value();
}

fn millis_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, millis)
}
