mod document;

use std::collections::BTreeSet;

use super::{Bounds, Continuity, Dialect, Type, families, view};
use crate::{
    fact::Fact,
    view::{Durations, Gap, View, slabs::Number},
};

fn example() -> View {
    serde_json::from_str(include_str!("../../../tests/data/view.json")).unwrap()
}

fn lines(of: &View, dialect: Dialect, prefix: &str) -> Vec<String> {
    let mut out = Vec::new();
    view(
        of,
        &Continuity::of(of, Bounds::default()),
        dialect,
        &mut out,
    )
    .unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines = text.lines().filter(|line| line.contains(prefix));
    lines.map(str::to_owned).collect()
}

#[test]
fn counters_gauges_and_maxima_of_slabs_have_their_families() {
    let open = lines(&example(), Dialect::OpenMetrics, "raindrops_slab_events");
    assert_eq!(
        open,
        [
            "# TYPE raindrops_slab_events counter",
            "# HELP raindrops_slab_events Counters that applications keep in slabs, in the field's own unit.",
            "raindrops_slab_events_total{slab=\"shop\",field=\"body\",service=\"app.service\"} 1048576",
            "raindrops_slab_events_total{slab=\"shop\",field=\"requests\",service=\"app.service\"} 18446744073709551615",
        ]
    );
    let old = lines(&example(), Dialect::Prometheus, "raindrops_slab_events");
    assert_eq!(old[0], "# TYPE raindrops_slab_events_total counter");
    let values = lines(&example(), Dialect::OpenMetrics, "raindrops_slab_value{");
    assert_eq!(
        values,
        [
            "raindrops_slab_value{slab=\"shop\",field=\"calling\",service=\"app.service\"} -1",
            "raindrops_slab_value{slab=\"shop\",field=\"longest\",service=\"app.service\"} 71000",
        ]
    );
}

#[test]
fn slabs_of_one_name_are_summed() {
    let mut view = example();
    let mut other = view.slabs[0].clone();
    other
        .counters
        .insert("requests".to_owned(), Number::Count(3));
    other
        .counters
        .insert("longest".to_owned(), Number::Count(5));
    view.slabs[0]
        .counters
        .insert("requests".to_owned(), Number::Count(4));
    view.slabs.push(other);
    let field = |field| lines(&view, Dialect::OpenMetrics, field);
    let requests =
        "raindrops_slab_events_total{slab=\"shop\",field=\"requests\",service=\"app.service\"} 7";
    assert_eq!(field("\"requests\","), [requests]);
    let longest =
        "raindrops_slab_value{slab=\"shop\",field=\"longest\",service=\"app.service\"} 71000";
    assert_eq!(field("\"longest\","), [longest]);
    let count = "raindrops_slab_observations_count{slab=\"shop\",field=\"answer\",service=\"app.service\"} 6";
    assert_eq!(field("observations_count{"), [count]);
}

#[test]
fn buckets_of_a_histogram_add_up() {
    let buckets = lines(&example(), Dialect::OpenMetrics, "observations_bucket{");
    let last = buckets.len() - 1;
    assert!(buckets[8].ends_with("le=\"511.0\"} 1"), "{}", buckets[8]);
    assert!(buckets[9].ends_with("le=\"1023.0\"} 2"), "{}", buckets[9]);
    assert!(
        buckets[last - 1].ends_with("le=\"131071.0\"} 3"),
        "{}",
        buckets[last - 1]
    );
    assert!(
        buckets[last].ends_with("le=\"+Inf\"} 3"),
        "{}",
        buckets[last]
    );
}

#[test]
fn it_ends_as_it_has_to() {
    assert_eq!(lines(&example(), Dialect::OpenMetrics, "# EOF").len(), 1);
    assert!(lines(&example(), Dialect::Prometheus, "# EOF").is_empty());
}

/// The whole of the example's listener on port 18080.
#[test]
fn a_listener_has_one_series_in_each_family() {
    let labels = "{address=\"127.0.0.1:18080\",protocol=\"tcp\",netns=\"net:[4026531833]\",\
                  container=\"\",service=\"app.service\"}";
    let found = lines(&example(), Dialect::OpenMetrics, labels);
    let found: Vec<String> = found.iter().map(|line| line.replace(labels, "")).collect();
    assert_eq!(found, LISTENER_18080);
}

