//! What is kept of slabs: whose they are, and what those have counted that have ended.
//!
//! Series of slabs are sums over those of one name in one service. Of an application that starts again,
//! or of which one process ends, a slab ends with all that is in it, and the sum would fall.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::super::{
    sample::Sample,
    slabs::{labels, of_field},
    workers::{Place, Who},
    write::Labels,
};
use crate::view::{
    View,
    slabs::{Distribution, Field, Number, Slab},
};

/// Slabs that are gone and are told apart: a reading can have missed them.
const MOST_APART: usize = 64;
/// Numbers that are kept of those, and as many of others.
const MOST_NUMBERS: usize = 1 << 16;

#[derive(Clone, Debug, Default)]
pub(super) struct Slabs {
    /// Of those that are there.
    places: BTreeMap<String, Place>,
    gone: VecDeque<Arc<Gone>>,
    /// What others have counted that are not there to tell.
    left: Arc<Counted>,
}

/// The last figures of a slab that is gone.
#[derive(Debug)]
struct Gone {
    id: String,
    counted: Counted,
}

/// What is only ever added to, by the labels of its series.
type Counted = BTreeMap<Labels, Sample>;

impl Slabs {
    pub(super) fn next(
        &self,
        before: Option<&View>,
        view: &View,
        who: &Who<'_>,
        of_server: impl Fn(&str) -> Option<Place>,
    ) -> Self {
        let place = |slab: &Slab| {
            let server = slab.server.as_deref();
            let kept = self.places.get(&slab.id).cloned();
            let known = kept.filter(|place| !place.service.is_empty());
            let known = known.or_else(|| server.and_then(&of_server));
            who.place(slab.pids.iter().copied(), known.as_ref(), server)
        };
        let slabs = view.slabs.iter();
        let mut next = Self {
            places: slabs.map(|slab| (slab.id.clone(), place(slab))).collect(),
            ..self.clone()
        };
        let slabs = view.slabs.iter();
        let there: BTreeMap<&str, &Slab> = slabs.map(|slab| (&*slab.id, slab)).collect();
        for was in before.into_iter().flat_map(|before| &before.slabs) {
            let counted = || counted(was, &self.service(was));
            match there.get(&*was.id) {
                None => next.gone.push_back(Arc::new(Gone {
                    id: was.id.clone(),
                    counted: counted(),
                })),
                Some(now) if has_fallen(was, now) => next.add_missing(&counted(), now),
                Some(_) => {}
            }
        }
        let is_back = |gone: &Arc<Gone>| there.contains_key(&*gone.id);
        let (back, gone): (VecDeque<_>, _) = next.gone.into_iter().partition(is_back);
        next.gone = gone;
        for gone in &back {
            next.add_missing(&gone.counted, there[&*gone.id]);
        }
        next.forget_oldest();
        next
    }

    /// What has been counted of which a slab that is there does not tell.
    fn add_missing(&mut self, counted: &Counted, now: &Slab) {
        let now = self::counted(now, &self.service(now));
        for (labels, was) in counted {
            match now.get(labels) {
                Some(now) => self.add(labels, less(was, now)),
                None => self.add(labels, Some(was.clone())),
            }
        }
    }

    fn add(&mut self, labels: &Labels, more: Option<Sample>) {
        let Some(more) = more else { return };
        let left = Arc::make_mut(&mut self.left);
        let sum = match left.remove(labels) {
            Some(before) => before.with(more, false),
            None => more,
        };
        left.insert(labels.clone(), sum);
    }

    /// Tells those no more apart that are gone for the longest, where there are too many; and then
    /// keeps nothing of what no slab tells any more.
    fn forget_oldest(&mut self) {
        let mut apart: usize = self.gone.iter().map(|gone| numbers(&gone.counted)).sum();
        while (self.gone.len() > MOST_APART || apart > MOST_NUMBERS)
            && let Some(oldest) = self.gone.pop_front()
        {
            apart -= numbers(&oldest.counted);
            for (labels, counted) in &oldest.counted {
                self.add(labels, Some(counted.clone()));
            }
        }
        if numbers(&self.left) > MOST_NUMBERS {
            self.left = Arc::default();
        }
    }

    /// Of the server whose slab it is; empty where it is no server's.
    pub(super) fn service(&self, slab: &Slab) -> String {
        let place = self.places.get(&slab.id);
        place.map(|place| place.service.clone()).unwrap_or_default()
    }

    /// What slabs have counted that are not there to tell.
    pub(super) fn ended(&self, labels: &Labels) -> impl Iterator<Item = &Sample> {
        let gone = self.gone.iter().filter_map(|gone| gone.counted.get(labels));
        gone.chain(self.left.get(labels))
    }
}

fn is_counted(field: &Field) -> bool {
    matches!(&*field.kind, "counter" | "histogram")
}

fn counted(slab: &Slab, service: &str) -> Counted {
    let fields = slab.fields.iter().filter(|field| is_counted(field));
    let samples = fields.filter_map(|field| {
        let sample = of_field(slab, field)?;
        Some((labels(slab, field, service), sample))
    });
    samples.collect()
}

/// Whether a slab has begun anew in the same memory.
fn has_fallen(was: &Slab, now: &Slab) -> bool {
    let mut fields = was.fields.iter().filter(|field| is_counted(field));
    fields.any(|field| match (of_field(was, field), of_field(now, field)) {
        (Some(was), Some(now)) => less(&was, &now).is_some(),
        (Some(_), None) => true,
        (None, _) => false,
    })
}

