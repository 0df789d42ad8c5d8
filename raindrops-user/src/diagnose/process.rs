//! Verdicts on processes as such: descriptors that run out, workers that keep ending.

use std::time::Duration;

use super::{
    Severity, Subject,
    finding::{Code, Finding, evidence},
    scene::{Scene, Team},
    words,
};
use crate::{
    render::units::plural,
    view::{Exits, Server, Worker},
};

/// Percent of its descriptors that a process may use before somebody should know. The rest goes
/// fast when clients come: each takes one, and often another for what is behind the server.
const FEW_LEFT: u128 = 90;
const HARDLY_ANY_LEFT: u128 = 97;

/// Ends that may happen to any server: one by an error, one by the hand that looks for it.
const FEWEST_ENDS: u32 = 3;

/// A worker that lived for less has not been of use. Slow applications take 20 s to load.
const SHORT_LIFE: Duration = Duration::from_secs(30);

/// Who ends so soon has failed. Servers that keep workers only while they are needed, or replace
/// them after some work, give them longer than this.
const FAILED: Duration = Duration::from_secs(3);

pub(super) fn fd_limit(scene: &Scene<'_>) -> Vec<Finding> {
    let teams = scene.teams();
    teams.iter().filter_map(|it| few_left(scene, it)).collect()
}

struct Used<'v> {
    worker: &'v Worker,
    open: u64,
    limit: u64,
}

impl Used<'_> {
    const fn is_over(&self, percent: u128) -> bool {
        self.open as u128 * 100 >= self.limit as u128 * percent
    }

    /// Whole percent, rounded down.
    fn percent(&self) -> Option<u64> {
        let percent = (u128::from(self.open) * 100).checked_div(u128::from(self.limit))?;
        u64::try_from(percent).ok()
    }
}

/// At most one for each server: about the worker that has the fewest left.
fn few_left(scene: &Scene<'_>, team: &Team<'_>) -> Option<Finding> {
    let near: Vec<Used<'_>> = team
        .workers
        .iter()
        .filter_map(|worker| {
            Some(Used {
                worker,
                open: worker.fds?,
                limit: worker.fd_limit?,
            })
        })
        .filter(|used| used.is_over(FEW_LEFT))
        .collect();
    let worst = near
        .iter()
        .min_by_key(|used| used.limit.saturating_sub(used.open))?;
    let more = match near.len() - 1 {
        0 => String::new(),
        more => format!("; {} near as well", plural(more as u64, "other worker")),
    };
    Some(Finding {
        code: Code::FdLimit,
        amount: worst.open,
        severity: if near.iter().any(|used| used.is_over(HARDLY_ANY_LEFT)) {
            Severity::Critical
        } else {
            Severity::Warning
        },
        subject: Subject {
            server: team.server.cloned(),
            pid: Some(worst.worker.pid),
            ..Subject::default()
        },
        since: None,
        text: format!(
            "{} has {} open of at most {}{}{more}",
            words::worker(scene.view, worst.worker),
            plural(worst.open, "descriptor"),
            worst.limit,
            worst
                .percent()
                .map_or(String::new(), |percent| format!(" ({percent}%)")),
        ),
        evidence: evidence([
            ("fds", Some(worst.open)),
            ("fd_limit", Some(worst.limit)),
            ("workers_near", Some(near.len() as u64)),
        ]),
        next: format!(
            "raise its limit (LimitNOFILE= of the unit, ulimit -n, nginx: worker_rlimit_nofile) \
             and restart it; for now: prlimit --pid {} --nofile=SOFT:HARD; see whether \
             descriptors leak: ls -l /proc/{}/fd",
            worst.worker.pid, worst.worker.pid
        ),
    })
}

pub(super) fn crash_loops(scene: &Scene<'_>) -> Vec<Finding> {
    let servers = scene.view.servers.iter();
    servers.filter_map(|it| crash_loop(scene, it)).collect()
}

