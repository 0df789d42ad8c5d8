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
            Some((before, continuity)) => continuity.next(before, &view),
            None => Continuity::of(&view),
        };
        let expected = expected.map(|accepts| (accepts, accepts, accepts * 10));
        assert_eq!(exported(&view, &continuity), expected, "{second}");
        last = Some((view, continuity));
    }
}

#[test]
fn a_socket_that_was_alone_ends_its_series() {
    let (first, second, third) = (view(1, &[("a", 9)]), view(2, &[]), view(3, &[("b", 2)]));
    let continuity = Continuity::of(&first).next(&first, &second);
    let continuity = continuity.next(&second, &third);
    assert_eq!(exported(&third, &continuity), Some((2, 2, 20)));
}

#[test]
fn many_sockets_that_are_gone_take_bounded_memory() {
    let name = |number: u64| format!("socket-{number}");
    let mut before = view(1, &[("stays", 0), (&name(0), 1)]);
    let mut continuity = Continuity::of(&before);
    for number in 1..=1000 {
        let next = view(1, &[("stays", 0), (&name(number), 1)]);
        continuity = continuity.next(&before, &next);
        before = next;
    }
    assert_eq!(exported(&before, &continuity), Some((1001, 1001, 10_010)));
    let kept = continuity.listeners.values().next().unwrap();
    assert_eq!(kept.gone.len(), APART);
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
    let continuity = Continuity::of(&first);
    let next = continuity.next(&first, &none_left);
    assert_eq!(service(&none_left, &next), "app.service");
    assert_eq!(next.of_server("unicorn:14387").service, "app.service");
    // Without anything before, the server's kind must do.
    let alone = Continuity::of(&none_left);
    assert_eq!(service(&none_left, &alone), "unicorn");
    // Others that run it say it anew.
    let mut others = first;
    others
        .workers
        .iter_mut()
        .for_each(|it| it.unit = Fact::Nothing);
    let next = next.next(&none_left, &others);
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
    let continuity = Continuity::of(&first).next(&first, &left);
    assert_eq!(accepts(&left, &continuity), Some(1000));
    let back = continuity.next(&left, &first);
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
        continuity = continuity.next(&view, &view);
        assert_eq!(continuity.gaps()["map-full"], expected);
    }
    view.gaps.clear();
    assert_eq!(continuity.next(&view, &view).gaps()["map-full"], 7);
}
