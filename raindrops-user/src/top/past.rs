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

/// What is told of a listener that may be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub address: String,
    pub protocol: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Step {
    /// Since 1970.
    at_ms: u64,
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
        let rows = step::of(view, before.as_deref());
        let rows = rows.map(|(listener, figures)| {
            let id = self.name(&listener.id, &listener.address, &listener.protocol);
            (id, figures)
        });
        let mut rows: Vec<(Arc<str>, Figures)> = rows.collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        self.rows += rows.len();
        self.steps.push_back(Step { at_ms, rows });
        self.bound();
    }

    /// What the daemon remembers of the time before the first view.
    pub(super) fn fill(&mut self, history: &History) {
        let step = Duration::from_millis(history.step_ms).as_secs_f64();
        let own = std::mem::take(&mut self.steps);
        let is_own = |at: u64| own.iter().any(|it| it.at_ms.abs_diff(at) < CLOSE_MS);
        let ids: Vec<Arc<str>> = (history.listeners.iter())
            .map(|it| self.name(&it.id, &it.address, &it.protocol))
            .collect();
        let mut all: Vec<Step> = own.iter().cloned().collect();
        let mut left = ROWS.saturating_sub(self.rows);
        let newest = history.times_ms.iter().enumerate().rev().take(STEPS);
        for (index, &at_ms) in newest.filter(|(_, at)| !is_own(**at)) {
            let of_it = ids.iter().zip(&history.listeners);
            let mut rows: Vec<(Arc<str>, Figures)> = of_it
                .map(|(id, it)| (Arc::clone(id), Figures::recorded(it, index, step)))
                .filter(|(_, figures)| *figures != Figures::default())
                .collect();
            rows.sort_by(|a, b| a.0.cmp(&b.0));
            rows.dedup_by(|a, b| a.0 == b.0);
            let Some(rest) = left.checked_sub(rows.len()) else {
                break;
            };
            left = rest;
            all.push(Step { at_ms, rows });
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

    /// One figure of a listener for each of `seconds` seconds, the last of which ends at `end_ms`.
    pub(super) fn series(
        &self,
        id: &str,
        end_ms: u64,
        seconds: usize,
        figure: fn(&Figures) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let mut series = vec![None; seconds];
        for step in self.steps.iter().rev() {
            let Some(before) = end_ms.checked_sub(step.at_ms) else {
                continue;
            };
            let back = usize::try_from((before + CLOSE_MS) / 1_000).unwrap_or(usize::MAX);
            let Some(place) = seconds.checked_sub(back.saturating_add(1)) else {
                break;
            };
            let Some(value) = step.figures(id).and_then(figure) else {
                continue;
            };
            // The most of those that fall into one second.
            series[place] = Some(series[place].map_or(value, |other: f64| other.max(value)));
        }
        series
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
