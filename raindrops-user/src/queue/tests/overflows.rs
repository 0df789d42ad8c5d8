//! Whose overflows they were, as a table.

use super::{A, B, C, Step, TCP, fold, key, listener, snapshot, wall};
use crate::queue::{Ledger, QueueHistory};

/// Overflows, whether they are exact, and `defer_accept`.
type Outcome = (Option<u64>, bool, Option<bool>);

fn outcome(history: &QueueHistory) -> Outcome {
    (
        history.overflows,
        history.overflows_exact,
        history.defer_accept,
    )
}

const NONE: Outcome = (Some(0), true, None);
const DEFERS: Outcome = (Some(0), true, Some(true));

const fn exactly(overflows: u64) -> Outcome {
    (Some(overflows), true, None)
}

const fn about(overflows: u64) -> Outcome {
    (Some(overflows), false, None)
}

/// What is tested, the samples, and what listeners have in the end.
type Case<'a> = (&'a str, &'a [Step<'a>], &'a [(u64, Outcome)]);

#[test]
fn attributes_overflows() {
    let table: &[Case<'_>] = &[
        (
            "the first sample is the baseline",
            &[(&[(A, 9, 153)], Some(1000))],
            &[(A, NONE)],
        ),
        (
            "a full queue",
            &[(&[(A, 0, 5)], Some(10)), (&[(A, 9, 158)], Some(163))],
            &[(A, exactly(153))],
        ),
        (
            "a queue that was full when the interval began",
            &[(&[(A, 9, 5)], Some(10)), (&[(A, 0, 8)], Some(13))],
            &[(A, exactly(3))],
        ),
        (
            "no more than the namespace counted",
            &[(&[(A, 9, 0)], Some(0)), (&[(A, 9, 50)], Some(10))],
            &[(A, exactly(10))],
        ),
        (
            "no more than the listener dropped",
            &[(&[(A, 9, 0)], Some(0)), (&[(A, 9, 4)], Some(10))],
            &[(A, exactly(4))],
        ),
        (
            "the final ACK of a handshake, which sk_drops counts twice",
            &[
                (&[(A, 0, 0)], Some(0)),
                (&[(A, 3, 10)], Some(5)),
                (&[(A, 9, 20)], Some(10)),
                (&[(A, 0, 26)], Some(13)),
            ],
            &[(A, exactly(13))],
        ),
        (
            "TCP_DEFER_ACCEPT: every healthy connection is a drop",
            &[(&[(A, 0, 0)], Some(7)), (&[(A, 1, 423)], Some(7))],
            &[(A, DEFERS)],
        ),
        (
            "a full listener beside a busy one with TCP_DEFER_ACCEPT",
            &[
                (&[(A, 9, 0), (B, 0, 0)], Some(0)),
                (&[(A, 9, 10), (B, 1, 40)], Some(10)),
            ],
            &[(A, exactly(10)), (B, DEFERS)],
        ),
        (
            "the same, and the counter is ahead of the dump",
            &[
                (&[(A, 9, 0), (B, 0, 0)], Some(0)),
                (&[(A, 9, 10), (B, 1, 40)], Some(12)),
                (&[(A, 9, 22), (B, 1, 80)], Some(22)),
            ],
            &[(A, exactly(22)), (B, DEFERS)],
        ),
        (
            "a full listener with TCP_DEFER_ACCEPT",
            &[(&[(A, 9, 0)], Some(0)), (&[(A, 3, 50)], Some(10))],
            &[(A, exactly(10))],
        ),
        (
            "a listener with TCP_DEFER_ACCEPT that was full between two samples",
            &[
                (&[(A, 0, 0)], Some(0)),
                (&[(A, 0, 40)], Some(0)),
                (&[(A, 0, 90)], Some(10)),
                (&[(A, 0, 95)], Some(10)),
            ],
            &[(A, (Some(10), true, Some(true)))],
        ),
        (
            "two such listeners: an estimate",
            &[
                (&[(A, 0, 0), (B, 0, 0)], Some(0)),
                (&[(A, 0, 40), (B, 0, 40)], Some(0)),
                (&[(A, 0, 60), (B, 0, 100)], Some(8)),
                (&[(A, 0, 60), (B, 0, 100)], Some(8)),
            ],
            &[
                (A, (Some(2), false, Some(true))),
                (B, (Some(6), false, Some(true))),
            ],
        ),
        (
            "a listener that overflowed first just after the dump, beside a known healthy one",
            &[
                (&[(A, 0, 0), (B, 0, 0)], Some(0)),
                (&[(A, 0, 0), (B, 0, 40)], Some(0)),
                (&[(A, 0, 0), (B, 0, 80)], Some(2)),
                (&[(A, 9, 7), (B, 0, 120)], Some(7)),
            ],
            &[(A, exactly(7)), (B, DEFERS)],
        ),
        (
            "two full listeners: shared by their drops, an estimate",
            &[
                (&[(A, 9, 0), (B, 9, 0)], Some(0)),
                (&[(A, 9, 30), (B, 9, 10)], Some(20)),
            ],
            &[(A, about(15)), (B, about(5))],
        ),
        (
            "an estimate stays one",
            &[
                (&[(A, 9, 0), (B, 9, 0)], Some(0)),
                (&[(A, 9, 3), (B, 9, 1)], Some(4)),
                (&[(A, 9, 8), (B, 0, 1)], Some(9)),
            ],
            &[(A, about(8)), (B, about(1))],
        ),
        (
            "a full listener that dropped nothing takes nothing and spoils nothing",
            &[
                (&[(A, 9, 0), (B, 9, 0)], Some(0)),
                (&[(A, 9, 3), (B, 9, 0)], Some(3)),
            ],
            &[(A, exactly(3)), (B, NONE)],
        ),
        (
            "full between two samples: the only one whose drops rose",
            &[
                (&[(A, 0, 0), (B, 0, 7)], Some(0)),
                (&[(A, 2, 5), (B, 0, 7)], Some(5)),
            ],
            &[(A, exactly(5)), (B, NONE)],
        ),
        (
            "full between two samples, beside a known healthy one",
            &[
                (&[(A, 0, 0), (B, 0, 0)], Some(0)),
                (&[(A, 0, 0), (B, 0, 40)], Some(0)),
                (&[(A, 0, 5), (B, 0, 80)], Some(5)),
            ],
            &[(A, about(5)), (B, DEFERS)],
        ),
        (
            "full between two samples, and one of two was just not full",
            &[
                (&[(A, 0, 0), (B, 0, 0)], Some(0)),
                (&[(A, 8, 5), (B, 0, 5)], Some(5)),
            ],
            &[(A, about(5)), (B, NONE)],
        ),
        (
            "counted just after the dump: belongs to the next interval",
            &[
                (&[(A, 9, 0)], Some(0)),
                (&[(A, 9, 4)], Some(6)),
                (&[(A, 9, 9)], Some(9)),
            ],
            &[(A, exactly(9))],
        ),
        (
            "counted just after the dump, with the queue never seen full",
            &[
                (&[(A, 0, 0)], Some(0)),
                (&[(A, 0, 0)], Some(5)),
                (&[(A, 0, 5)], Some(5)),
            ],
            &[(A, exactly(5))],
        ),
        (
            "left over for longer than an interval: nobody's",
            &[
                (&[(A, 9, 0)], Some(0)),
                (&[(A, 9, 0)], Some(5)),
                (&[(A, 9, 0)], Some(5)),
                (&[(A, 9, 5)], Some(5)),
            ],
            &[(A, NONE)],
        ),
        (
            "left over: not blamed on a known healthy listener",
            &[
                (&[(A, 0, 0)], Some(0)),
                (&[(A, 0, 40)], Some(0)),
                (&[(A, 0, 40)], Some(5)),
                (&[(A, 0, 80)], Some(5)),
            ],
            &[(A, DEFERS)],
        ),
        (
            "left over by a listener that went: not blamed on its neighbour",
            &[
                (&[(A, 9, 0), (B, 0, 0)], Some(0)),
                (&[(B, 0, 0)], Some(5)),
                (&[(B, 0, 40)], Some(5)),
            ],
            &[(B, NONE)],
        ),
        (
            "a full listener that went makes its neighbour's figures an estimate",
            &[(&[(A, 9, 0), (B, 9, 0)], Some(0)), (&[(B, 9, 3)], Some(8))],
            &[(B, about(3))],
        ),
        (
            "drops wrap",
            &[(&[(A, 9, u32::MAX - 1)], Some(0)), (&[(A, 9, 3)], Some(5))],
            &[(A, exactly(5))],
        ),
        (
            "a new listener began with no drops",
            &[(&[(A, 0, 0)], Some(0)), (&[(A, 0, 0), (C, 9, 6)], Some(6))],
            &[(A, NONE), (C, exactly(6))],
        ),
        (
            "without the counter nothing is known",
            &[(&[(A, 9, 0)], None), (&[(A, 9, 6)], None)],
            &[(A, (None, true, None))],
        ),
        (
            "with the counter from now on",
            &[
                (&[(A, 9, 0)], None),
                (&[(A, 9, 6)], Some(6)),
                (&[(A, 9, 8)], Some(8)),
            ],
            &[(A, exactly(2))],
        ),
        (
            "while the counter is missing",
            &[
                (&[(A, 9, 0)], Some(0)),
                (&[(A, 9, 6)], Some(6)),
                (&[(A, 0, 9)], None),
            ],
            &[(A, (None, true, None))],
        ),
        (
            "nothing is lost while the counter is missing",
            &[
                (&[(A, 0, 0)], Some(0)),
                (&[(A, 9, 6)], None),
                (&[(A, 0, 9)], Some(9)),
            ],
            &[(A, exactly(9))],
        ),
        (
            "a counter that went back starts anew",
            &[
                (&[(A, 9, 0)], Some(100)),
                (&[(A, 9, 6)], Some(3)),
                (&[(A, 9, 8)], Some(5)),
            ],
            &[(A, exactly(2))],
        ),
    ];
    for (what, steps, expected) in table {
        let mut ledger = Ledger::default();
        fold(&mut ledger, steps);
        for (inode, expected) in *expected {
            let history = ledger.get(&key(*inode)).unwrap();
            assert_eq!(outcome(history), *expected, "{what}: listener {inode}");
        }
    }
}

