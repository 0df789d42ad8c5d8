use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{BYTES, History, Recorder, STEP, Step, merged};
use crate::{
    ids::Monotonic,
    view::{Listener, View, durations::Counts, history},
};

/// A recorder and the time that it is at.
struct Recording {
    recorder: Recorder,
    history: Arc<History>,
    view: View,
    began: SystemTime,
}

impl Recording {
    /// Of the first listener of the example, reaching so far back.
    fn reaching(reach: Duration) -> Self {
        let mut view: View =
            serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap();
        view.listeners.truncate(1);
        // At a full minute, so that it is known where coarser steps end.
        view.taken_at = SystemTime::UNIX_EPOCH + Duration::from_secs(60_000_000);
        let history = Arc::new(History::reaching(reach));
        Self {
            recorder: Recorder::new(Arc::clone(&history)),
            history,
            began: view.taken_at,
            view,
        }
    }

    fn first(&mut self) -> &mut Listener {
        &mut self.view.listeners[0]
    }

    fn step(&mut self, queued: u32, accepts: u64) {
        self.step_with(queued, Some(accepts), &[]);
    }

    /// A second later. `waits`: of all accepts until then, by bucket.
    fn step_with(&mut self, queued: u32, accepts: Option<u64>, waits: &[(usize, u64)]) {
        self.pass(STEP);
        self.end_step(queued, accepts, waits);
    }

    fn pass(&mut self, time: Duration) {
        self.view.taken_at += time;
        self.view.monotonic_ns += time.as_nanos() as u64;
    }

    fn end_step(&mut self, queued: u32, accepts: Option<u64>, waits: &[(usize, u64)]) {
        if let Some(listener) = self.view.listeners.first_mut() {
            listener.queue.queued = Some(queued);
            listener.connections.as_mut().unwrap().accepts = accepts;
        }
        let mut wait = raindrops_ebpf::histogram::Histogram::EMPTY;
        for (bucket, count) in waits {
            wait.buckets[*bucket] = *count;
        }
        self.recorder.end_step(
            &self.view,
            |_| Some(queued + 1),
            |_| Some(Counts::of(&wait)),
        );
    }

