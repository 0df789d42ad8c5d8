use super::*;
use crate::{fact::Fact, view::Gap};

fn example() -> View {
    serde_json::from_str(include_str!("../../../../tests/data/view.json")).unwrap()
}

/// Its id, and what it has accepted.
type Socket = (&'static str, u64);

/// A view of some sockets on one address, with what each has accepted.
fn view(second: u64, sockets: &[(&str, u64)]) -> View {
    let mut view = example();
    view.monotonic_ns = second * 1_000_000_000;
    let like = view.listeners[0].clone();
    view.listeners = sockets
        .iter()
        .map(|(id, accepts)| {
            let mut socket = like.clone();
            socket.id = (*id).to_owned();
            let connections = socket.connections.as_mut().unwrap();
            connections.accepts = Some(*accepts);
            let wait = connections.wait.as_mut().unwrap();
            (wait.count, wait.sum_us) = (*accepts, *accepts * 10);
            wait.buckets = Some(vec![(Some(16.0), *accepts)]);
            socket
        })
        .collect();
    view.groups.clear();
    view
}

/// Accepts, count and sum of waits of the address.
fn exported(view: &View, continuity: &Continuity) -> Option<(u64, u64, u64)> {
    let series = crate::render::openmetrics::listeners::series(view, continuity);
    let totals = &series.first()?.totals;
    let wait = totals.wait.as_ref()?;
    Some((totals.accepts?, wait.count(), wait.sum().micros))
}

#[test]
fn a_sum_goes_on_when_sockets_close_come_and_are_missed() {
    let steps: [(u64, &[Socket], Option<u64>); 11] = [
        (1, &[("a", 10), ("b", 5)], Some(15)),
        (2, &[("a", 12), ("b", 5)], Some(17)),
        // One closes, with what it has counted.
        (3, &[("a", 13)], Some(18)),
        (4, &[("a", 13), ("c", 1)], Some(19)),
        // A reading has missed one: it is not counted twice.
        (5, &[("c", 2)], Some(20)),
        (6, &[("a", 15), ("c", 2)], Some(22)),
        // All of them are gone for a while, and new ones come.
        (7, &[], None),
        (100, &[], None),
        (200, &[("d", 1)], Some(23)),
        (201, &[], None),
        (600, &[("e", 1)], Some(1)),
    ];
    let mut last: Option<(View, Continuity)> = None;
    for (second, sockets, expected) in steps {
        let view = view(second, sockets);
        let continuity = match &last {
            Some((before, continuity)) => continuity.next(before, &view, Bounds::default()),
            None => Continuity::of(&view, Bounds::default()),
        };
        let expected = expected.map(|accepts| (accepts, accepts, accepts * 10));
        assert_eq!(exported(&view, &continuity), expected, "{second}");
        last = Some((view, continuity));
    }
}

#[test]
fn a_socket_that_was_alone_ends_its_series() {
    let (first, second, third) = (view(1, &[("a", 9)]), view(2, &[]), view(3, &[("b", 2)]));
    let continuity =
        Continuity::of(&first, Bounds::default()).next(&first, &second, Bounds::default());
    let continuity = continuity.next(&second, &third, Bounds::default());
    assert_eq!(exported(&third, &continuity), Some((2, 2, 20)));
}

#[test]
fn many_sockets_that_are_gone_take_bounded_memory() {
    let name = |number: u64| format!("socket-{number}");
    let mut before = view(1, &[("stays", 0), (&name(0), 1)]);
    let mut continuity = Continuity::of(&before, Bounds::default());
    for number in 1..=1000 {
        let next = view(1, &[("stays", 0), (&name(number), 1)]);
        continuity = continuity.next(&before, &next, Bounds::default());
        before = next;
    }
    assert_eq!(exported(&before, &continuity), Some((1001, 1001, 10_010)));
    let kept = continuity.listeners.values().next().unwrap();
    assert_eq!(kept.gone.len(), kept::APART);
}

#[test]
fn labels_stay_while_nobody_can_say_what_they_are() {
    let service = |view: &View, continuity: &Continuity| {
        let series = crate::render::openmetrics::listeners::series(view, continuity);
        let series = series.iter().find(|it| it.labels[0] == "127.0.0.1:18080");
        series.unwrap().labels[4].clone()
    };
    let first = example();
    let mut none_left = first.clone();
    none_left.workers.clear();
    for listener in &mut none_left.listeners {
        listener.workers = Some(Vec::new());
    }
    for server in &mut none_left.servers {
        server.workers.clear();
    }
    let continuity = Continuity::of(&first, Bounds::default());
    let next = continuity.next(&first, &none_left, Bounds::default());
    assert_eq!(service(&none_left, &next), "app.service");
    assert_eq!(next.of_server("unicorn:14387").service, "app.service");
    // Without anything before, the server's kind must do.
    let alone = Continuity::of(&none_left, Bounds::default());
    assert_eq!(service(&none_left, &alone), "unicorn");
    // Others that run it say it anew.
    let mut others = first;
    others
        .workers
        .iter_mut()
        .for_each(|it| it.unit = Fact::Nothing);
    let next = next.next(&none_left, &others, Bounds::default());
    assert_eq!(service(&others, &next), "unicorn");
}

#[test]
fn what_a_worker_counted_at_a_listener_that_it_left_stays() {
    let accepts = |view: &View, continuity: &Continuity| {
        let processes = crate::render::openmetrics::workers::processes(view, continuity);
        processes[0].accepts()
    };
    let first = example();
    let mut left = first.clone();
    left.workers[0].accepts = Some(0);
    left.workers[0].listeners.clear();
    let continuity =
        Continuity::of(&first, Bounds::default()).next(&first, &left, Bounds::default());
    assert_eq!(accepts(&left, &continuity), Some(1000));
    let back = continuity.next(&left, &first, Bounds::default());
    assert_eq!(accepts(&first, &back), Some(1000));
}

#[test]
fn gaps_never_fall() {
    let mut view = example();
    let mut continuity = Continuity::default();
    for (count, expected) in [(3, 3), (1, 3), (7, 7)] {
        view.gaps = vec![Gap {
            what: "map-full".to_owned(),
            count,
            ..Gap::default()
        }];
        continuity = continuity.next(&view, &view, Bounds::default());
        assert_eq!(continuity.gaps()["map-full"], expected);
    }
    view.gaps.clear();
    assert_eq!(
        continuity.next(&view, &view, Bounds::default()).gaps()["map-full"],
        7
    );
}

#[test]
fn a_socket_that_listens_again_does_not_let_its_sum_fall() {
    let mut before = view(1, &[("a", 10)]);
    let mut continuity = Continuity::of(&before, Bounds::default());
    for (second, accepts, expected) in [(2, 12, 12), (3, 2, 12), (4, 5, 15), (5, 0, 15), (6, 1, 16)]
    {
        let now = view(second, &[("a", accepts)]);
        continuity = continuity.next(&before, &now, Bounds::default());
        let found = exported(&now, &continuity);
        assert_eq!(found, Some((expected, expected, expected * 10)), "{second}");
        before = now;
    }
}

#[test]
fn what_has_not_changed_is_shared() {
    let first = view(1, &[("a", 10), ("b", 5)]);
    let second = view(2, &[("a", 11)]);
    let third = view(3, &[("a", 12)]);
    let before = Continuity::of(&first, Bounds::default()).next(&first, &second, Bounds::default());
    let after = before.next(&second, &third, Bounds::default());
    let kept = |continuity: &Continuity| Arc::clone(continuity.listeners.values().next().unwrap());
    assert!(Arc::ptr_eq(&kept(&before), &kept(&after)));
    // Nor is it told apart for ever, and its figures stay.
    let later = view(1000, &[("a", 12)]);
    let after = after.next(&third, &later, Bounds::default());
    assert!(kept(&after).gone.is_empty());
    assert_eq!(exported(&later, &after), Some((17, 17, 170)));
}

#[test]
fn sockets_of_all_addresses_that_are_gone_are_bounded() {
    const ADDRESSES: u64 = 64;
    let crowd = |round: u64| {
        let mut view = view(round, &[]);
        let like = example().listeners[0].clone();
        for address in 0..ADDRESSES {
            for number in [0, round] {
                let mut socket = like.clone();
                socket.id = format!("{address}-{number}");
                socket.address = format!("127.0.0.1:{address}");
                view.listeners.push(socket);
            }
        }
        view
    };
    let mut before = crowd(1);
    let mut continuity = Continuity::of(&before, Bounds::default());
    for round in 2..50 {
        let now = crowd(round);
        continuity = continuity.next(&before, &now, Bounds::default());
        before = now;
    }
    let apart: usize = continuity.listeners.values().map(|it| it.gone.len()).sum();
    assert_eq!(apart, MOST_APART);
    assert_eq!(
        exported(&before, &continuity).map(|it| it.0),
        Some(2000 * 50)
    );
}

/// The example with sockets called like this, and nothing else.
fn called(names: &[&str]) -> View {
    let mut view = example();
    let (tcp, unix) = (view.listeners[0].clone(), view.listeners[5].clone());
    view.workers.clear();
    view.servers.clear();
    view.listeners = names
        .iter()
        .map(|name| {
            let mut listener = if name.starts_with('@') {
                unix.clone()
            } else {
                tcp.clone()
            };
            listener.id = (*name).to_owned();
            listener.address = (*name).to_owned();
            listener.server = Fact::Unknown;
            listener.workers = None;
            listener
        })
        .collect();
    view
}

#[test]
fn series_do_not_come_and_go_where_not_all_can_have_some() {
    let bounds = Bounds::of(2);
    let mut before = called(&[]);
    let mut continuity = Continuity::of(&before, bounds);
    let steps: [(&[&str], &[&str]); 6] = [
        (&["@b", "@c", "@d"], &["@b", "@c"]),
        // Others of the same kind have none while these are there.
        (&["@a", "@b", "@c", "@d"], &["@b", "@c"]),
        (&["@a", "@c", "@d"], &["@a", "@c"]),
        // TCP comes first.
        (&["@a", "@c", "1:1"], &["1:1", "@a"]),
        (&["@a", "1:1", "1:2", "1:3"], &["1:1", "1:2"]),
        (&["@a", "1:2", "1:3", "1:0"], &["1:0", "1:2"]),
    ];
    for (there, expected) in steps {
        let view = called(there);
        continuity = continuity.next(&before, &view, bounds);
        let series = crate::render::openmetrics::listeners::series(&view, &continuity);
        let mut shown: Vec<&str> = series.iter().map(|it| &*it.labels[0]).collect();
        shown.sort_unstable();
        assert_eq!(shown, expected, "{there:?}");
        let left_out = there.len() - expected.len();
        assert_eq!(continuity.left_out().listeners, left_out as u64);
        before = view;
    }
}

#[test]
fn a_listener_that_was_used_is_no_less_when_it_is_idle() {
    let bounds = Bounds::of(1);
    let is_shown = |continuity: &Continuity, view: &View, address: &str| {
        let series = crate::render::openmetrics::listeners::series(view, continuity);
        series[0].labels[0] == address
    };
    let idle = called(&["@a", "@b"]);
    let mut used = idle.clone();
    used.listeners[1].queue.queued = Some(1);
    let mut both = used.clone();
    both.listeners[0].queue.queued = Some(1);
    let mut continuity = Continuity::of(&idle, bounds);
    assert!(is_shown(&continuity, &idle, "@a"));
    for (before, view) in [(&idle, &used), (&used, &idle), (&idle, &both)] {
        continuity = continuity.next(before, view, bounds);
        assert!(is_shown(&continuity, view, "@b"));
    }
}

#[test]
fn workers_of_what_has_no_series_have_none() {
    let pids =
        |continuity: &Continuity| -> Vec<u32> { continuity.workers.keys().copied().collect() };
    let mut view = example();
    view.listeners.truncate(2);
    view.listeners[0].server = Fact::Nothing;
    view.workers.truncate(4);
    view.servers.retain(|server| server.kind != "puma");
    // Of nginx, which is known.
    let continuity = Continuity::of(&view, Bounds::of(1));
    assert_eq!(pids(&continuity), [2101, 2102]);
    assert_eq!(continuity.left_out().workers, 2);
    assert_eq!(continuity.left_out().listeners, 1);
    let servers = crate::render::openmetrics::workers::servers(&view, &continuity);
    let kinds: Vec<&str> = servers.keys().map(|labels| &*labels[0]).collect();
    assert_eq!(kinds, ["nginx"]);
}

#[test]
fn a_worker_cannot_change_its_number() {
    let mut before = example();
    before.workers[0].index = None;
    let mut continuity = Continuity::of(&before, Bounds::default());
    for (told, expected) in [(Some(0), Some(0)), (Some(7), Some(0)), (None, Some(0))] {
        let mut view = example();
        view.workers[0].index = told;
        continuity = continuity.next(&before, &view, Bounds::default());
        assert_eq!(continuity.index(view.workers[0].pid), expected, "{told:?}");
        before = view;
    }
}
