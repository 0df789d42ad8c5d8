//! What a listener did in one second: recorded by the daemon, or the difference of two views.

use std::{collections::BTreeMap, time::Duration};

use crate::view::{
    Durations, Listener, View,
    durations::Counts,
    history::{History, ListenerHistory},
};

/// Steps that are longer, and views that are further apart, tell nothing of a second.
const LONGEST: Duration = Duration::from_millis(2_500);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::top) struct Figures {
    /// At its end.
    pub queued: Option<u32>,
    /// The most during it.
    pub peak: Option<u32>,
    pub active: Option<u32>,
    pub accepts_per_s: Option<f32>,
    /// During it.
    pub overflows: Option<u32>,
    pub wait_p99_us: Option<u32>,
    pub waiting: Option<u32>,
    pub calling: Option<u32>,
}

impl Figures {
    /// `lasted`: what its counts are of, where they tell of about a second.
    pub(super) fn recorded(it: &ListenerHistory, index: usize, lasted: Option<Duration>) -> Self {
        let figure = |list: &[Option<u32>]| list.get(index).copied().flatten();
        let during = |list: &[Option<u32>]| figure(list).zip(lasted);
        let per_s = |(count, over): (u32, Duration)| (f64::from(count) / over.as_secs_f64()) as f32;
        Self {
            queued: figure(&it.queued),
            peak: during(&it.peak).map(|(peak, _)| peak),
            active: figure(&it.active),
            accepts_per_s: during(&it.accepts).map(per_s),
            overflows: during(&it.overflows).map(|(count, _)| count),
            wait_p99_us: during(&it.wait_p99_us).map(|(wait, _)| wait),
            waiting: figure(&it.waiting),
            calling: figure(&it.calling),
        }
    }

    pub(super) fn or(&self, other: &Self) -> Self {
        Self {
            queued: self.queued.or(other.queued),
            peak: self.peak.or(other.peak),
            active: self.active.or(other.active),
            accepts_per_s: self.accepts_per_s.or(other.accepts_per_s),
            overflows: self.overflows.or(other.overflows),
            wait_p99_us: self.wait_p99_us.or(other.wait_p99_us),
            waiting: self.waiting.or(other.waiting),
            calling: self.calling.or(other.calling),
        }
    }
}

/// How long a step of the daemon was.
pub(super) fn recorded(history: &History, index: usize) -> Option<Duration> {
    let lasted = history.lasted_ms.get(index).copied().flatten()?;
    about_a_second(Duration::from_millis(lasted))
}

/// Time from one view to the next of the same daemon.
pub(super) fn between(view: &View, before: Option<&View>) -> Option<Duration> {
    let before = before.filter(|it| it.since == view.since)?;
    let between = view.monotonic_ns.checked_sub(before.monotonic_ns)?;
    about_a_second(Duration::from_nanos(between))
}

fn about_a_second(time: Duration) -> Option<Duration> {
    (!time.is_zero() && time <= LONGEST).then_some(time)
}

/// What is known of each listener of a view, with what has changed `over` the time since the one
/// before.
pub(super) fn of<'a>(
    view: &'a View,
    before: Option<&'a View>,
    over: Option<Duration>,
) -> impl Iterator<Item = (&'a Listener, Figures)> {
    let before = before.into_iter().flat_map(|it| &it.listeners);
    let earlier: BTreeMap<&str, &Listener> = before.map(|it| (it.id.as_str(), it)).collect();
    view.listeners.iter().map(move |listener| {
        let mut figures = now(listener);
        if let Some((before, over)) = earlier.get(listener.id.as_str()).zip(over) {
            since(listener, before, over, &mut figures);
        }
        (listener, figures)
    })
}

fn now(listener: &Listener) -> Figures {
    let connections = listener.connections.as_ref();
    let turns = listener.turns.as_ref();
    Figures {
        queued: listener.queue.queued,
        active: connections.and_then(|it| it.active).and_then(small),
        waiting: turns.and_then(|it| it.waiting).and_then(small),
        calling: turns.and_then(|it| it.calling).and_then(small),
        ..Figures::default()
    }
}

fn since(listener: &Listener, before: &Listener, over: Duration, figures: &mut Figures) {
    let queues = (listener.queue.overflows, before.queue.overflows);
    figures.overflows = grown(queues).and_then(small);
    let Some((now, then)) = listener
        .connections
        .as_ref()
        .zip(before.connections.as_ref())
    else {
        return;
    };
    let accepts = grown((now.accepts, then.accepts));
    figures.accepts_per_s = accepts.map(|it| (it as f64 / over.as_secs_f64()) as f32);
    let waits = now.wait.as_ref().and_then(counts);
    let waited = waits.zip(then.wait.as_ref().and_then(counts));
    let p99 = waited.and_then(|(now, then)| now.since(&then).quantile_us(99));
    figures.wait_p99_us = p99.and_then(small);
}

fn counts(durations: &Durations) -> Option<Counts> {
    Counts::published(durations.buckets.as_deref()?)
}

/// `None` where it is not known, or has begun anew.
fn grown((now, before): (Option<u64>, Option<u64>)) -> Option<u64> {
    now?.checked_sub(before?)
}

fn small(figure: u64) -> Option<u32> {
    Some(u32::try_from(figure).unwrap_or(u32::MAX))
}