    fn merged(&self, step: Duration) -> history::History {
        merged(&self.history, self.began, step, None, self.view.taken_at)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_step_is_what_was_and_what_was_done_since_the_one_before() {
    let mut recording = Recording::reaching(MINUTE);
    recording.step_with(3, Some(100), &[(20, 100)]);
    recording.step_with(5, Some(107), &[(20, 100), (40, 7)]);
    recording.step_with(0, Some(107), &[(20, 100), (40, 7)]);
    recording.step_with(0, None, &[]);
    let merged = recording.merged(STEP);
    let row = &merged.listeners[0];
    assert_eq!(merged.times_ms[1] - merged.times_ms[0], 1_000);
    assert_eq!(row.queued, [Some(3), Some(5), Some(0), Some(0)]);
    assert_eq!(row.peak, [Some(4), Some(6), Some(1), Some(1)]);
    // What was before the first step is not known, nor what is done while nobody counts.
    assert_eq!(row.accepts, [None, Some(7), Some(0), None]);
    let p99 = Counts::of(&{
        let mut wait = raindrops_ebpf::histogram::Histogram::EMPTY;
        wait.buckets[40] = 7;
        wait
    });
    let p99 = p99.quantile_us(99).map(|it| it as u32);
    assert_eq!(row.wait_p99_us, [None, p99, None, None]);
}

#[test]
fn a_listener_that_came_later_began_with_nothing() {
    let mut recording = Recording::reaching(MINUTE);
    let first = recording.view.listeners.pop().unwrap();
    recording.step(0, 0);
    recording.view.listeners.push(first);
    recording.step(2, 9);
    // Another socket at the same place is another listener.
    recording.first().id = "1:2".to_owned();
    recording.step(0, 1);
    let merged = recording.merged(STEP);
    let accepts: BTreeMap<&str, &[Option<u32>]> = merged
        .listeners
        .iter()
        .map(|it| (&*it.id, &*it.accepts))
        .collect();
    let id = &*recording.history.steps()[1].rows[0].0.id;
    assert_eq!(accepts["1:2"], [None, None, Some(1)]);
    assert_eq!(accepts[id], [None, Some(9), None]);
}

#[test]
fn a_listener_that_a_view_lacked_has_not_begun_anew() {
    for (seconds, accepts) in [
        (1, [Some(3), None, None, Some(1)]),
        (59, [Some(3), None, None, Some(1)]),
        // Forgotten: it is taken for a new one.
        (60, [Some(3), None, Some(1_000), Some(1)]),
    ] {
        let mut recording = Recording::reaching(MINUTE * 2);
        recording.step(0, 7);
        recording.step(0, 10);
        let listener = recording.view.listeners.pop().unwrap();
        (0..seconds).for_each(|_| recording.step(0, 0));
        recording.view.listeners.push(listener);
        recording.step(0, 1_000);
        recording.step(0, 1_001);
        let merged = recording.merged(STEP);
        let told = &merged.listeners[0].accepts;
        let [.., lacked, back, last] = told[..] else {
            panic!("{told:?}")
        };
        assert_eq!([told[1], lacked, back, last], accepts, "{seconds}");
    }
}

#[test]
fn a_step_tells_how_long_it_was() {
    let mut recording = Recording::reaching(MINUTE);
    for ms in [1_000, 1_003, 5_600, 950] {
        recording.pass(Duration::from_millis(ms));
        recording.end_step(0, Some(0), &[]);
    }
    let lasted = |step| recording.merged(step).lasted_ms;
    assert_eq!(lasted(STEP), [None, Some(1_003), Some(5_600), Some(950)]);
    assert_eq!(lasted(Duration::from_secs(5)), [None, Some(6_550)]);
}

#[test]
fn coarser_steps_are_merged_at_multiples_of_their_length() {
    let mut recording = Recording::reaching(MINUTE);
    for second in 1..=25_u32 {
        recording.step(second % 10, u64::from(second) * 4);
    }
    let merged = recording.merged(Duration::from_secs(10));
    let row = &merged.listeners[0];
    let seconds = |ms: &u64| ms / 1_000 % 60;
    let times: Vec<u64> = merged.times_ms.iter().map(seconds).collect();
    assert_eq!(times, [10, 20, 25]);
    assert_eq!(merged.step_ms, 10_000);
    assert_eq!(row.queued, [Some(0), Some(0), Some(5)]);
    assert_eq!(row.peak, [Some(10), Some(10), Some(6)]);
    // The first of all is not known, so neither is the sum.
    assert_eq!(row.accepts, [None, Some(40), Some(20)]);
}

#[test]
fn only_those_that_are_wanted_and_late_enough() {
    let mut recording = Recording::reaching(MINUTE);
    (0..9).for_each(|second| recording.step(second, 0));
    let from = recording.view.taken_at - STEP * 3;
    let history = &recording.history;
    let of = |wanted: &BTreeSet<String>| {
        merged(history, from, STEP, Some(wanted), recording.view.taken_at)
    };
    let id = recording.view.listeners[0].id.clone();
    let some = of(&BTreeSet::from([id]));
    assert_eq!(some.listeners[0].queued, [Some(6), Some(7), Some(8)]);
    let none = of(&BTreeSet::from(["1:2".to_owned()]));
    assert_eq!((none.times_ms.len(), none.listeners.len()), (3, 0));
}

/// When steps end, in ms, where looks are taken at these times.
fn ends(looks: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut recording = Recording::reaching(MINUTE);
    let start = recording.view.monotonic_ns;
    let mut ends = Vec::new();
    for ms in looks {
        let now = Monotonic::from_nanos(start + ms * 1_000_000);
        if recording.recorder.is_due(now) {
            recording.view.monotonic_ns = now.as_nanos();
            recording.end_step(0, Some(0), &[]);
            ends.push(ms);
        }
    }
    ends
}

#[test]
fn steps_keep_to_seconds() {
    let read = ends((0..=5_000).step_by(100));
    assert_eq!(read, [0, 1_000, 2_000, 3_000, 4_000, 5_000]);
    // Looks that come late by turns do not move what follows.
    let late = ends((0..=50).map(|look| look * 100 + look % 3 * 20));
    assert_eq!(late, [0, 1_020, 2_040, 3_000, 4_020, 5_040]);
    let rarely = ends([0, 1_003, 2_006, 3_009, 4_012].into_iter());
    assert_eq!(rarely, [0, 1_003, 2_006, 3_009, 4_012]);
    let held_up = ends([0, 1_000, 6_600, 6_700, 7_500, 7_600].into_iter());
    assert_eq!(held_up, [0, 1_000, 6_600, 7_600]);
    let nothing = Recording::reaching(Duration::ZERO);
    let now = Monotonic::from_nanos(nothing.view.monotonic_ns);
    assert!(!nothing.recorder.is_due(now));
}

#[test]
fn the_past_ends_where_its_reach_does() {
    let mut recording = Recording::reaching(STEP * 5);
    (0..20).for_each(|_| recording.step(1, 1));
    assert_eq!(recording.merged(STEP).times_ms.len(), 6);
}

#[test]
fn many_listeners_have_a_shorter_past_and_no_more_memory() {
    let mut recording = Recording::reaching(super::USUAL_REACH);
    let one = recording.view.listeners[0].clone();
    recording.view.listeners = (0..1_000)
        .map(|at| Listener {
            id: format!("1:{at}"),
            inode: at,
            ..one.clone()
        })
        .collect();
    (0..300).for_each(|_| recording.step(1, 1));
    let bytes: usize = {
        let steps = recording.history.steps();
        steps.iter().map(|step: &Arc<Step>| step.bytes()).sum()
    };
    assert!((BYTES * 9 / 10..=BYTES).contains(&bytes), "{bytes}");
    assert!(recording.merged(STEP).times_ms.len() > 90);
}
