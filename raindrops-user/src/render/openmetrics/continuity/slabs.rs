//! What is kept of slabs: whose they are, and what those have counted that have ended.
//!
//! Series of slabs are sums over those of one name in one service. Of an application that starts again,
//! or of which one process ends, a slab ends with all that is in it, and the sum would fall.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::super::{
    sample::Sample,
    slabs::{is_counted, name, of_field},
    workers::{Place, Who},
    write::Labels,
};
use crate::view::{
    View,
    slabs::{Distribution, Field, Number, Slab},
};

/// How long a slab that is gone may be missed, and is not counted twice when it is back.
const AWAY_NS: u64 = 900 * 1_000_000_000;
/// Slabs that are gone and may be back: more than there may be at one time.
const MOST_AWAY: usize = 512;
/// Numbers that are kept of those, and as many of others.
const MOST_NUMBERS: usize = 1 << 15;

#[derive(Clone, Debug, Default)]
pub(super) struct Slabs {
    /// Of those that are there.
    places: BTreeMap<String, Place>,
    /// The longest gone first.
    gone: VecDeque<Arc<Gone>>,
    /// What others have counted that are not there to tell.
    left: Arc<BTreeMap<Series, Arc<Counted>>>,
}

/// What slabs have in common that are summed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    name: String,
    service: String,
}

/// The last figures of a slab that is gone.
#[derive(Debug)]
struct Gone {
    id: String,
    kind: String,
    place: Place,
    series: Series,
    counted: Counted,
    since_ns: u64,
}

/// What is only ever added to, by fields.
type Counted = BTreeMap<String, Sample>;

impl Slabs {
    pub(super) fn next(
        &self,
        before: Option<&View>,
        view: &View,
        who: &Who<'_>,
        of_server: impl Fn(&str) -> Option<Place>,
    ) -> Self {
        let gone = self.gone.iter().map(|gone| (&*gone.id, &gone.place));
        let missed: BTreeMap<&str, &Place> = gone.collect();
        let place = |slab: &Slab| {
            let server = slab.server.as_deref();
            let kept = self.places.get(&slab.id);
            let kept = kept.or_else(|| missed.get(&*slab.id).copied());
            let known = kept.filter(|place| !place.service.is_empty()).cloned();
            let known = known.or_else(|| server.and_then(&of_server));
            who.place(slab.pids.iter().copied(), known.as_ref(), server)
        };
        let slabs = view.slabs.iter();
        let mut next = Self {
            places: slabs.map(|slab| (slab.id.clone(), place(slab))).collect(),
            gone: self.gone.clone(),
            left: Arc::clone(&self.left),
        };
        let slabs = view.slabs.iter();
        let there: BTreeMap<&str, &Slab> = slabs.map(|slab| (&*slab.id, slab)).collect();
        for was in before.into_iter().flat_map(|before| &before.slabs) {
            let now = there.get(&*was.id).copied();
            match now.filter(|now| is_same(was, now)) {
                // It goes on, under its former service or another one.
                Some(now) => next.add(&self.series(was), lost(was, now)),
                None => next.gone.push_back(Arc::new(Gone {
                    id: was.id.clone(),
                    kind: was.kind.clone(),
                    place: self.places.get(&was.id).cloned().unwrap_or_default(),
                    series: self.series(was),
                    counted: counted(was),
                    since_ns: before.map_or(0, |before| before.monotonic_ns),
                })),
            }
        }
        next.take_back(&there);
        next.forget_long_gone(view.monotonic_ns);
        if !Arc::ptr_eq(&next.left, &self.left) {
            next.bound_left(view);
        }
        next
    }

    /// Those that were missed and are back tell themselves what they have counted.
    fn take_back(&mut self, there: &BTreeMap<&str, &Slab>) {
        let (back, gone): (VecDeque<_>, _) = std::mem::take(&mut self.gone)
            .into_iter()
            .partition(|gone: &Arc<Gone>| there.contains_key(&*gone.id));
        self.gone = gone;
        for gone in &back {
            let now = there[&*gone.id];
            let is_it = gone.kind == now.kind && gone.series.name == name(now);
            let counted = gone.counted.iter();
            let lost = counted.filter_map(|(field, was)| {
                let now = is_it.then(|| of_field(now, field)).flatten();
                Some((field.clone(), less(was, now.as_ref())?))
            });
            self.add(&gone.series, lost.collect());
        }
    }

    fn add(&mut self, series: &Series, more: Counted) {
        if more.is_empty() {
            return;
        }
        let left = Arc::make_mut(&mut self.left);
        let sums = Arc::make_mut(left.entry(series.clone()).or_default());
        for (field, more) in more {
            let sum = match sums.remove(&field) {
                Some(before) => before.with(more, false),
                None => more,
            };
            sums.insert(field, sum);
        }
    }

