use std::{collections::BTreeMap, time::Duration};

use super::{
    Found, Gauges, Oldest, Thread, busy_threads, class, gauges, handlers, living, part, pool,
    waits_for_events, works_itself,
};
use crate::{
    ids::Monotonic,
    view::{
        Class,
        WriteEnd::{NextRead, Seen},
    },
};

fn thread(reads: u32, answers: u32, handed: u32) -> Thread {
    Thread {
        id: 1,
        reads,
        answers,
        handed,
        waits_for_events: false,
        registered: 0,
        fresh: 0,
    }
}

fn event_loop() -> Thread {
    Thread {
        waits_for_events: true,
        registered: 1,
        ..thread(1, 1, 0)
    }
}

#[test]
fn a_process_is_known_by_who_reads_and_who_answers() {
    for (threads, living, expected) in [
        // Nothing was answered yet.
        (vec![], Some(1), Class::Direct),
        (vec![], Some(5), Class::Learning),
        (vec![], None, Class::Learning),
        (vec![thread(1, 0, 0)], Some(7), Class::Learning),
        // unicorn.
        (vec![thread(9, 9, 0)], Some(1), Class::Direct),
        // A pool whose threads read for themselves; one of them is in its first turn.
        (
            vec![thread(4, 4, 0), thread(3, 3, 0), thread(1, 0, 0)],
            Some(8),
            Class::Direct,
        ),
        // puma before its reactor has read enough to be told from a pool thread, and after.
        (
            vec![thread(4, 5, 1), thread(2, 0, 0)],
            Some(8),
            Class::Learning,
        ),
        (
            vec![thread(4, 6, 2), thread(3, 0, 0)],
            Some(8),
            Class::Handoff,
        ),
        // Its reactor has said of one request that it was bad, and waits for events.
        (
            vec![
                thread(4, 20, 16),
                Thread {
                    waits_for_events: true,
                    ..thread(40, 1, 0)
                },
            ],
            Some(8),
            Class::Handoff,
        ),
        // Rainbows! with XEpollThreadPool: one reads all.
        (
            vec![thread(30, 0, 0), thread(0, 10, 10), thread(0, 9, 9)],
            Some(7),
            Class::Handoff,
        ),
        // puma whose reactor reads for a pool that has answered what it read itself, so far.
        (
            vec![thread(4, 4, 0), thread(2, 0, 0)],
            Some(8),
            Class::Learning,
        ),
        // Its acceptor before the first answer.
        (vec![thread(8, 0, 0)], Some(7), Class::Learning),
        // A thread that answers now and then what another read that answers itself.
        (
            vec![thread(9, 8, 0), thread(0, 1, 1)],
            Some(8),
            Class::Direct,
        ),
        // unicorn since 6.1, which waits for its listeners in epoll.
        (
            vec![Thread {
                waits_for_events: true,
                fresh: 2,
                ..thread(9, 9, 0)
            }],
            Some(1),
            Class::Direct,
        ),
        // The only connection that came to it since it is known may have been registered before.
        (
            vec![Thread {
                waits_for_events: true,
                fresh: 1,
                ..thread(9, 9, 0)
            }],
            Some(1),
            Class::Learning,
        ),
        // nginx, node.
        (vec![event_loop()], Some(1), Class::Loop),
        (vec![event_loop()], Some(11), Class::Loop),
        // A reader that waits for events is no event loop: it does not answer.
        (
            vec![
                Thread {
                    waits_for_events: true,
                    ..thread(9, 0, 0)
                },
                thread(0, 9, 9),
            ],
            Some(7),
            Class::Handoff,
        ),
    ] {
        assert_eq!(class(&threads, living), expected, "{threads:?} {living:?}");
    }
}

