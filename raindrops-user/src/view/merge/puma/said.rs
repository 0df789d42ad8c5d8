//! What a control server said, in the shape of the view.

use super::super::millis;
use crate::{
    ids::{Monotonic, Pid},
    snapshot::puma::{ControlAnswer, PumaClusterWorker, PumaPool, PumaStats},
    view::{
        Server,
        puma::{Puma, PumaSource, PumaWorker},
    },
};

/// `pid_of`: our pid of a process that it names.
pub(super) fn puma(
    server: &Server,
    answer: &ControlAnswer,
    now: Monotonic,
    pid_of: impl Fn(Pid) -> Option<Pid>,
) -> Puma {
    let puma = Puma {
        source: PumaSource::Control,
        age_ms: Some(millis(now.since(answer.asked))),
        started_at: None,
        phase: None,
        booted_workers: None,
        old_workers: None,
        workers: Vec::new(),
    };
    match &answer.stats {
        PumaStats::Single(it) => Puma {
            started_at: it.started_at,
            workers: vec![single(server, it.pool)],
            ..puma
        },
        PumaStats::Cluster(cluster) => {
            let of_cluster = |it| worker(it, it.pid.and_then(&pid_of));
            let mut workers: Vec<PumaWorker> = cluster.workers.iter().map(of_cluster).collect();
            workers.sort_by_key(|worker| (worker.index, worker.pid));
            Puma {
                started_at: cluster.started_at,
                phase: cluster.phase,
                booted_workers: cluster.booted_workers,
                old_workers: cluster.old_workers,
                workers,
                ..puma
            }
        }
    }
}

/// It does not say which process it is.
fn single(server: &Server, pool: PumaPool) -> PumaWorker {
    let only = match server.workers[..] {
        [only] => Some(only),
        _ => None,
    };
    PumaWorker {
        pid: only,
        ..with(pool)
    }
}

fn worker(worker: &PumaClusterWorker, pid: Option<Pid>) -> PumaWorker {
    let PumaClusterWorker {
        pid: _,
        index,
        phase,
        booted,
        started_at,
        last_checkin,
        pool,
    } = worker;
    PumaWorker {
        pid: pid.map(|pid| pid.0),
        index: *index,
        phase: *phase,
        booted: *booted,
        started_at: *started_at,
        last_checkin: last_checkin.clone(),
        ..with(*pool)
    }
}

fn with(pool: PumaPool) -> PumaWorker {
    let PumaPool {
        backlog,
        running,
        busy_threads,
        pool_capacity,
        max_threads,
        requests_count,
    } = pool;
    PumaWorker {
        backlog,
        running,
        busy_threads,
        pool_capacity,
        max_threads,
        requests_count,
        ..PumaWorker::default()
    }
}