const LISTENER_18080: [&str; 23] = [
    "raindrops_listener_queued 9",
    "raindrops_listener_queue_limit 8",
    "raindrops_listener_queue_peak 9",
    "raindrops_listener_active 2",
    "raindrops_listener_half_closed 0",
    "raindrops_listener_overflows_total 153",
    "raindrops_listener_drops_total 577",
    "raindrops_listener_accepts_total 2000",
    "raindrops_listener_late_accepts_total 0",
    "raindrops_listener_closes_total 1998",
    "raindrops_listener_aborted_total 0",
    "raindrops_listener_turns_total 2000",
    "raindrops_listener_oldest_turn_seconds 0.0052",
    "raindrops_listener_accept_wait_seconds_count 2000",
    "raindrops_listener_accept_wait_seconds_sum 0.123456",
    "raindrops_listener_lifetime_seconds_count 1998",
    "raindrops_listener_lifetime_seconds_sum 3.996",
    "raindrops_listener_read_wait_seconds_count 2000",
    "raindrops_listener_read_wait_seconds_sum 0.024",
    "raindrops_listener_answer_seconds_count 1995",
    "raindrops_listener_answer_seconds_sum 2.793",
    "raindrops_listener_write_seconds_count 1995",
    "raindrops_listener_write_seconds_sum 0.1995",
];

#[test]
fn bounds_of_durations_are_in_seconds() {
    let found = lines(
        &example(),
        Dialect::OpenMetrics,
        "raindrops_listener_accept_wait_seconds",
    );
    assert_eq!(
        found[..3],
        [
            "# TYPE raindrops_listener_accept_wait_seconds histogram",
            "# UNIT raindrops_listener_accept_wait_seconds seconds",
            "# HELP raindrops_listener_accept_wait_seconds Time in the accept queue: from \
             established to the return of accept.",
        ]
    );
    let bounds: BTreeSet<String> = found
        .iter()
        .filter_map(|line| Some(line.split_once("le=\"")?.1.split_once('"')?.0.to_owned()))
        .collect();
    assert_eq!(bounds.len(), 15, "{bounds:?}");
    assert!(bounds.contains("0.000064") && bounds.contains("+Inf"));
}

#[test]
fn no_two_lines_are_of_one_series() {
    let mut view = example();
    // As in two containers: the same address, and no names.
    let mut other = view.listeners[0].clone();
    other.id = "2:17".to_owned();
    other.netns.inode = 2;
    view.listeners.push(other);
    // A unix socket whose path was bound anew.
    let mut anew = view.listeners[4].clone();
    anew.id.push('0');
    view.listeners.push(anew);
    for dialect in [Dialect::OpenMetrics, Dialect::Prometheus] {
        let all = lines(&view, dialect, "");
        let series = |line: &String| line.rsplit_once(' ').map(|it| it.0.to_owned());
        let lines = all.iter().filter(|line| !line.starts_with('#'));
        let named: Vec<String> = lines.filter_map(series).collect();
        let distinct: BTreeSet<&String> = named.iter().collect();
        assert_eq!(distinct.len(), named.len());
    }
    let queued = "raindrops_listener_queued{address=\"127.0.0.1:18080\"";
    assert_eq!(lines(&view, Dialect::OpenMetrics, queued).len(), 2);
}

#[test]
fn what_is_not_known_has_no_line() {
    let mut view = example();
    view.listeners.iter_mut().for_each(|listener| {
        listener.connections = None;
        listener.turns = None;
        listener.queue.overflows = None;
    });
    view.groups.clear();
    for name in ["accepts", "overflows", "accept_wait", "turns", "active"] {
        let name = format!("raindrops_listener_{name}");
        assert_eq!(lines(&view, Dialect::OpenMetrics, &name), [""; 0]);
    }
}

#[test]
fn labels_cannot_break_out() {
    let mut view = example();
    view.listeners[0].address = "/run/a\"} 1\nraindrops_listener_queued 7".to_owned();
    view.workers[0].unit = Fact::Is("a\\".to_owned());
    let found = lines(&view, Dialect::OpenMetrics, "raindrops_listener_queued");
    let lines = found.iter().filter(|line| !line.starts_with('#'));
    assert!(
        lines.clone().all(|line| line.contains("service=")),
        "{found:?}"
    );
}

#[test]
fn gaps_of_one_kind_are_one_line() {
    let mut view = example();
    let gap = |what: &str, count| Gap {
        what: what.to_owned(),
        count,
        ..Gap::default()
    };
    view.gaps = vec![
        gap("map-full", 3),
        gap("slab-refused", 1),
        gap("slab-refused", 1),
    ];
    let found = lines(&view, Dialect::OpenMetrics, "raindrops_gaps_total{");
    assert_eq!(
        found,
        [
            "raindrops_gaps_total{what=\"map-full\"} 3",
            "raindrops_gaps_total{what=\"slab-refused\"} 2",
        ]
    );
}

