use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Figures, Past};
use crate::view::{
    View,
    history::{History, ListenerHistory, SCHEMA},
};

const START: u64 = 1_800_000_000_000;

fn view(seconds: u64, accepts: u64) -> Arc<View> {
    let text = include_str!("../../../tests/data/view.json");
    let mut view: View = serde_json::from_str(text).unwrap();
    view.listeners.truncate(1);
    view.taken_at = SystemTime::UNIX_EPOCH + Duration::from_millis(START + seconds * 1_000);
    view.monotonic_ns = seconds * 1_000_000_000;
    let connections = view.listeners[0].connections.as_mut().unwrap();
    connections.accepts = Some(accepts);
    Arc::new(view)
}

fn id() -> String {
    view(0, 0).listeners[0].id.clone()
}

fn accepts(past: &Past, end: u64, seconds: usize) -> Vec<Option<f64>> {
    let figure = |it: &Figures| it.accepts_per_s.map(f64::from);
    past.series(&id(), START + end * 1_000, seconds, figure)
}

#[test]
fn rates_are_of_neighbours_only() {
    let mut past = Past::default();
    for (second, total) in [(0, 10), (1, 12), (2, 15), (6, 90), (7, 91), (8, 3)] {
        past.note(&view(second, total));
    }
    let expected = [
        None,
        Some(2.0),
        Some(3.0),
        None,
        None,
        None,
        None,
        Some(1.0),
        None,
    ];
    assert_eq!(accepts(&past, 8, 9), expected);
    assert_eq!(past.nearest(START + 4_000), Some(START + 2_000));
    assert_eq!(past.nearest(START - 1), Some(START));
    assert_eq!(past.after(START + 2_000), Some(START + 6_000));
    assert_eq!(past.span(), Duration::from_secs(8));
}

/// Steps that are not quite seconds leave no known second blank, and fill none that is not known.
#[test]
fn a_second_is_blank_only_where_no_step_goes_through_it() {
    let of = |ends: &[(u64, Option<u64>)]| {
        let mut past = Past::default();
        let times = ends.iter().map(|(at, _)| START + at).collect();
        let mut history = history(times, (1..).map(Some).take(ends.len()).collect(), "was");
        history.lasted_ms = ends.iter().map(|(_, lasted)| *lasted).collect();
        past.fill(&history);
        let end = past.last().unwrap() - START;
        let known = past.series(&id(), START + end, 7, |it| it.accepts_per_s.map(f64::from));
        known.iter().map(Option::is_some).collect::<Vec<bool>>()
    };
    let slow = [
        (1_100, Some(1_100)),
        (2_200, Some(1_100)),
        (3_300, Some(1_100)),
    ];
    let slow: Vec<_> = slow
        .into_iter()
        .chain((4..=6).map(|it| (it * 1_100, Some(1_100))))
        .collect();
    assert_eq!(of(&slow), [true; 7]);
    let held_up = [
        (1_000, Some(1_000)),
        (6_000, Some(5_000)),
        (7_000, Some(1_000)),
    ];
    assert_eq!(
        of(&held_up),
        [true, false, false, false, false, false, true]
    );
    let two = [(1_000, None), (5_000, Some(2_000)), (7_000, Some(2_000))];
    assert_eq!(of(&two), [false, false, false, true, true, true, true]);
}

#[test]
fn a_daemon_that_began_anew_has_no_rate() {
    let mut past = Past::default();
    past.note(&view(0, 10));
    let mut anew = View::clone(&view(1, 20));
    anew.since += Duration::from_secs(1);
    past.note(&Arc::new(anew));
    assert_eq!(accepts(&past, 1, 2), [None, None]);
}

#[test]
fn fifteen_minutes_are_kept() {
    let mut past = Past::default();
    for second in 0..1_000 {
        past.note(&view(second, second));
    }
    assert_eq!(past.nearest(0), Some(START + 100_000));
    past.note(&view(5, 5));
    assert_eq!(
        past.nearest(0),
        Some(START + 5_000),
        "the clock was set back"
    );
}

/// What a daemon remembers, with lists of any length.
fn history(times_ms: Vec<u64>, accepts: Vec<Option<u32>>, address: &str) -> History {
    let none = Vec::new;
    History {
        schema: SCHEMA.to_owned(),
        taken_at: SystemTime::UNIX_EPOCH,
        step_ms: 1_000,
        lasted_ms: vec![Some(2_000); times_ms.len()],
        times_ms,
        listeners: vec![ListenerHistory {
            id: id(),
            address: address.to_owned(),
            protocol: "tcp".to_owned(),
            queued: vec![Some(7)],
            peak: none(),
            active: none(),
            accepts,
            overflows: none(),
            wait_p99_us: none(),
            waiting: none(),
            calling: none(),
        }],
    }
}

#[test]
fn a_daemons_past_comes_before_the_first_view() {
    let mut past = Past::default();
    past.note(&view(10, 100));
    past.note(&view(11, 101));
    let times = [6_000, 8_000, 10_100].map(|it| START + it).to_vec();
    past.fill(&history(times, vec![Some(4), None, Some(900)], "was"));
    let expected = [
        Some(2.0),
        Some(2.0),
        None,
        None,
        // The first view alone has no rate, the daemon has.
        Some(450.0),
        Some(450.0),
        Some(1.0),
    ];
    assert_eq!(accepts(&past, 11, 7), expected);
    let queued = past.at(START + 10_000, &id()).unwrap().queued;
    assert_eq!(queued, view(0, 0).listeners[0].queue.queued, "its own");
    let figures = past.at(START + 6_000, &id()).unwrap();
    assert_eq!((figures.queued, figures.peak), (Some(7), None));
    assert_eq!(
        past.at(START + 8_000, &id()),
        None,
        "nothing is known of it"
    );
}

#[test]
fn a_hostile_past_is_bounded() {
    let mut past = Past::default();
    let times = (0..100_000).rev().chain([0, u64::MAX]).collect();
    past.fill(&history(times, vec![Some(1); 200_000], "x"));
    past.note(&view(0, 1));
    assert!(past.rows(START).count() <= 1);
    assert_eq!(accepts(&past, 0, 1).len(), 1);
}
