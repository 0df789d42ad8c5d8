//! Figures of the last minutes, second by second, bounded.
//!
//! Filled from the daemon's history where there is one, and then from each view that comes. A second
//! without a view has no step, and a figure that is not known none: neither is ever drawn as zero.

mod step;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

pub(super) use self::step::Figures;
use crate::view::{View, history::History};

/// Fifteen minutes of seconds.
const STEPS: usize = 900;
/// Rows of all steps together: some 16 MB. A host with many listeners has a shorter past.
const ROWS: usize = 200_000;
/// Two steps that are closer are one.
const CLOSE_MS: u64 = 500;
const SECOND_MS: u64 = 1_000;

/// What is told of a listener that may be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub address: String,
    pub protocol: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Step {
    /// Its end, since 1970.
    at_ms: u64,
    /// What its counts are of; `None` where that is not known or no matter of a second.
    lasted: Option<Duration>,
    /// By id, in its order.
    rows: Vec<(Arc<str>, Figures)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// Oldest first.
    steps: VecDeque<Step>,
    rows: usize,
    names: BTreeMap<Arc<str>, Name>,
    before: Option<Arc<View>>,
}

impl Past {
    /// The step that ends with a view.
    pub(super) fn note(&mut self, view: &Arc<View>) {
        let Some(at_ms) = millis(view.taken_at) else {
            return;
        };
        if self
            .before
            .as_ref()
            .is_some_and(|it| it.taken_at == view.taken_at)
        {
            return;
        }
        // A clock that was set back would mix up what was.
        if self.steps.back().is_some_and(|last| at_ms <= last.at_ms) {
            self.clear();
        }
        let before = self.before.replace(Arc::clone(view));
        let lasted = step::between(view, before.as_deref());
        let rows = step::of(view, before.as_deref(), lasted).map(|(listener, figures)| {
            let id = self.name(&listener.id, &listener.address, &listener.protocol);
            (id, figures)
        });
        let mut rows: Vec<(Arc<str>, Figures)> = rows.collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        self.rows += rows.len();
        self.steps.push_back(Step {
            at_ms,
            lasted,
            rows,
        });
        self.bound();
    }

    /// What the daemon remembers of the time before the first view.
    pub(super) fn fill(&mut self, history: &History) {
        let mut all: Vec<Step> = std::mem::take(&mut self.steps).into();
        let own = all.len();
        let ids: Vec<Arc<str>> = (history.listeners.iter())
            .map(|it| self.name(&it.id, &it.address, &it.protocol))
            .collect();
        let mut left = ROWS.saturating_sub(self.rows);
        let newest = history.times_ms.iter().enumerate().rev().take(STEPS);
        for (index, &at_ms) in newest {
            let lasted = step::recorded(history, index);
            let of_it = ids.iter().zip(&history.listeners);
            let mut rows: Vec<(Arc<str>, Figures)> = of_it
                .map(|(id, it)| (Arc::clone(id), Figures::recorded(it, index, lasted)))
                .filter(|(_, figures)| *figures != Figures::default())
                .collect();
            rows.sort_by(|a, b| a.0.cmp(&b.0));
            rows.dedup_by(|a, b| a.0 == b.0);
            let step = Step {
                at_ms,
                lasted,
                rows,
            };
            let is_same = |it: &&mut Step| it.at_ms.abs_diff(at_ms) < CLOSE_MS;
            if let Some(own) = all[..own].iter_mut().find(is_same) {
                own.complete(&step);
                continue;
            }
            let Some(rest) = left.checked_sub(step.rows.len()) else {
                break;
            };
            left = rest;
            all.push(step);
        }
        all.sort_by_key(|step| step.at_ms);
        all.dedup_by_key(|step| step.at_ms);
        self.rows = all.iter().map(|step| step.rows.len()).sum();
        self.steps = all.into();
        self.bound();
        self.names.retain(|id, _| Arc::strong_count(id) > 1);
    }

    /// The nearest step at or before a time, else the oldest.
    pub(super) fn nearest(&self, at_ms: u64) -> Option<u64> {
        let mut earlier = self.steps.iter().rev();
        let found = earlier.find(|step| step.at_ms <= at_ms);
        found.or_else(|| self.steps.front()).map(|step| step.at_ms)
    }

