use std::path::PathBuf;

use raindrops_slab::{Kind as FieldKind, read::Value};

use super::*;
use crate::{
    snapshot::slabs::{Memory, Place, Refusal, Slab, SlabField, SlabKind, SlabSnapshot, Slots},
    view::slabs::Number,
};

fn field(name: &str, kind: FieldKind) -> SlabField {
    SlabField {
        name: name.to_owned(),
        kind,
        unit: None,
    }
}

/// Two slabs in which worker 20 of [`seen`] counts, and the second also worker 21.
fn counting() -> SlabSnapshot {
    let fields = || {
        vec![
            field("requests", FieldKind::Counter),
            field("calling", FieldKind::Gauge),
            field("longest", FieldKind::Max),
            field("answer", FieldKind::Histogram),
        ]
    };
    let values = |requests, calling, longest| {
        let buckets = vec![0, requests, 0, 0, 0];
        vec![
            Some(Value::Counter(requests)),
            Some(Value::Gauge(calling)),
            Some(Value::Max(longest)),
            Some(Value::Histogram {
                sum: requests,
                buckets,
            }),
        ]
    };
    let slab = |inode, place, totals, workers: Vec<(u32, Vec<Option<Value>>)>| Slab {
        memory: Memory {
            major: 0,
            minor: 27,
            inode,
        },
        kind: SlabKind::Declared,
        name: Some("shop".to_owned()),
        place,
        server: Some("unicorn:10".to_owned()),
        pids: [20, 21].map(Pid).into(),
        fields: fields(),
        totals,
        workers: workers
            .into_iter()
            .map(|(pid, values)| ((Pid(pid), StartTicks(500)), values))
            .collect(),
        slots: Some(Slots {
            count: 8,
            claimed: 2,
            ownerless: 0,
            unknown: 0,
        }),
        read: Monotonic(AT.0 - SECOND),
    };
    let mut half_known = values(7, -1, 80);
    half_known[0] = None;
    SlabSnapshot {
        taken: AT,
        slabs: vec![
            slab(
                1,
                Place::File(PathBuf::from("/run/\x1b.slab")),
                values(10, 2, 90),
                vec![(20, values(5, 1, 90))],
            ),
            slab(
                2,
                Place::Process(Pid(20)),
                values(9, 0, 80),
                vec![(20, values(3, -3, 70)), (21, half_known)],
            ),
        ],
        refused: (0..20)
            .map(|number| Refusal {
                place: Place::File(format!("/run/{number:02}").into()),
                reason: "truncated".to_owned(),
            })
            .collect(),
        beyond: true,
        unreadable: BTreeSet::new(),
        quarantined: BTreeSet::new(),
    }
}

fn view() -> View {
    let mut seen = seen();
    seen.slabs = Some(counting());
    merged(&seen)
}

#[test]
fn a_worker_says_the_same_as_all_its_slabs_together() {
    let view = view();
    let said = |pid| {
        let worker = view.workers.iter().find(|it| it.pid == pid).unwrap();
        worker.slab.clone().map(Vec::from_iter)
    };
    let named = |name: &str, number| (name.to_owned(), number);
    assert_eq!(
        said(20),
        Some(vec![
            named("calling", Number::Level(-2)),
            named("longest", Number::Count(90)),
            named("requests", Number::Count(8)),
        ])
    );
    // What is not known is absent.
    assert_eq!(
        said(21),
        Some(vec![
            named("calling", Number::Level(-1)),
            named("longest", Number::Count(80)),
        ])
    );
}

#[test]
fn totals_are_numbers_and_distributions() {
    let view = view();
    let slab = &view.slabs[0];
    assert_eq!(slab.r#where, "/run/\\x1b.slab");
    assert_eq!((slab.id.as_str(), slab.age_ms), ("0:27:1", 1000));
    assert_eq!(slab.counters["requests"], Number::Count(10));
    let answer = &slab.histograms["answer"];
    assert_eq!((answer.count, answer.sum, answer.p50), (10, 10, Some(1)));
    assert_eq!(answer.buckets, [(Some(1), 10)]);
    assert_eq!(view.slabs[1].r#where, "pid 20");
}

#[test]
fn of_many_refusals_some_are_told() {
    let gaps = view().gaps;
    let of = |what| gaps.iter().filter(move |gap| gap.what == what);
    assert_eq!(of("slab-refused").count(), 16);
    let counts: Vec<u64> = of("slabs-refused").map(|gap| gap.count).collect();
    assert_eq!(counts, [4]);
    assert_eq!(of("slabs-not-read").count(), 1);
}

#[test]
fn without_a_look_there_is_nothing() {
    let view = merged(&seen());
    assert!(view.slabs.is_empty() && view.gaps.is_empty());
    assert!(view.workers.iter().all(|worker| worker.slab.is_none()));
}
