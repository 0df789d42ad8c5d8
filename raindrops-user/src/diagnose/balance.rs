//! Verdicts on how accepts are spread over the workers of one listener.
//!
//! The last worker to fall asleep is the first that epoll wakes, so at light load one of them gets
//! nearly everything. That costs nothing until it has more than it can do while others have nothing,
//! and until then it is no verdict: the view has the ratio.

use super::{
    Severity, Subject,
    finding::{Code, Finding, evidence},
    scene::{NOTICEABLE, PATIENCE, Scene, Waiting},
    words,
};
use crate::{
    render::units::{percent, plural},
    view::{Listener, Skew, Worker},
};

/// Half way between even and all by one: three quarters of the accepts by one of two workers.
const UNEVEN: f64 = 0.5;

/// Fewer accepts are spread unevenly by chance.
const ENOUGH_ACCEPTS: u64 = 100;

pub(super) fn findings(scene: &Scene<'_>) -> Vec<Finding> {
    let listeners = scene.view.listeners.iter();
    listeners.filter_map(|it| skewed(scene, it)).collect()
}

fn skewed(scene: &Scene<'_>, listener: &Listener) -> Option<Finding> {
    let skew = listener.skew.as_ref().filter(|skew| {
        skew.workers > 1 && skew.ratio >= UNEVEN && skew.accepts >= ENOUGH_ACCEPTS
    })?;
    let harm = harm(scene, listener, skew)?;
    let share = share(skew);
    let favoured = scene.worker(skew.pid);
    let favoured = favoured.map_or_else(
        || format!("process {}", skew.pid),
        |worker| words::worker(scene.view, worker),
    );
    let others = plural(u64::from(skew.workers - 1), "other worker");
    let rest = if skew.ratio < 1.0 { "the rest" } else { "none" };
    let idle = match harm.idle {
        1 => "1 worker has".to_owned(),
        idle => format!("{idle} workers have"),
    };
    Some(Finding {
        code: Code::Skew,
        amount: harm.waiting.count,
        severity: Severity::Warning,
        subject: Subject {
            pid: Some(skew.pid),
            ..words::subject(listener)
        },
        since: Some(harm.waiting.since),
        text: format!(
            "{}: {favoured} took {} of {} in {} s, {others} {rest}; {}, while {idle} nothing to do",
            words::place(scene.view, listener),
            percent(share),
            plural(skew.accepts, "accept"),
            skew.over_ms.div_ceil(1000),
            words::waits_now(harm.waiting, harm.thing, ""),
        ),
        evidence: evidence([
            ("share_percent", Some((share * 100.0).round() as u64)),
            ("accepts", Some(skew.accepts)),
            ("over_ms", Some(skew.over_ms)),
            ("workers", Some(u64::from(skew.workers))),
            ("idle_workers", Some(harm.idle)),
            ("waiting", Some(harm.waiting.count)),
        ]),
        next: "give each worker a socket of its own (SO_REUSEPORT; nginx: listen … reuseport), or \
               let each accept less at a time"
            .to_owned(),
    })
}

/// The largest share, of which the ratio was made.
fn share(skew: &Skew) -> f64 {
    let even = 1.0 / f64::from(skew.workers);
    even + skew.ratio * (1.0 - even)
}

/// What waits because one worker has it all.
struct Harm {
    waiting: Waiting,
    thing: &'static str,
    /// Workers that could do it.
    idle: u64,
}

fn harm(scene: &Scene<'_>, listener: &Listener, skew: &Skew) -> Option<Harm> {
    let workers = scene.serving(listener)?;
    let has_nothing = |worker: &&&Worker| {
        let turns = worker.turns.as_ref();
        let calling = turns.and_then(|turns| turns.calling);
        worker.pid != skew.pid && calling == Some(0) && scene.has_room(worker)
    };
    let idle = workers.iter().filter(has_nothing).count() as u64;
    let favoured = workers.iter().find(|worker| worker.pid == skew.pid)?;
    let inside = scene
        .inside_of(favoured)
        .filter(|inside| inside.lasted >= PATIENCE && is_noticed_inside(scene, listener));
    let queue = scene.queue(listener).filter(|queue| {
        let delay = scene.queue_delay(listener, *queue);
        queue.lasted >= PATIENCE && delay.is_some_and(|delay| delay >= NOTICEABLE)
    });
    let (waiting, thing) = match (inside, queue) {
        (Some(inside), _) => (inside, "request"),
        (None, Some(queue)) => (queue, "connection"),
        (None, None) => return None,
    };
    (idle > 0).then_some(Harm {
        waiting,
        thing,
        idle,
    })
}

