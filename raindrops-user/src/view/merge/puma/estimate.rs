//! What a puma without a control server seems to do, told from its threads and its turns.
//!
//! Only the threads of the pool have names that say so; which of them wait for work is not to be
//! seen from outside, so that is taken from the turns. How many threads it may still make is not to be
//! seen either.

use crate::{
    ids::Pid,
    view::{
        Server, Worker,
        puma::{Puma, PumaSource, PumaWorker},
    },
};

/// What puma calls a thread of its pool, followed by a number; the pool that answers its control
/// server is `puma ctl tp`.
const POOL_THREAD: &[u8] = b"puma srv tp ";

/// `names`: of a process's threads, where all of them are known. `None` where nothing is known.
pub(super) fn puma<'n, N: IntoIterator<Item = &'n [u8]>>(
    server: &Server,
    workers: &[Worker],
    names: impl Fn(Pid) -> Option<N>,
) -> Option<Puma> {
    let serving = workers
        .iter()
        .filter(|worker| server.workers.contains(&worker.pid));
    let mut workers: Vec<PumaWorker> = serving
        .map(|it| worker(it, names(Pid(it.pid)).map(pool_threads)))
        .collect();
    workers.sort_by_key(|worker| (worker.index, worker.pid));
    let is_known = |worker: &PumaWorker| {
        let known = [worker.running, worker.busy_threads, worker.backlog];
        known.iter().any(Option::is_some)
    };
    workers.iter().any(is_known).then_some(Puma {
        source: PumaSource::Estimate,
        age_ms: None,
        started_at: None,
        phase: None,
        booted_workers: None,
        old_workers: None,
        workers,
    })
}

fn worker(worker: &Worker, running: Option<u64>) -> PumaWorker {
    PumaWorker {
        pid: Some(worker.pid),
        index: worker.index,
        backlog: worker.turns.as_ref().and_then(|turns| turns.waiting),
        running,
        busy_threads: worker.threads_busy.map(u64::from),
        ..PumaWorker::default()
    }
}

fn pool_threads<'n>(names: impl IntoIterator<Item = &'n [u8]>) -> u64 {
    let names = names.into_iter();
    names.filter(|name| name.starts_with(POOL_THREAD)).count() as u64
}

#[cfg(test)]
mod tests;
