//! Workers: who accepts, how much, and what else is known of the process.

use std::collections::BTreeMap;

use raindrops_ebpf::miss::Miss;

use super::{
    Inputs, Row, micros,
    places::{oldest_place, stalled},
    rounded, slabs,
    turns::{self, OfWorker, Processes},
};
use crate::{
    address::Address,
    escape::escaped,
    fact::Fact,
    ids::{Pid, Tid},
    snapshot::{ListenerCounts, ListenerKey, ProcSnapshot, Process, WorkerCounts, WorkerKey},
    view::{Worker, WorkerListener, WorkerWait, servers::Servers},
};

/// Bytes of a command line that are shown.
const COMMAND_LINE: usize = 1024;

pub(super) fn workers(
    inputs: &Inputs<'_>,
    processes: &Processes,
    rows: &[Row<'_>],
    ids: &BTreeMap<ListenerKey, String>,
) -> Vec<Worker> {
    let (Some(proc), Some(servers)) = (inputs.proc, inputs.servers) else {
        return Vec::new();
    };
    let mut held: BTreeMap<Pid, Vec<&Row<'_>>> = BTreeMap::new();
    for row in rows {
        for pid in row.workers.iter().flatten() {
            held.entry(*pid).or_default().push(row);
        }
    }
    held.into_iter()
        .filter_map(|(pid, listeners)| {
            let process = proc.processes.get(&pid)?;
            let turns = turns::of_worker(inputs, processes, &listeners, (pid, process.started));
            let oldest = turns.as_ref().and_then(|it| it.turns.oldest_thread);
            let oldest = oldest.map(|thread| (pid, Tid(thread)));
            let mut worker = worker(inputs, proc, servers, pid, process, &listeners, ids);
            worker.oldest_place = oldest.and_then(|thread| oldest_place(proc, thread));
            worker.stalled = process
                .each_thread
                .as_ref()
                .and_then(|threads| stalled(proc, pid, threads, oldest));
            worker.slab = slabs::of_worker(inputs, pid, process.started);
            if let Some(turns) = turns {
                add_turns(&mut worker, turns);
            }
            Some(worker)
        })
        .collect()
}

fn worker(
    inputs: &Inputs<'_>,
    proc: &ProcSnapshot,
    servers: &Servers,
    pid: Pid,
    process: &Process,
    rows: &[&Row<'_>],
    ids: &BTreeMap<ListenerKey, String>,
) -> Worker {
    let Process {
        parent: _,
        started,
        ns_pid,
        comm,
        title,
        uid,
        threads,
        state,
        unit,
        container,
        listeners: _,
        each_thread: _,
        fds,
        fd_limit,
    } = process;
    let on = |listener: ListenerKey| {
        let key = WorkerKey {
            pid,
            started: *started,
            listener,
        };
        let bpf = inputs.bpf?;
        // Where rows for workers ran out, one that has none may have accepted.
        let all_have_rows = !bpf.misses.contains_key(&Miss::WorkersFull);
        bpf.workers
            .get(&key)
            .copied()
            .or(all_have_rows.then_some(NO_ACCEPTS))
    };
    let counts: Vec<Option<WorkerCounts>> = rows.iter().map(|row| on(row.key)).collect();
    let known: Option<Vec<WorkerCounts>> = counts.iter().copied().collect();
    let member = servers.members.get(&pid);
    let listeners: Vec<WorkerListener> = rows
        .iter()
        .zip(&counts)
        .map(|(row, counts)| worker_listener(row, *counts, ids[&row.key].clone()))
        .collect();
    Worker {
        pid: pid.0,
        ns_pid: ns_pid.map(|pid| pid.0),
        started_at: proc.started_at(process),
        comm: escaped(comm),
        title: member.map_or_else(|| escaped(comm), |member| member.title.clone()),
        command_line: title
            .as_ref()
            .map(|line| escaped(&line[..line.len().min(COMMAND_LINE)])),
        uid: *uid,
        server: member.map_or(Fact::Unknown, |member| Fact::known(member.server.clone())),
        index: member.and_then(|member| member.index),
        threads: *threads,
        state: state.to_string(),
        unit: Fact::known(unit.clone()),
        container: Fact::known(container.clone()),
        accepts: known
            .as_ref()
            .map(|all| all.iter().map(|counts| counts.accepts).sum()),
        active: listeners.iter().map(|listener| listener.active).sum(),
        last_accept_age_us: known
            .as_ref()
            .and_then(|all| all.iter().filter_map(|counts| counts.last_accept).max())
            .map(|last| u64::try_from(inputs.now.since(last).as_micros()).unwrap_or(u64::MAX)),
        listeners,
        wait: known.map(|all| WorkerWait {
            count: all.iter().map(|counts| counts.wait_count).sum(),
            sum_us: micros(all.iter().map(|counts| counts.wait_sum_ns).sum()),
            max_us: micros(
                all.iter()
                    .map(|counts| counts.wait_max_ns)
                    .max()
                    .unwrap_or(0),
            ),
        }),
        class: None,
        threads_busy: None,
        threads_seen: None,
        clients: None,
        turns: None,
        fds: *fds,
        fd_limit: *fd_limit,
        stalled: None,
        slab: None,
        oldest_place: None,
    }
}

fn add_turns(worker: &mut Worker, of_worker: OfWorker) {
    let OfWorker {
        class,
        threads_busy,
        threads_seen,
        clients,
        turns,
    } = of_worker;
    worker.class = Some(class);
    worker.threads_busy = threads_busy;
    worker.threads_seen = Some(threads_seen);
    worker.clients = clients;
    worker.turns = Some(turns);
}

/// A worker that the programs have not seen accepting has accepted nothing since they began.
const NO_ACCEPTS: WorkerCounts = WorkerCounts {
    accepts: 0,
    active: Some(0),
    last_accept: None,
    wait_count: 0,
    wait_sum_ns: 0,
    wait_max_ns: 0,
};

fn worker_listener(row: &Row<'_>, counts: Option<WorkerCounts>, id: String) -> WorkerListener {
    let total = row.counts.map(ListenerCounts::accepts).unwrap_or(0);
    // While some connections' worker is not known, no worker's number of them is.
    let all_attributed = row.counts.is_some_and(|counts| counts.unattributed == 0);
    let is_tcp = matches!(row.socket.address, Address::Tcp { .. });
    WorkerListener {
        id,
        accepts: counts.map(|counts| counts.accepts),
        active: counts
            .and_then(|counts| counts.active)
            .filter(|_| is_tcp && all_attributed),
        share: counts
            .filter(|_| total != 0)
            .map(|counts| rounded(counts.accepts as f64 / total as f64)),
    }
}