fn crash_loop(scene: &Scene<'_>, server: &Server) -> Option<Finding> {
    let exits = server.exits.as_ref()?;
    let life = Duration::from_millis(exits.median_life_ms);
    if exits.count < FEWEST_ENDS || life >= SHORT_LIFE {
        return None;
    }
    // A restart in phases ends each worker once and leaves a young one in its place, of which one
    // may not have come yet.
    let young = young_workers(scene, server, exits);
    if u64::from(exits.count) <= young + 1 {
        return None;
    }
    Some(Finding {
        code: Code::WorkerCrashLoop,
        amount: u64::from(exits.count),
        severity: if life < FAILED || is_without_workers(scene, server) || waits(scene, server) {
            Severity::Warning
        } else {
            Severity::Info
        },
        subject: Subject {
            server: Some(server.id.clone()),
            pid: server.master,
            ..Subject::default()
        },
        since: None,
        text: format!(
            "{}: {} ended in the last {} s, half of them within {} of their start; {} now",
            scene.view.server_label(&server.id),
            plural(u64::from(exits.count), "worker"),
            exits.over_ms.div_ceil(1000),
            words::time(life.max(Duration::from_millis(1))),
            match server.workers.len() {
                0 => "there is none".to_owned(),
                1 => "there is 1".to_owned(),
                count => format!("there are {count}"),
            },
        ),
        evidence: evidence([
            ("exits", Some(u64::from(exits.count))),
            ("over_ms", Some(exits.over_ms)),
            ("median_life_ms", Some(exits.median_life_ms)),
            ("workers", Some(server.workers.len() as u64)),
            ("young_workers", Some(young)),
        ]),
        next: "see in the server's log and the kernel's (dmesg: killed for lack of memory) why \
               its workers end"
            .to_owned(),
    })
}

/// Nobody has come so far as to accept anything. How many workers it should have is not known; one
/// of a kind that we do not know may have none on purpose, until somebody comes.
fn is_without_workers(scene: &Scene<'_>, server: &Server) -> bool {
    let accepts = |pid: &u32| scene.worker(*pid).and_then(|worker| worker.accepts);
    if server.workers.is_empty() {
        return server.kind != "other";
    }
    server.workers.iter().all(|pid| accepts(pid) == Some(0))
}

fn waits(scene: &Scene<'_>, server: &Server) -> bool {
    let listeners = scene.view.listeners.iter();
    let mut listeners = listeners.filter(|it| it.server.value() == Some(&server.id));
    listeners.any(|it| it.recent.overflows > Some(0) || scene.has_to_wait(it))
}

