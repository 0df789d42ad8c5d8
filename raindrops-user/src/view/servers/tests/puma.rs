//! puma: cluster, single mode, fork_worker, and the socket that its master answers.

use super::{Row, lines, run};
use crate::{ids::Pid, view::servers::Role};

const PUMA: [Row<'_>; 3] = [
    (
        8720,
        8710,
        "puma",
        "puma 5.6.5 (tcp://127.0.0.1:18180,unix:///tmp/x/puma.sock) [fixture]",
        &[33789, 34818],
    ),
    (
        8798,
        8720,
        "puma",
        "puma: cluster worker 0: 8720 [fixture]",
        &[33789, 34818],
    ),
    (
        8801,
        8720,
        "puma",
        "puma: cluster worker 1: 8720 [fixture]",
        &[33789, 34818],
    ),
];

#[test]
fn puma_with_a_control_socket() {
    assert_eq!(
        lines(&run(&PUMA, &[])),
        [
            "puma:8720 [8720] 8798,8801",
            "33789 puma:8720 8798,8801",
            "34818 puma:8720 8798,8801"
        ]
    );
    let seen: &[(u64, &[u32])] = &[(33789, &[8798]), (34818, &[8720])];
    let servers = run(&PUMA, seen);
    assert_eq!(
        lines(&servers),
        [
            "puma:8720 [8720] 8798,8801",
            "33789 puma:8720 8798,8801",
            "34818 puma:8720 8720"
        ]
    );
    assert_eq!(servers.members[&Pid(8720)].role, Role::Master);
}

#[test]
fn puma_in_other_shapes() {
    let single = (
        8721,
        8710,
        "puma",
        "puma 5.6.5 (tcp://127.0.0.1:18181) [fixtures]",
        &[34820, 34821][..],
    );
    assert_eq!(
        lines(&run(&[single], &[])),
        [
            "puma:8721 [-] 8721",
            "34820 puma:8721 8721",
            "34821 puma:8721 8721"
        ]
    );
    assert_eq!(run(&[single], &[]).members[&Pid(8721)].role, Role::Single);

    // A job forked by the application.
    let job = (8722, 8721, "puma", single.3, &[34820][..]);
    assert_eq!(
        lines(&run(&[single, job], &[]))[..2],
        ["puma:8721 [-] 8721", "34820 puma:8721 8721"]
    );

    // fork_worker: worker 0 makes the others. A plugin of the master that inherits everything.
    let mut rows = PUMA.to_vec();
    rows[2].1 = 8798;
    rows.push((8802, 8798, "puma", rows[1].3, &[33789]));
    rows.push((
        8803,
        8720,
        "ruby",
        "solid-queue-supervisor(1.0): supervising 8804",
        &[33789, 34818],
    ));
    rows.push((
        8804,
        8803,
        "ruby",
        "solid-queue-worker(1.0): waiting",
        &[33789, 34818],
    ));
    let servers = run(&rows, &[]);
    assert_eq!(
        lines(&servers)[..2],
        ["puma:8720 [8720] 8798,8801", "33789 puma:8720 8798,8801"]
    );
    assert_eq!(
        servers.members[&Pid(8804)].server.as_deref(),
        Some("puma:8720")
    );
    assert_eq!(servers.members[&Pid(8804)].title, "ruby");
}