#[test]
fn a_reader_for_others_may_wait_without_telling_of_an_end() {
    let waits = |thread| Thread {
        waits_for_events: true,
        ..thread
    };
    for (threads, expected) in [
        (vec![], false),
        (vec![thread(1, 1, 0)], false),
        (vec![thread(1, 1, 0), waits(thread(1, 1, 0))], true),
        (vec![waits(thread(9, 0, 0)), thread(0, 9, 9)], false),
    ] {
        assert_eq!(waits_for_events(&threads), expected, "{threads:?}");
    }
}

#[test]
fn a_reader_for_others_is_not_at_what_it_has_read() {
    let named = |id, thread| Thread { id, ..thread };
    let puma = [named(7, thread(40, 1, 0)), named(8, thread(4, 9, 5))];
    for (class, reader, expected) in [
        (Class::Handoff, 7, false),
        (Class::Handoff, 8, true),
        (Class::Handoff, 9, false),
        (Class::Learning, 8, true),
        // In its first turn.
        (Class::Direct, 9, true),
        (Class::Loop, 7, true),
    ] {
        assert_eq!(
            works_itself(class, &puma, reader),
            expected,
            "{class:?} {reader}"
        );
    }
}

#[test]
fn handlers_are_those_that_have_answered() {
    assert_eq!(handlers(&[thread(9, 0, 0), thread(0, 1, 1)]), 1);
    assert_eq!(handlers(&[]), 0);
}

/// 30 clients of a pool of three, of whom 8 were accepted and read.
const POOL: Found = Found {
    connections: 8,
    unread: 0,
    reading: 0,
    calling: 8,
    writing: 0,
    blocked: 0,
    parked: 0,
    unseen: 0,
    oldest: None,
    oldest_calling: None,
};

#[test]
fn a_pool_works_on_as_many_turns_as_it_has_threads() {
    let expected = Gauges {
        waiting: Some(5),
        calling: Some(3),
        ..Gauges::NONE
    };
    assert_eq!(gauges(Class::Handoff, 3, &POOL, Seen), expected);
    assert_eq!(busy_threads(Class::Handoff, 3, &expected), Some(3));

    let direct = gauges(Class::Direct, 3, &POOL, Seen);
    assert_eq!((direct.waiting, direct.calling), (Some(0), Some(8)));
    assert_eq!(busy_threads(Class::Loop, 1, &direct), None);

    let learning = gauges(Class::Learning, 0, &POOL, Seen);
    assert_eq!((learning.waiting, learning.calling), (None, None));
    assert_eq!((learning.idle, learning.writing), (Some(0), 0));
    assert_eq!(busy_threads(Class::Learning, 0, &learning), None);
    assert_eq!(gauges(Class::Learning, 0, &Found::NONE, Seen), Gauges::NONE);
}

#[test]
fn threads_that_write_or_wait_for_their_client_are_not_free() {
    let found = Found {
        connections: 12,
        unread: 1,
        reading: 2,
        calling: 3,
        writing: 1,
        blocked: 1,
        parked: 1,
        ..Found::NONE
    };
    let expected = Gauges {
        waiting: Some(3),
        reading: Some(2),
        calling: Some(1),
        writing: 1,
        blocked: 1,
        idle: Some(5),
    };
    assert_eq!(gauges(Class::Handoff, 3, &found, Seen), expected);
    let states = 3 + 2 + 1 + 1 + 5;
    assert_eq!(found.connections, states);
}

