//! What figures were, second by second: kept by the sampler, read by whoever asks.
//!
//! A step is what all listeners had and did at one time: rows of one size, of which only as many are
//! kept as a bound of memory allows. Readers take the steps that there are and merge them into coarser
//! ones without holding anybody up. Knows no protocol and no clock: times come with the views.

mod merge;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

pub use self::merge::merged;
use crate::{
    ids::{Inode, Monotonic, NetnsId},
    snapshot::ListenerKey,
    view::{Listener, View, durations::Counts},
};

/// Time between two steps.
pub const STEP: Duration = Duration::from_secs(1);
/// How far back steps are kept where nothing else is said.
pub const USUAL_REACH: Duration = Duration::from_secs(15 * 60);
pub const LONGEST_REACH: Duration = Duration::from_secs(24 * 60 * 60);
/// Of all steps together.
const BYTES: usize = 4 << 20;
/// A step may come this much before its beat: half the time between two looks while somebody reads.
const EARLY: Duration = Duration::from_millis(50);
/// How long a listener that views lack is remembered: it may have been left out of incomplete dumps.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one listener had at the end of a step, and did during it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    queued: Figure,
    peak: Figure,
    active: Figure,
    accepts: Figure,
    overflows: Figure,
    wait_p99_us: Figure,
    waiting: Figure,
    calling: Figure,
}

/// A number, or none, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figure(u32);

impl Default for Figure {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Figure {
    /// What is greater than a figure can be is told as the greatest.
    fn of(value: Option<u64>) -> Self {
        value.map_or(Self::default(), |value| {
            Self(u32::try_from(value).unwrap_or(u32::MAX).min(u32::MAX - 1))
        })
    }

    const fn value(self) -> Option<u32> {
        match self.0 {
            u32::MAX => None,
            value => Some(value),
        }
    }
}

/// Whose row it is, for as long as any step has one of it.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    id: String,
    address: String,
    protocol: String,
}

impl Name {
    fn bytes(&self) -> usize {
        let Self {
            id,
            address,
            protocol,
        } = self;
        size_of::<Self>() + id.len() + address.len() + protocol.len()
    }
}

#[derive(Debug)]
struct Step {
    ended: SystemTime,
    /// Time since the step before; `None` for the first of all.
    lasted: Option<Duration>,
    rows: Box<[(Arc<Name>, Figures)]>,
    /// Of the names that no step before had.
    name_bytes: usize,
}

impl Step {
    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.rows) + self.name_bytes
    }
}

/// Steps, oldest first.
#[derive(Debug)]
pub struct History {
    reach: Duration,
    steps: Mutex<VecDeque<Arc<Step>>>,
}

impl History {
    /// Keeps steps this long, or as long as its memory allows; nothing where that is no time.
    #[must_use]
    pub fn reaching(reach: Duration) -> Self {
        Self {
            reach: reach.min(LONGEST_REACH),
            steps: Mutex::default(),
        }
    }

    fn steps(&self) -> MutexGuard<'_, VecDeque<Arc<Step>>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the last step ended.
    #[must_use]
    pub fn newest(&self) -> Option<SystemTime> {
        self.steps().back().map(|step| step.ended)
    }

    #[must_use]
    pub const fn keeps_nothing(&self) -> bool {
        self.reach.is_zero()
    }

    /// Ids of the listeners that steps tell of and whose id and address are as asked for.
    #[must_use]
    pub fn ids(&self, is_asked_for: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
        let steps = self.since(SystemTime::UNIX_EPOCH);
        let rows = steps.iter().flat_map(|step| &step.rows);
        let names: BTreeMap<&str, &str> =
            rows.map(|(name, _)| (&*name.id, &*name.address)).collect();
        let asked_for = names
            .into_iter()
            .filter(|(id, address)| is_asked_for(id, address));
        asked_for.map(|(id, _)| id.to_owned()).collect()
    }

    /// Those that ended after `from`.
    fn since(&self, from: SystemTime) -> Vec<Arc<Step>> {
        let steps = self.steps();
        steps
            .iter()
            .filter(|step| step.ended > from)
            .map(Arc::clone)
            .collect()
    }

    fn push(&self, step: Step) {
        let newest = step.ended;
        let is_old = |step: &Step| {
            let age = newest.duration_since(step.ended);
            age.is_ok_and(|age| age > self.reach)
        };
        let mut gone = Vec::new();
        let mut steps = self.steps();
        steps.push_back(Arc::new(step));
        let mut bytes: usize = steps.iter().map(|step| step.bytes()).sum();
        while let Some(oldest) = steps.front().filter(|it| is_old(it) || bytes > BYTES) {
            bytes -= oldest.bytes();
            gone.extend(steps.pop_front());
        }
        // Those that are gone are freed after this.
        drop(steps);
    }
}

/// What a listener had added up to when a view had it last.
#[derive(Clone, Debug)]
struct Known {
    name: Arc<Name>,
    seen: Monotonic,
    totals: Totals,
}