/// Workers that began within the time in which the others ended, or of which that is not known.
fn young_workers(scene: &Scene<'_>, server: &Server, exits: &Exits) -> u64 {
    let over = Duration::from_millis(exits.over_ms);
    let is_old = |pid: &&u32| {
        let began = scene.worker(**pid).and_then(|worker| worker.started_at);
        let age = began.and_then(|began| scene.view.taken_at.duration_since(began).ok());
        age.is_some_and(|age| age > over)
    };
    let old = server.workers.iter().filter(is_old).count();
    (server.workers.len() - old) as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        diagnose::fixture::{check, nginx, queue, unicorn, verdicts},
        view::{Exits, View},
    };

    fn fds(view: &mut View, open: u64, limit: u64) {
        view.workers[1].fds = Some(open);
        view.workers[1].fd_limit = Some(limit);
    }

    #[test]
    fn descriptors_run_out() {
        check(&[
            ("89.9 %", nginx, |view| fds(view, 899, 1000), &[]),
            (
                "90 %",
                nginx,
                |view| fds(view, 900, 1000),
                &["warning fd-limit"],
            ),
            (
                "96.9 %",
                nginx,
                |view| fds(view, 969, 1000),
                &["warning fd-limit"],
            ),
            (
                "97 %",
                nginx,
                |view| fds(view, 970, 1000),
                &["critical fd-limit"],
            ),
            ("no limit", nginx, |view| fds(view, 1 << 40, u64::MAX), &[]),
            (
                "a limit below what is open",
                nginx,
                |view| fds(view, 10, 0),
                &["critical fd-limit"],
            ),
            (
                "the limit may not be read",
                nginx,
                |view| {
                    fds(view, 1000, 1000);
                    view.workers[1].fd_limit = None;
                },
                &[],
            ),
        ]);
    }

    #[test]
    fn the_worker_with_the_fewest_left_is_named_once_for_its_server() {
        let near = verdicts(nginx, |view| {
            fds(view, 940, 1024);
            (view.workers[0].fds, view.workers[0].fd_limit) = (Some(930), Some(1024));
        });
        assert_eq!(near.len(), 1);
        assert_eq!(near[0].subject.pid, Some(102));
        assert_eq!(
            near[0].text,
            "worker 102 of nginx:100 has 940 descriptors open of at most 1024 (91%); 1 other \
             worker near as well"
        );
    }

    fn exits(view: &mut View, count: u32, median_life_s: f64) {
        view.servers[0].exits = Some(Exits {
            count,
            over_ms: 60_000,
            median_life_ms: (median_life_s * 1e3) as u64,
        });
    }

    fn all_young(view: &mut View) {
        let began = view.taken_at - Duration::from_secs(5);
        for worker in &mut view.workers {
            worker.started_at = Some(began);
        }
    }

    #[test]
    fn workers_keep_ending() {
        check(&[
            (
                "one of two workers dies again and again",
                unicorn,
                |view| {
                    exits(view, 3, 0.4);
                    view.workers[0].started_at = Some(view.taken_at);
                },
                &["warning worker-crash-loop"],
            ),
            ("it died twice", unicorn, |view| exits(view, 2, 0.4), &[]),
            (
                "all die while they load the application, and one is just away",
                unicorn,
                |view| {
                    exits(view, 4, 20.0);
                    view.servers[0].workers.truncate(1);
                    view.listeners[0].workers = Some(vec![101]);
                    view.workers.truncate(1);
                    view.workers[0].accepts = Some(0);
                    all_young(view);
                },
                &["warning worker-crash-loop"],
            ),
            (
                "none is left",
                unicorn,
                |view| {
                    exits(view, 3, 1.0);
                    view.servers[0].workers.clear();
                    view.listeners[0].workers = Some(Vec::new());
                    view.workers.clear();
                },
                &["warning worker-crash-loop"],
            ),
            (
                "none is left after some time: nobody accepts",
                unicorn,
                |view| {
                    exits(view, 3, 20.0);
                    view.servers[0].workers.clear();
                    view.listeners[0].workers = Some(Vec::new());
                    view.workers.clear();
                },
                &["warning worker-crash-loop"],
            ),
            (
                "a server of another kind, which starts them when somebody comes",
                unicorn,
                |view| {
                    exits(view, 3, 20.0);
                    view.servers[0].kind = "other".to_owned();
                    view.servers[0].workers.clear();
                    view.listeners[0].workers = Some(Vec::new());
                    view.workers.clear();
                },
                &["info worker-crash-loop"],
            ),
            (
                "workers that are ended when they have nothing to do, or after some requests",
                unicorn,
                |view| exits(view, 5, 3.0),
                &["info worker-crash-loop"],
            ),
            (
                "and connections wait",
                unicorn,
                |view| {
                    exits(view, 5, 10.0);
                    queue(view, 60, 1.2);
                },
                &["warning worker-crash-loop"],
            ),
            (
                "a restart in phases just after the start: each was replaced once",
                || super::super::fixture::serving("puma", crate::view::Class::Handoff, 4, 4),
                |view| {
                    exits(view, 4, 5.0);
                    all_young(view);
                },
                &[],
            ),
            (
                "a restart after a long life",
                unicorn,
                |view| exits(view, 8, 86_400.0),
                &[],
            ),
            (
                "workers that are ended every minute by their own limit of memory",
                unicorn,
                |view| exits(view, 3, 31.0),
                &[],
            ),
            (
                "a crash loop while the queue drops",
                unicorn,
                |view| {
                    exits(view, 9, 1.0);
                    queue(view, 64, 0.5);
                    view.listeners[0].recent.overflows = Some(12);
                },
                &["critical worker-crash-loop", "critical queue-dropping"],
            ),
        ]);
    }

    #[test]
    fn how_many_and_how_long_they_lived() {
        let verdict = verdicts(unicorn, |view| exits(view, 9, 1.2)).swap_remove(0);
        assert_eq!(
            verdict.text,
            "unicorn:100: 9 workers ended in the last 60 s, half of them within 1.2s of their \
             start; there are 2 now"
        );
        assert_eq!(
            (
                verdict.evidence["exits"],
                verdict.evidence["median_life_ms"]
            ),
            (9, 1200)
        );
    }
}