/// What is in the one and not in the other; `None` where nothing is.
fn less(was: &Sample, now: &Sample) -> Option<Sample> {
    match (was, now) {
        (Sample::Number(Number::Count(was)), Sample::Number(Number::Count(now))) => {
            let missing = was.checked_sub(*now).filter(|missing| *missing > 0)?;
            Some(Sample::Number(Number::Count(missing)))
        }
        (Sample::Distribution(was), Sample::Distribution(now)) if was.count > now.count => {
            Some(Sample::Distribution(without(was, now)))
        }
        _ => None,
    }
}

fn without(was: &Distribution, now: &Distribution) -> Distribution {
    let there: BTreeMap<Option<u64>, u64> = now.buckets.iter().copied().collect();
    let missing = was.buckets.iter().map(|(bound, count)| {
        let now = there.get(bound).copied().unwrap_or(0);
        (*bound, count.saturating_sub(now))
    });
    let buckets: Vec<(Option<u64>, u64)> = missing.filter(|(_, count)| *count > 0).collect();
    Distribution {
        count: buckets.iter().map(|(_, count)| count).sum(),
        sum: was.sum.saturating_sub(now.sum),
        p50: None,
        p90: None,
        p99: None,
        buckets,
    }
}

fn numbers(counted: &Counted) -> usize {
    let each = counted.values().map(|sample| match sample {
        Sample::Distribution(distribution) => 1 + distribution.buckets.len(),
        _ => 1,
    });
    each.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::openmetrics::{Bounds, Continuity, slabs::fields};

    fn example() -> View {
        serde_json::from_str(include_str!("../../../../tests/data/view.json")).unwrap()
    }

    /// Slabs by their ids, each with what its field and its histogram have counted.
    fn view(slabs: &[(&str, u64)]) -> View {
        let mut view = example();
        let like = view.slabs[0].clone();
        let slabs = slabs.iter().map(|(id, count)| {
            let mut slab = like.clone();
            slab.id = (*id).to_owned();
            let requests = slab.counters.get_mut("requests").unwrap();
            *requests = Number::Count(*count);
            let answer = slab.histograms.get_mut("answer").unwrap();
            (answer.count, answer.sum) = (*count, *count * 10);
            answer.buckets = vec![(Some(15), *count)];
            slab
        });
        view.slabs = slabs.collect();
        view
    }

    /// Of the service's only counter and histogram.
    fn exported(view: &View, continuity: &Continuity) -> Option<(u64, u64, u64)> {
        let all = fields(view, continuity, |field| {
            field.name == "requests" || field.name == "answer"
        });
        let of = |field: &str| {
            let mut found = all.iter().filter(|(labels, _)| labels[1] == field);
            let (labels, sample) = found.next()?;
            assert_eq!(labels[2], "app.service");
            assert!(found.next().is_none(), "{all:?}");
            Some(sample.clone())
        };
        let Sample::Number(Number::Count(requests)) = of("requests")? else {
            panic!("{all:?}");
        };
        let Sample::Distribution(answer) = of("answer")? else {
            panic!("{all:?}");
        };
        assert_eq!(
            answer.buckets.iter().map(|it| it.1).sum::<u64>(),
            answer.count
        );
        Some((requests, answer.count, answer.sum))
    }

    #[test]
    fn a_sum_goes_on_when_slabs_end_come_are_missed_and_begin_anew() {
        type Step = (&'static [(&'static str, u64)], Option<u64>);
        let steps: [Step; 9] = [
            (&[("a", 1000), ("b", 200)], Some(1200)),
            (&[("b", 210)], Some(1210)),
            (&[("b", 210), ("c", 1)], Some(1211)),
            // A reading has missed one: it is not counted twice.
            (&[("c", 2)], Some(1212)),
            (&[("b", 213), ("c", 2)], Some(1215)),
            (&[], None),
            // It is back with less: what it may have counted since then is not known.
            (&[("b", 5)], Some(1215)),
            (&[("b", 6)], Some(1216)),
            (&[("b", 0)], Some(1216)),
        ];
        let mut last: Option<(View, Continuity)> = None;
        for (slabs, expected) in steps {
            let view = view(slabs);
            let continuity = match &last {
                None => Continuity::of(&view, Bounds::default()),
                Some((before, kept)) => kept.next(before, &view, Bounds::default()),
            };
            let expected = expected.map(|count| (count, count, count * 10));
            assert_eq!(exported(&view, &continuity), expected, "{slabs:?}");
            last = Some((view, continuity));
        }
    }

    #[test]
    fn its_service_stays_when_nobody_is_there_to_say_it() {
        let first = view(&[("a", 7)]);
        let kept = Continuity::of(&first, Bounds::default());
        let mut orphaned = view(&[("a", 7)]);
        orphaned.slabs[0].pids.clear();
        orphaned.slabs[0].server = None;
        let kept = kept.next(&first, &orphaned, Bounds::default());
        assert_eq!(exported(&orphaned, &kept), Some((7, 7, 70)));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut last = view(&[("a", 1)]);
        let mut kept = Continuity::of(&last, Bounds::default());
        for turn in 0..200u64 {
            let mut next = view(&[(&format!("{turn}"), 1)]);
            next.slabs[0].name = Some(format!("name {}", turn % 150));
            let buckets = (0..500).map(|bound| (Some(bound), 1)).collect();
            let answer = next.slabs[0].histograms.get_mut("answer").unwrap();
            (answer.count, answer.buckets) = (500, buckets);
            kept = kept.next(&last, &next, Bounds::default());
            let slabs = &kept.slabs;
            let apart: usize = slabs.gone.iter().map(|gone| numbers(&gone.counted)).sum();
            assert!(slabs.gone.len() <= MOST_APART && apart <= MOST_NUMBERS);
            assert!(numbers(&slabs.left) <= MOST_NUMBERS);
            last = next;
        }
        assert_eq!(kept.slabs.gone.len(), MOST_APART);
        assert_eq!(kept.slabs.places.len(), 1);
    }
}
