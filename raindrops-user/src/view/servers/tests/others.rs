//! Process trees of servers that give themselves no title that is known.

use super::{Row, lines, run};

/// Processes, who was seen to accept where, and what is made of it.
type Case<'a> = (&'a [Row<'a>], &'a [(u64, &'a [u32])], &'a [&'a str]);

#[test]
fn servers_without_a_known_title() {
    let table: &[Case<'_>] = &[
        (
            &[(10, 1, "redis-server", "redis-server *:6379", &[5])],
            &[],
            &["other:10 [-] 10", "5 other:10 10"],
        ),
        (
            &[
                (10, 1, "node", "node", &[5]),
                (11, 10, "node", "", &[5]),
                (12, 10, "node", "", &[5]),
            ],
            &[],
            &["other:10 [10] 11,12", "5 other:10 11,12"],
        ),
        // The parent accepts: its child is a helper. Both do: both are workers.
        (
            &[(10, 1, "app", "", &[5]), (11, 10, "app", "", &[5])],
            &[(5, &[10])],
            &["other:10 [-] 10", "5 other:10 10"],
        ),
        (
            &[(10, 1, "app", "", &[5]), (11, 10, "app", "", &[5])],
            &[(5, &[10, 11])],
            &["other:10 [-] 10,11", "5 other:10 10,11"],
        ),
        // The parent accepts, but only where its children do not.
        (
            &[(10, 1, "fpm", "", &[5, 6]), (11, 10, "fpm", "", &[5, 6])],
            &[(5, &[11]), (6, &[10])],
            &["other:10 [10] 11", "5 other:10 11", "6 other:10 10"],
        ),
        // A worker with a helper beside a worker without.
        (
            &[
                (10, 1, "a", "", &[5]),
                (11, 10, "a", "", &[5]),
                (12, 10, "a", "", &[5]),
                (13, 12, "a", "", &[5]),
            ],
            &[],
            &["other:10 [10] 11,12", "5 other:10 11,12"],
        ),
        // systemd holds what it will start a service for, and what a service already serves.
        (
            &[(1, 0, "systemd", "/sbin/init", &[5])],
            &[],
            &["5 nothing "],
        ),
        (
            &[
                (1, 0, "systemd", "/sbin/init", &[5]),
                (10, 1, "app", "", &[5]),
                (11, 10, "app", "", &[5]),
            ],
            &[],
            &["other:10 [10] 11", "5 other:10 11"],
        ),
        (
            &[
                (1, 0, "systemd", "/sbin/init", &[5]),
                (8721, 1, "puma", "puma 5.6.5 (tcp://x) [y]", &[5]),
            ],
            &[],
            &["puma:8721 [-] 8721", "5 puma:8721 8721"],
        ),
        // Pid 1 of a container.
        (
            &[(1, 0, "node", "node", &[5]), (11, 1, "node", "node", &[5])],
            &[],
            &["other:1 [1] 11", "5 other:1 11"],
        ),
        (
            &[
                (1, 0, "unicorn", "unicorn master", &[5]),
                (11, 1, "unicorn", "unicorn worker[0]", &[5]),
            ],
            &[],
            &["unicorn:1 [1] 11", "5 unicorn:1 11"],
        ),
    ];
    for (rows, seen, expected) in table {
        assert_eq!(lines(&run(rows, seen)), *expected, "{rows:?} {seen:?}");
    }
}