    /// Those that will not be back are told apart no more. Where there are too many others, the longest
    /// gone are forgotten: a sum that falls is taken for a restart, one that counts twice for traffic.
    fn forget_long_gone(&mut self, now_ns: u64) {
        let is_over = |gone: &Arc<Gone>| now_ns.saturating_sub(gone.since_ns) >= AWAY_NS;
        while self.gone.front().is_some_and(is_over)
            && let Some(oldest) = self.gone.pop_front()
        {
            self.add(&oldest.series, oldest.counted.clone());
        }
        let mut away: usize = self.gone.iter().map(|gone| numbers(&gone.counted)).sum();
        while (self.gone.len() > MOST_AWAY || away > MOST_NUMBERS)
            && let Some(oldest) = self.gone.pop_front()
        {
            away -= numbers(&oldest.counted);
        }
    }

    /// Where too much is kept, first what no slab goes on with goes, then what is the most.
    fn bound_left(&mut self, view: &View) {
        let total = |left: &BTreeMap<Series, Arc<Counted>>| -> usize {
            left.values().map(|counted| numbers(counted)).sum()
        };
        if total(&self.left) <= MOST_NUMBERS {
            return;
        }
        let told: BTreeSet<Series> = view.slabs.iter().map(|slab| self.series(slab)).collect();
        let left = Arc::make_mut(&mut self.left);
        left.retain(|series, _| told.contains(series));
        while total(left) > MOST_NUMBERS
            && let Some(most) = left.iter().max_by_key(|(_, counted)| numbers(counted))
        {
            let most = most.0.clone();
            left.remove(&most);
        }
    }

    fn series(&self, slab: &Slab) -> Series {
        Series {
            name: name(slab).to_owned(),
            service: self.service(slab),
        }
    }

    /// Of the server whose slab it is; empty where it is no server's.
    pub(super) fn service(&self, slab: &Slab) -> String {
        let place = self.places.get(&slab.id);
        place.map(|place| place.service.clone()).unwrap_or_default()
    }

    /// What slabs have counted that are not there to tell, by the labels of its series.
    pub(super) fn ended(&self) -> BTreeMap<Labels, Sample> {
        let gone = self.gone.iter().map(|gone| (&gone.series, &gone.counted));
        let left = self
            .left
            .iter()
            .map(|(series, counted)| (series, &**counted));
        let mut ended: BTreeMap<Labels, Sample> = BTreeMap::new();
        for (series, counted) in gone.chain(left) {
            for (field, sample) in counted {
                let labels = vec![series.name.clone(), field.clone(), series.service.clone()];
                let sum = match ended.remove(&labels) {
                    Some(before) => before.with(sample.clone(), false),
                    None => sample.clone(),
                };
                ended.insert(labels, sum);
            }
        }
        ended
    }
}

/// An inode can be another file's when its first one is gone.
fn is_same(was: &Slab, now: &Slab) -> bool {
    was.kind == now.kind && name(was) == name(now)
}

fn counted_fields(slab: &Slab) -> impl Iterator<Item = &Field> {
    slab.fields.iter().filter(|field| is_counted(field))
}

fn counted(slab: &Slab) -> Counted {
    let counted = counted_fields(slab)
        .filter_map(|field| Some((field.name.clone(), of_field(slab, &field.name)?)));
    counted.collect()
}

/// What a slab had counted and has no more: it has begun anew in the same memory.
fn lost(was: &Slab, now: &Slab) -> Counted {
    if was.counters == now.counters && was.histograms == now.histograms {
        return Counted::new();
    }
    let lost = counted_fields(was).filter_map(|field| {
        let was = of_field(was, &field.name)?;
        let now = of_field(now, &field.name);
        Some((field.name.clone(), less(&was, now.as_ref())?))
    });
    lost.collect()
}

/// What is in the one and not in the other; `None` where nothing is.
fn less(was: &Sample, now: Option<&Sample>) -> Option<Sample> {
    match (was, now) {
        (Sample::Number(Number::Count(was)), Some(Sample::Number(Number::Count(now)))) => {
            let missing = was.checked_sub(*now).filter(|missing| *missing > 0)?;
            Some(Sample::Number(Number::Count(missing)))
        }
        (Sample::Distribution(was), Some(Sample::Distribution(now))) => {
            without(was, now).map(Sample::Distribution)
        }
        (_, Some(_)) => None,
        (was, None) => Some(was.clone()),
    }
}

fn without(was: &Distribution, now: &Distribution) -> Option<Distribution> {
    let there: BTreeMap<Option<u64>, u64> = now.buckets.iter().copied().collect();
    let missing = was.buckets.iter().map(|(bound, count)| {
        let now = there.get(bound).copied().unwrap_or(0);
        (*bound, count.saturating_sub(now))
    });
    let buckets: Vec<(Option<u64>, u64)> = missing.filter(|(_, count)| *count > 0).collect();
    (!buckets.is_empty()).then(|| Distribution {
        count: buckets.iter().map(|(_, count)| count).sum(),
        sum: was.sum.saturating_sub(now.sum),
        p50: None,
        p90: None,
        p99: None,
        buckets,
    })
}

fn numbers(counted: &Counted) -> usize {
    let each = counted.values().map(|sample| match sample {
        Sample::Distribution(distribution) => 1 + distribution.buckets.len(),
        _ => 1,
    });
    each.sum()
}

#[cfg(test)]
mod tests;