/// A response that the application has taken over is written by none of the pool's threads.
#[test]
fn more_writers_than_a_pool_has_threads_leave_unknown_what_it_works_on() {
    let found = |calling, writing, parked| Found {
        connections: 20,
        unread: 1,
        calling,
        writing,
        parked,
        ..Found::NONE
    };
    let gauges_of = |waiting, calling, writing, idle| Gauges {
        waiting,
        reading: Some(0),
        calling,
        writing,
        blocked: 0,
        idle: Some(idle),
    };
    for ((calling, writing, parked), expected, busy) in [
        // All threads write or wait for their clients.
        ((4, 3, 0), gauges_of(Some(5), Some(0), 3, 12), Some(3)),
        ((4, 1, 2), gauges_of(Some(5), Some(0), 1, 14), Some(1)),
        // More than there are.
        ((4, 4, 0), gauges_of(None, None, 4, 11), None),
        ((1, 2, 2), gauges_of(None, None, 2, 16), None),
        // Nothing was read that could be worked on.
        ((0, 9, 0), gauges_of(Some(1), Some(0), 9, 10), None),
    ] {
        let found = found(calling, writing, parked);
        let whole = gauges(Class::Handoff, 3, &found, Seen);
        assert_eq!(whole, expected, "{found:?}");
        assert_eq!(part(Class::Handoff, 3, &found, &found, Seen), expected);
        assert_eq!(busy_threads(Class::Handoff, 3, &whole), busy, "{found:?}");
    }
    // They write to another listener's clients.
    let here = found(2, 0, 0);
    let whole = here.plus(found(0, 4, 0));
    let of_listener = part(Class::Handoff, 3, &here, &whole, Seen);
    assert_eq!(of_listener, gauges_of(None, None, 0, 17));
}

#[test]
fn without_ends_is_absent_what_they_tell() {
    let quiet = Found {
        connections: 6,
        unread: 2,
        ..Found::NONE
    };
    let answered = Found {
        writing: 4,
        ..quiet
    };
    let called = Found {
        calling: 1,
        ..answered
    };
    let gauges_of = |waiting, calling, writing, idle| Gauges {
        waiting,
        reading: None,
        calling,
        writing,
        blocked: 0,
        idle,
    };
    for (class, found, expected) in [
        (
            Class::Direct,
            quiet,
            gauges_of(Some(2), Some(0), 0, Some(4)),
        ),
        (Class::Direct, called, gauges_of(Some(2), Some(1), 4, None)),
        (
            Class::Handoff,
            quiet,
            gauges_of(Some(2), Some(0), 0, Some(4)),
        ),
        (
            Class::Handoff,
            answered,
            gauges_of(Some(2), Some(0), 4, None),
        ),
        (Class::Handoff, called, gauges_of(None, None, 4, None)),
        (Class::Learning, called, gauges_of(None, None, 4, None)),
    ] {
        assert_eq!(gauges(class, 3, &found, NextRead), expected, "{class:?}");
        let of_listener = part(class, 3, &found, &found, NextRead);
        assert_eq!(of_listener, expected, "{class:?}");
    }
    // Of a listener without turns all is known, whatever the others do.
    let quiet_part = part(Class::Handoff, 3, &quiet, &quiet.plus(called), NextRead);
    assert_eq!(quiet_part, gauges_of(Some(2), Some(0), 0, Some(4)));
    let sum = gauges_of(Some(1), Some(0), 0, Some(4)).plus(gauges_of(Some(1), Some(0), 3, None));
    assert_eq!(sum, gauges_of(Some(2), Some(0), 3, None));
}

#[test]
fn a_listener_has_its_part_of_a_pool_only_where_that_is_certain() {
    let few = Found {
        connections: 2,
        calling: 2,
        ..Found::NONE
    };
    let idle = Found {
        connections: 4,
        ..Found::NONE
    };
    let calling = |of: &Found, whole: &Found| part(Class::Handoff, 3, of, whole, Seen).calling;
    // The only listener with turns.
    assert_eq!(calling(&POOL, &POOL.plus(idle)), Some(3));
    assert_eq!(calling(&idle, &POOL.plus(idle)), Some(0));
    // Fewer turns than threads.
    let one = Found { calling: 1, ..few };
    assert_eq!(calling(&few, &few.plus(one)), Some(2));
    // More, of two listeners.
    assert_eq!(calling(&few, &POOL.plus(few)), None);
    assert_eq!(
        part(Class::Loop, 1, &few, &POOL.plus(few), Seen).calling,
        Some(2)
    );
    // A thread that writes to another listener's client is not free.
    let writing = Found {
        connections: 1,
        writing: 1,
        ..Found::NONE
    };
    assert_eq!(calling(&POOL, &POOL.plus(writing)), Some(2));
}

