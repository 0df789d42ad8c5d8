//! What a listener did in one second: recorded by the daemon, or the difference of two views.

use std::{collections::BTreeMap, time::Duration};

use crate::view::{Durations, Listener, View, durations::Counts, history::ListenerHistory};

/// Views that are further apart tell nothing of a second.
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
    pub(super) fn recorded(it: &ListenerHistory, index: usize, step_s: f64) -> Self {
        let figure = |list: &[Option<u32>]| list.get(index).copied().flatten();
        let per_s = |count: u32| (step_s > 0.0).then(|| (f64::from(count) / step_s) as f32);
        Self {
            queued: figure(&it.queued),
            peak: figure(&it.peak),
            active: figure(&it.active),
            accepts_per_s: figure(&it.accepts).and_then(per_s),
            overflows: figure(&it.overflows),
            wait_p99_us: figure(&it.wait_p99_us),
            waiting: figure(&it.waiting),
            calling: figure(&it.calling),
        }
    }
}

/// What is known of each listener of a view, with what has changed since the one before.
pub(super) fn of<'a>(
    view: &'a View,
    before: Option<&'a View>,
) -> impl Iterator<Item = (&'a Listener, Figures)> {
    let before = before.filter(|it| it.since == view.since);
    let over = before.and_then(|it| view.monotonic_ns.checked_sub(it.monotonic_ns));
    let over = over.map(Duration::from_nanos);
    let over = over.filter(|it| !it.is_zero() && *it <= LONGEST);
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
