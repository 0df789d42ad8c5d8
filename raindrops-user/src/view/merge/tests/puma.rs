//! Puma's own figures in the whole view.

use super::{AT, SECOND, Seen, merged, process, seen};
use crate::{
    address::{Address, UnixName},
    fact::Fact,
    ids::{Monotonic, Pid},
    snapshot::puma::{ControlAnswer, ControlSeen, PumaPool, PumaSingle, PumaSnapshot, PumaStats},
    view::{
        SourceState,
        puma::{Puma, PumaSource, PumaWorker},
    },
};

/// The listeners of [`seen`], of a puma without workers.
fn of_puma() -> Seen {
    let mut seen = seen();
    let title = "puma 5.6.5 (unix:///run/a)";
    seen.proc.processes = [(Pid(10), process(title, 1, &[1, 2, 3, 4]))].into();
    seen
}

fn answered(peer: u32) -> PumaSnapshot {
    let pool = PumaPool {
        backlog: Some(1),
        running: Some(5),
        ..PumaPool::default()
    };
    let answer = ControlAnswer {
        asked: Monotonic(AT.0 - SECOND),
        peer: Some(Pid(peer)),
        stats: PumaStats::Single(PumaSingle {
            started_at: None,
            pool,
        }),
    };
    let control = ControlSeen {
        address: Address::Unix(UnixName::Path(b"/c".to_vec())),
        answer: Some(answer),
        failure: None,
    };
    PumaSnapshot {
        controls: vec![control],
    }
}

/// Check that a host without puma hears nothing of it, and one whose figures are not known has none.
#[test]
fn without_a_control_server_there_is_no_source() {
    let view = merged(&seen());
    assert_eq!(view.sources, []);
    assert_eq!(view.servers[0].puma, Fact::Nothing);
    let view = merged(&of_puma());
    assert_eq!(view.sources, []);
    assert_eq!(view.servers[0].puma, Fact::Unknown);
}

#[test]
fn what_the_control_server_said_is_its_servers() {
    let mut seen = of_puma();
    seen.puma = Some(answered(10));
    let view = merged(&seen);
    let worker = PumaWorker {
        pid: Some(10),
        backlog: Some(1),
        running: Some(5),
        ..PumaWorker::default()
    };
    let expected = Puma {
        source: PumaSource::Control,
        age_ms: Some(1000),
        started_at: None,
        phase: None,
        booted_workers: None,
        old_workers: None,
        workers: vec![worker],
    };
    assert_eq!(view.servers[0].puma, Fact::Is(expected));
    let sources = view.sources.iter().map(|it| (&*it.name, it.state));
    assert_eq!(sources.collect::<Vec<_>>(), [("puma", SourceState::On)]);

    seen.puma = Some(answered(4711));
    let view = merged(&seen);
    assert_eq!(view.servers[0].puma, Fact::Unknown);
    assert_eq!(view.sources[0].state, SourceState::Degraded);
}