#[test]
fn the_oldest_of_all_is_the_oldest() {
    let at = |seconds, thread| {
        Some(Oldest {
            began: Monotonic(Duration::from_secs(seconds)),
            thread,
        })
    };
    let of = |oldest| Found {
        oldest,
        ..Found::NONE
    };
    assert_eq!(of(at(5, 1)).plus(of(at(3, 2))).oldest, at(3, 2));
    assert_eq!(of(None).plus(of(at(3, 2))).oldest, at(3, 2));
}

#[test]
fn a_pool_has_the_threads_that_are_called_as_those_that_answer() {
    let pool_of = |threads: &[(u32, u32, u32)], names: &[(u32, &str)], process: &str| {
        let threads: Vec<Thread> = threads
            .iter()
            .map(|(id, reads, answers)| Thread {
                id: *id,
                ..thread(*reads, *answers, 0)
            })
            .collect();
        let names: BTreeMap<u32, &[u8]> = names
            .iter()
            .map(|(id, name)| (*id, name.as_bytes()))
            .collect();
        pool(&threads, &names, process.as_bytes())
    };
    let puma = [
        (1, "puma"),
        (2, "puma srv tp 001"),
        (3, "puma srv tp 002"),
        (4, "puma srv tp 002"),
        (5, "puma reactor"),
        (6, "puma srv"),
    ];
    assert_eq!(pool_of(&[(2, 3, 4), (5, 3, 0)], &puma, "puma"), 3);
    // The acceptor is called after another line of the same file.
    let rainbows = [
        (1, "client.rb:14"),
        (2, "client.rb:36"),
        (3, "client.rb:36"),
    ];
    assert_eq!(pool_of(&[(1, 9, 0), (2, 0, 5)], &rainbows, "rainbows"), 2);
    // Names that say nothing, a reader that is called as the pool, names that are not known.
    let gunicorn = [(1, "gunicorn"), (2, "gunicorn"), (3, "gunicorn")];
    assert_eq!(pool_of(&[(2, 1, 1)], &gunicorn, "gunicorn"), 1);
    let same = [(1, "worker-1"), (2, "worker-2"), (3, "worker-3")];
    assert_eq!(pool_of(&[(1, 9, 0), (2, 0, 9)], &same, "server"), 2);
    assert_eq!(pool_of(&[(2, 1, 1), (3, 1, 1)], &[], "server"), 2);
}

#[test]
fn who_answers_only_what_he_reads_is_no_part_of_a_pool_that_is_called_otherwise() {
    let of = |id, reads, answers, handed| Thread {
        id,
        ..thread(reads, answers, handed)
    };
    let names: BTreeMap<u32, &[u8]> = BTreeMap::from([
        (1, &b"puma ctl tp 001"[..]),
        (2, b"puma srv tp 001"),
        (3, b"puma srv tp 002"),
    ]);
    let control = of(1, 9, 9, 0);
    // One of the pool answers for others, another has only answered what it has read.
    let threads = [control, of(2, 3, 4, 1), of(3, 2, 2, 0)];
    assert_eq!(pool(&threads, &names, b"puma"), 2);
    // Nobody has answered for others, or who has is not known by name.
    assert_eq!(pool(&[control, of(2, 3, 3, 0)], &names, b"puma"), 3);
    assert_eq!(pool(&[control, of(9, 3, 4, 1)], &names, b"puma"), 2);
}

#[test]
fn a_process_of_one_thread_has_only_its_first() {
    assert_eq!(living(1, &[thread(1, 0, 0)], Some(1)), Some(1));
    assert_eq!(living(7, &[thread(1, 0, 0)], Some(1)), None);
    assert_eq!(living(7, &[thread(1, 0, 0)], Some(5)), Some(5));
    assert_eq!(living(7, &[], Some(1)), Some(1));
    assert_eq!(living(7, &[], None), None);
}