/// However the counter and the dumps are cut into intervals, all overflows are found, once.
#[test]
fn neither_loses_nor_doubles_overflows_whenever_the_counter_is_read() {
    for ahead in 0..7_u64 {
        let mut ledger = Ledger::default();
        for step in 0..50_u64 {
            let overflows = step * 7;
            let socket = listener(A, 9, Some(overflows as u32));
            let counter = overflows + if step % 3 == 0 { 0 } else { ahead };
            let at = step * 100;
            ledger.fold(TCP, &snapshot(at, [socket]), wall(at), Some(counter));
        }
        let history = ledger.get(&key(A)).unwrap();
        assert_eq!(outcome(history), exactly(49 * 7), "{ahead} ahead");
    }
}

/// One listener overflows in bursts, its neighbour is healthy and has TCP_DEFER_ACCEPT.
#[test]
fn blames_the_listener_that_overflowed() {
    let mut state = 1_u64;
    let mut random = |below: u64| {
        // Knuth's MMIX generator: the same figures on every run.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for run in 0..300 {
        let mut ledger = Ledger::default();
        let (mut overflows, mut healthy) = (0, 0);
        let mut bursting = false;
        for step in 0..60 {
            let ending = step >= 55;
            let mut counter = overflows;
            if step > 1 && !ending {
                let was_bursting = bursting;
                bursting = random(4) == 0;
                if bursting || was_bursting {
                    overflows += random(9);
                }
                counter = overflows;
                // Between the dump and the counter.
                if random(3) == 0 {
                    bursting = true;
                    counter += random(3);
                }
            } else {
                bursting = false;
            }
            let queued = if bursting { 9 } else { random(7) as u32 };
            healthy += 1 + random(5);
            // SYNs in one run, final ACKs in the next.
            let drops = overflows * (1 + run % 2);
            let sample = [
                listener(A, queued, Some(drops as u32)),
                listener(B, random(3) as u32, Some(healthy as u32)),
            ];
            let at = step * 100;
            ledger.fold(TCP, &snapshot(at, sample), wall(at), Some(counter));
            overflows = counter;
        }
        let found = ledger.get(&key(A)).unwrap().overflows;
        assert_eq!(found, Some(overflows), "run {run}");
        let neighbour = ledger.get(&key(B)).unwrap().overflows;
        assert_eq!(neighbour, Some(0), "run {run}");
    }
}