#[derive(Clone, Debug)]
struct Totals {
    accepts: Option<u64>,
    overflows: Option<u64>,
    wait: Option<Counts>,
}

/// Turns views into steps; it has to see one at least every second.
#[derive(Debug)]
pub struct Recorder {
    history: Arc<History>,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    at: Monotonic,
    /// When the step should have ended, so that steps do not drift from seconds.
    beat: Monotonic,
    listeners: BTreeMap<ListenerKey, Known>,
}

impl Last {
    fn next_beat(&self, now: Monotonic) -> Monotonic {
        if now.since(self.beat) < STEP * 2 {
            self.beat + STEP
        } else {
            now
        }
    }
}

impl Recorder {
    #[must_use]
    pub const fn new(history: Arc<History>) -> Self {
        Self {
            history,
            last: None,
        }
    }

    /// Whether a step ends now.
    #[must_use]
    pub fn is_due(&self, now: Monotonic) -> bool {
        let since = self.last.as_ref().map(|last| now.since(last.beat));
        !self.history.keeps_nothing() && since.is_none_or(|since| since + EARLY >= STEP)
    }

    /// Ends a step. `peak`: the longest queue since the step before; `wait`: of all accepts.
    pub fn end_step(
        &mut self,
        view: &View,
        peak: impl Fn(&ListenerKey) -> Option<u32>,
        wait: impl Fn(&ListenerKey) -> Option<Counts>,
    ) {
        let before = self.last.take();
        let now = Monotonic::from_nanos(view.monotonic_ns);
        let mut listeners = BTreeMap::new();
        let mut rows = Vec::with_capacity(view.listeners.len());
        let mut name_bytes = 0;
        for listener in &view.listeners {
            let key = key(listener);
            let totals = Totals {
                accepts: listener.connections.as_ref().and_then(|it| it.accepts),
                overflows: listener.queue.overflows,
                wait: wait(&key),
            };
            let known = before.as_ref().and_then(|last| last.listeners.get(&key));
            let known = known.filter(|known| known.name.id == listener.id);
            let name = match known {
                Some(known) => Arc::clone(&known.name),
                None => Arc::new(name(listener)),
            };
            name_bytes += if known.is_none() { name.bytes() } else { 0 };
            let began = match (&before, known) {
                (Some(last), Some(known)) => (known.seen == last.at).then_some(&known.totals),
                // It was made since then.
                (Some(_), None) => Some(&Totals::NOTHING),
                (None, _) => None,
            };
            let figures = figures(listener, peak(&key), began, &totals);
            rows.push((Arc::clone(&name), figures));
            let seen = now;
            listeners.insert(key, Known { name, seen, totals });
        }
        let lasted = before.as_ref().map(|last| now.since(last.at));
        let beat = before.as_ref().map_or(now, |last| last.next_beat(now));
        for (key, known) in before.into_iter().flat_map(|last| last.listeners) {
            if now.since(known.seen) < PATIENCE {
                listeners.entry(key).or_insert(known);
            }
        }
        self.last = Some(Last {
            at: now,
            beat,
            listeners,
        });
        let step = Step {
            ended: view.taken_at,
            lasted,
            rows: rows.into_boxed_slice(),
            name_bytes,
        };
        self.history.push(step);
    }
}

impl Totals {
    const NOTHING: Self = Self {
        accepts: Some(0),
        overflows: Some(0),
        wait: None,
    };
}

fn key(listener: &Listener) -> ListenerKey {
    ListenerKey {
        netns: NetnsId(listener.netns.inode),
        inode: Inode(listener.inode),
    }
}

fn name(listener: &Listener) -> Name {
    Name {
        id: listener.id.clone(),
        address: listener.address.clone(),
        protocol: listener.protocol.clone(),
    }
}

fn figures(
    listener: &Listener,
    peak: Option<u32>,
    before: Option<&Totals>,
    now: &Totals,
) -> Figures {
    let connections = listener.connections.as_ref();
    let turns = listener.turns.as_ref();
    let risen = |total: fn(&Totals) -> Option<u64>| {
        let before = total(before?)?;
        total(now)?.checked_sub(before)
    };
    let wait = before.and_then(|before| {
        let now = now.wait.as_ref()?;
        Some(
            before
                .wait
                .as_ref()
                .map_or_else(|| now.clone(), |before| now.since(before)),
        )
    });
    Figures {
        queued: Figure::of(listener.queue.queued.map(u64::from)),
        peak: Figure::of(peak.map(u64::from)),
        active: Figure::of(connections.and_then(|it| it.active)),
        accepts: Figure::of(risen(|totals| totals.accepts)),
        overflows: Figure::of(risen(|totals| totals.overflows)),
        wait_p99_us: Figure::of(wait.and_then(|wait| wait.quantile_us(99))),
        waiting: Figure::of(turns.and_then(|it| it.waiting)),
        calling: Figure::of(turns.and_then(|it| it.calling)),
    }
}

#[cfg(test)]
mod tests;