    /// The step after a time.
    pub(super) fn after(&self, at_ms: u64) -> Option<u64> {
        let mut later = self.steps.iter().filter(|step| step.at_ms > at_ms);
        later.next().map(|step| step.at_ms)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.steps.back().map(|step| step.at_ms)
    }

    /// From the first step to the last.
    pub(super) fn span(&self) -> Duration {
        let first = self.steps.front().map_or(0, |step| step.at_ms);
        Duration::from_millis(self.last().unwrap_or(first) - first)
    }

    /// All listeners of a step.
    pub(super) fn rows(&self, at_ms: u64) -> impl Iterator<Item = (&str, &Name, &Figures)> {
        let step = self.steps.iter().find(|step| step.at_ms == at_ms);
        let rows = step.into_iter().flat_map(|step| &step.rows);
        rows.filter_map(|(id, figures)| Some((&**id, self.names.get(id)?, figures)))
    }

    /// What one listener did in a step.
    pub(super) fn at(&self, at_ms: u64, id: &str) -> Option<&Figures> {
        let step = self.steps.iter().find(|step| step.at_ms == at_ms)?;
        step.figures(id)
    }

    pub(super) fn name_of(&self, id: &str) -> Option<&Name> {
        self.names.get(id)
    }

    /// One figure of a listener for each of `seconds` seconds, the last of which ends at `end_ms`. A
    /// second in which no step ends has the figure of the step that goes on through it.
    pub(super) fn series(
        &self,
        id: &str,
        end_ms: u64,
        seconds: usize,
        figure: fn(&Figures) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let mut series = vec![None; seconds];
        let mut through = series.clone();
        for step in self.steps.iter().rev() {
            let Some(before) = end_ms.checked_sub(step.at_ms) else {
                continue;
            };
            let place = |before: u64| {
                let back = usize::try_from((before + CLOSE_MS) / SECOND_MS).unwrap_or(usize::MAX);
                seconds.checked_sub(back.saturating_add(1))
            };
            let Some(ended) = place(before) else {
                break;
            };
            let Some(value) = step.figures(id).and_then(figure) else {
                continue;
            };
            // The most of those that fall into one second.
            series[ended] = Some(series[ended].map_or(value, |other: f64| other.max(value)));
            let lasted = step.lasted.map_or(0, |it| it.as_millis() as u64);
            let began = place(before + lasted).map_or(0, |began| began + 1);
            through[began.min(ended)..ended].fill(Some(value));
        }
        let seconds = series.into_iter().zip(through);
        seconds.map(|(ended, through)| ended.or(through)).collect()
    }

    fn name(&mut self, id: &str, address: &str, protocol: &str) -> Arc<str> {
        if let Some((known, _)) = self.names.get_key_value(id) {
            return Arc::clone(known);
        }
        let known: Arc<str> = id.into();
        let name = Name {
            address: address.to_owned(),
            protocol: protocol.to_owned(),
        };
        self.names.insert(Arc::clone(&known), name);
        known
    }

    fn bound(&mut self) {
        while self.steps.len() > STEPS || (self.rows > ROWS && self.steps.len() > 1) {
            let Some(oldest) = self.steps.pop_front() else {
                return;
            };
            self.rows -= oldest.rows.len();
            for (id, _) in oldest.rows {
                // Held by the names and here.
                if Arc::strong_count(&id) == 2 {
                    self.names.remove(&id);
                }
            }
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Step {
    /// Takes what it lacks itself from what another tells of the same second.
    fn complete(&mut self, other: &Self) {
        for (id, figures) in &mut self.rows {
            if let Some(other) = other.figures(id) {
                *figures = figures.or(other);
            }
        }
        self.lasted = self.lasted.or(other.lasted);
    }

    fn figures(&self, id: &str) -> Option<&Figures> {
        let at = self.rows.binary_search_by(|(it, _)| (**it).cmp(id)).ok()?;
        Some(&self.rows[at].1)
    }
}

pub(super) fn millis(at: SystemTime) -> Option<u64> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests;