fn is_noticed_inside(scene: &Scene<'_>, listener: &Listener) -> bool {
    let inside = scene.inside(listener);
    let delay = inside.and_then(|inside| Scene::inside_delay(listener, inside));
    delay.is_some_and(|delay| delay >= NOTICEABLE)
}

#[cfg(test)]
mod tests {
    use crate::{
        diagnose::fixture::{calling, check, inside, nginx, puma, queue, stalled, verdicts},
        view::{Class, Skew, View},
    };

    fn skew(view: &mut View, ratio: f64, accepts: u64) {
        view.listeners[0].skew = Some(Skew {
            ratio,
            accepts,
            workers: 2,
            over_ms: 60_000,
            pid: 101,
        });
    }

    #[test]
    fn uneven_accepts() {
        check(&[
            (
                "light load goes to the worker that slept last",
                nginx,
                |view| skew(view, 1.0, 2000),
                &[],
            ),
            ("less uneven", nginx, |view| skew(view, 0.49, 2000), &[]),
            (
                "a handful of accepts",
                nginx,
                |view| skew(view, 1.0, 99),
                &[],
            ),
            (
                "only one worker",
                nginx,
                |view| {
                    skew(view, 1.0, 2000);
                    view.listeners[0].skew.as_mut().unwrap().workers = 1;
                },
                &[],
            ),
            (
                "requests wait inside the one that has them all",
                puma,
                |view| {
                    skew(view, 0.9, 2000);
                    calling(view, 0, 4, 0.8);
                    inside(view, 0, 60, 3.0);
                },
                &["warning skew", "warning pool-shortage"],
            ),
            (
                "the same while the other is busy too",
                puma,
                |view| {
                    skew(view, 0.9, 2000);
                    calling(view, 0, 4, 0.8);
                    calling(view, 1, 4, 0.8);
                    inside(view, 0, 60, 3.0);
                },
                &["warning workers-saturated", "warning pool-shortage"],
            ),
            (
                "connections wait in the queue while the other has nothing to do",
                puma,
                |view| {
                    skew(view, 0.9, 2000);
                    queue(view, 60, 3.0);
                },
                &["warning skew"],
            ),
            (
                "of the other it is not known yet how it works, but that it is in no turn",
                puma,
                |view| {
                    skew(view, 0.9, 2000);
                    calling(view, 0, 4, 0.8);
                    inside(view, 0, 60, 3.0);
                    view.workers[1].class = Some(Class::Learning);
                },
                &["warning skew", "warning pool-shortage"],
            ),
            (
                "the other does nothing because it is stopped",
                puma,
                |view| {
                    skew(view, 0.9, 2000);
                    calling(view, 0, 4, 0.8);
                    inside(view, 0, 60, 3.0);
                    stalled(view, 1, "T", 3.0);
                },
                &["warning pool-shortage"],
            ),
            (
                "they wait for a moment each",
                puma,
                |view| {
                    skew(view, 0.9, 2000);
                    queue(view, 2, 3.0);
                },
                &[],
            ),
        ]);
    }

    #[test]
    fn who_took_how_much_of_how_many() {
        let verdict = verdicts(puma, |view| {
            skew(view, 0.94, 5000);
            queue(view, 60, 3.0);
        })
        .swap_remove(0);
        assert_eq!(
            verdict.text,
            "127.0.0.1:8080: worker 101 of puma:100 took 97% of 5000 accepts in 60 s, 1 other \
             worker the rest; 60 connections wait now, some have in every look for 3.0s, while 1 \
             worker has nothing to do"
        );
        assert_eq!(verdict.evidence["share_percent"], 97);
    }
}
