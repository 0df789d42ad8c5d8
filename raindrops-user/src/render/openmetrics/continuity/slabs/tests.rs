use super::*;
use crate::render::openmetrics::{Bounds, Continuity, slabs::fields};

fn example() -> View {
    serde_json::from_str(include_str!("../../../../../tests/data/view.json")).unwrap()
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

fn next(last: Option<(View, Continuity)>, view: &View) -> Continuity {
    match &last {
        None => Continuity::of(view, Bounds::default()),
        Some((before, kept)) => kept.next(before, view, Bounds::default()),
    }
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
        let continuity = next(last.take(), &view);
        let expected = expected.map(|count| (count, count, count * 10));
        assert_eq!(exported(&view, &continuity), expected, "{slabs:?}");
        last = Some((view, continuity));
    }
}

#[test]
fn its_service_stays_when_nobody_is_there_to_say_it_or_it_is_missed() {
    let orphaned = |count| {
        let mut view = view(&[("a", count)]);
        view.slabs[0].pids.clear();
        view.slabs[0].server = None;
        view
    };
    let mut last = None;
    for (view, expected) in [
        (view(&[("a", 7)]), Some(7)),
        (orphaned(7), Some(7)),
        (view(&[]), None),
        (orphaned(7), Some(7)),
        (view(&[("a", 8)]), Some(8)),
    ] {
        let kept = next(last.take(), &view);
        let expected = expected.map(|count| (count, count, count * 10));
        assert_eq!(exported(&view, &kept), expected);
        last = Some((view, kept));
    }
}

#[test]
fn as_many_as_there_may_be_are_missed_at_once_and_not_counted_twice() {
    let ids: Vec<String> = (0..256).map(|id| id.to_string()).collect();
    let all: Vec<(&str, u64)> = ids.iter().map(|id| (id.as_str(), 10)).collect();
    let mut last = None;
    for slabs in [&all[..], &[], &all[..], &all[..1], &all[..]] {
        let view = view(slabs);
        let kept = next(last.take(), &view);
        if !slabs.is_empty() {
            assert_eq!(exported(&view, &kept), Some((2560, 2560, 25600)));
        }
        last = Some((view, kept));
    }
}

#[test]
fn who_has_a_former_slabs_number_is_another() {
    let first = view(&[("a", 7), ("b", 1)]);
    let kept = next(None, &first);
    let mut second = view(&[("a", 9), ("b", 1)]);
    second.slabs[0].name = Some("other".to_owned());
    let kept = next(Some((first, kept)), &second);
    let totals = fields(&second, &kept, |field| field.name == "requests");
    let of = |name: &str| {
        let labels = [name, "requests", "app.service"].map(str::to_owned);
        totals[&labels.to_vec()].clone()
    };
    assert_eq!(Some(of("other")), Sample::count(9u64));
    assert_eq!(Some(of("shop")), Sample::count(8u64));
}

#[test]
fn no_bucket_falls() {
    let mut first = view(&[("a", 0)]);
    let mut second = view(&[("a", 0)]);
    for (view, buckets) in [
        (&mut first, [(15, 7), (31, 3)]),
        (&mut second, [(15, 2), (31, 9)]),
    ] {
        let answer = view.slabs[0].histograms.get_mut("answer").unwrap();
        answer.buckets = buckets.map(|(bound, count)| (Some(bound), count)).to_vec();
        answer.count = buckets.iter().map(|it| it.1).sum();
    }
    let kept = next(None, &first);
    let kept = next(Some((first, kept)), &second);
    let all = fields(&second, &kept, |field| field.name == "answer");
    let Some(Sample::Distribution(answer)) = all.into_values().next() else {
        panic!("no histogram");
    };
    assert_eq!(
        (answer.count, answer.buckets),
        (16, vec![(Some(15), 7), (Some(31), 9)])
    );
}

#[test]
fn what_is_kept_is_bounded() {
    let mut last = None;
    for turn in 0..700u64 {
        let mut view = view(&[(&format!("{turn}"), 1), ("stays", 1)]);
        // Half of them are over, half may be back.
        view.monotonic_ns = turn * AWAY_NS / 350;
        view.slabs[0].name = Some(format!("name {}", turn % 150));
        let buckets = (0..500).map(|bound| (Some(bound), 1)).collect();
        let answer = view.slabs[0].histograms.get_mut("answer").unwrap();
        (answer.count, answer.buckets) = (500, buckets);
        let kept = next(last.take(), &view);
        let slabs = &kept.slabs;
        let away: usize = slabs.gone.iter().map(|gone| numbers(&gone.counted)).sum();
        assert!(slabs.gone.len() <= MOST_AWAY && away <= MOST_NUMBERS);
        let left = slabs.left.values().map(|it| numbers(it));
        assert!(left.sum::<usize>() <= MOST_NUMBERS);
        assert_eq!(slabs.places.len(), 2);
        last = Some((view, kept));
    }
    let (_, kept) = last.unwrap();
    assert!(kept.slabs.gone.len() > 50, "{}", kept.slabs.gone.len());
}