#[test]
fn the_catalogue_names_each_family_once_and_units_in_names() {
    let mut lines = BTreeSet::new();
    for family in families() {
        for line in family.lines() {
            assert!(lines.insert(line.clone()), "{line} twice");
        }
        assert!(family.name.starts_with("raindrops_"), "{}", family.name);
        if let Some(unit) = family.unit {
            assert!(
                family.name.ends_with(&format!("_{unit}")),
                "{}",
                family.name
            );
        }
        let is_timed = family.name.ends_with("_seconds");
        assert_eq!(family.unit == Some("seconds"), is_timed, "{}", family.name);
        assert!(family.kind != Type::Counter || !family.name.ends_with("_total"));
        assert!(family.help.ends_with('.'), "{}", family.name);
    }
}

/// What users who may bind sockets make of a host: 300 on TCP, 3,000 abstract ones.
fn crowded() -> View {
    let mut view = example();
    let (tcp, unix) = (view.listeners[0].clone(), view.listeners[4].clone());
    view.groups.clear();
    view.listeners.clear();
    for number in 0..300 {
        let mut listener = tcp.clone();
        listener.id = format!("1:{number}");
        listener.address = format!("127.0.0.1:{}", 20_000 + number);
        view.listeners.push(listener);
    }
    let none = Durations {
        count: 0,
        sum_us: 0,
        p50_us: None,
        p90_us: None,
        p99_us: None,
        max_us: None,
        buckets: Some(Vec::new()),
    };
    for number in 0..3000 {
        let mut listener = unix.clone();
        listener.id = format!("1:{}", 1000 + number);
        listener.address = format!("@made-by-somebody-{number}");
        listener.server = Fact::Unknown;
        listener.workers = None;
        let connections = listener.connections.as_mut().unwrap();
        connections.accepts = Some(0);
        connections.active = Some(0);
        connections.wait = Some(none.clone());
        let turns = listener.turns.as_mut().unwrap();
        turns.total = 0;
        turns.read_wait = Some(none.clone());
        turns.answer = none.clone();
        turns.write = none.clone();
        view.listeners.push(listener);
    }
    view
}

#[test]
fn what_users_bind_makes_a_bounded_text() {
    let view = crowded();
    let all = lines(&view, Dialect::OpenMetrics, "");
    assert!(all.len() < 40_000, "{}", all.len());
    let queued = |protocol: &str| {
        let protocol = format!("protocol=\"{protocol}\"");
        let queued = all
            .iter()
            .filter(|line| line.starts_with("raindrops_listener_queued{"));
        queued.filter(|line| line.contains(&protocol)).count()
    };
    assert_eq!((queued("tcp"), queued("unix")), (300, 200));
    let left_out = lines(&view, Dialect::OpenMetrics, "raindrops_series_left_out{");
    assert_eq!(
        left_out,
        [
            "raindrops_series_left_out{of=\"listeners\"} 2800",
            "raindrops_series_left_out{of=\"members\"} 0",
            "raindrops_series_left_out{of=\"workers\"} 0",
        ]
    );
}

#[test]
fn a_histogram_of_a_unix_listener_begins_when_it_counts() {
    let mut view = crowded();
    view.listeners.drain(1..view.listeners.len() - 1);
    let count = |view: &View| {
        let counts = lines(view, Dialect::OpenMetrics, "accept_wait_seconds_count{");
        counts
            .iter()
            .filter(|line| line.contains("protocol=\"unix\""))
            .count()
    };
    assert_eq!(count(&view), 0);
    let connections = view.listeners[1].connections.as_mut().unwrap();
    let wait = connections.wait.as_mut().unwrap();
    (wait.count, wait.sum_us, wait.buckets) = (1, 10, Some(vec![(Some(16.0), 1)]));
    assert_eq!(count(&view), 1);
    // On TCP 0 is told from the first view on.
    let connections = view.listeners[0].connections.as_mut().unwrap();
    let wait = connections.wait.as_mut().unwrap();
    (wait.count, wait.sum_us, wait.buckets) = (0, 0, Some(Vec::new()));
    let zero = "accept_wait_seconds_count{address=\"127.0.0.1:20000\"";
    assert_eq!(lines(&view, Dialect::OpenMetrics, zero).len(), 1);
}
