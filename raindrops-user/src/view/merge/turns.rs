//! Turns of listeners and workers.

use std::collections::BTreeMap;

use raindrops_ebpf::histogram::Histogram;

use super::{Inputs, Row, micros, millis};
use crate::{
    ids::{Monotonic, Pid, StartTicks},
    snapshot::{ListenerKey, ListenerTurnCounts, TurnsSnapshot, WorkerTurnCounts},
    turns::{
        Found, Gauges, Oldest, Thread, busy_threads, class, gauges, handlers, living, part, pool,
        works_itself,
    },
    view::{
        Class, Turns, WorkerTurns, WorkerWait, WriteEnd,
        durations::{durations, sum},
    },
};

/// How each process works, and what it does on all its listeners.
pub(super) struct Processes {
    all: BTreeMap<(Pid, StartTicks), Process>,
    /// What each does on each listener.
    on: BTreeMap<ListenerKey, BTreeMap<(Pid, StartTicks), Found>>,
}

struct Process {
    class: Class,
    /// Its threads may be at connections of other listeners than those whose turns are told.
    is_seen_in_part: bool,
    handlers: u32,
    whole: Found,
    /// On each of its listeners.
    counts: Vec<WorkerTurnCounts>,
}

impl Processes {
    pub(super) fn of(inputs: &Inputs<'_>) -> Self {
        let mut processes = Self {
            all: BTreeMap::new(),
            on: BTreeMap::new(),
        };
        for (key, counts) in turns_of(inputs).into_iter().flat_map(|it| &it.workers) {
            let id = (key.pid, key.started);
            let process = processes
                .all
                .entry(id)
                .or_insert_with(|| Process::new(inputs, key.pid, key.started));
            process.whole = process.whole.plus(counts.found);
            process.counts.push(*counts);
            let here = processes.on.entry(key.listener).or_default();
            here.insert(id, counts.found);
        }
        processes
    }
}

impl Process {
    fn new(inputs: &Inputs<'_>, pid: Pid, started: StartTicks) -> Self {
        let none: &[Thread] = &[];
        let turns = turns_of(inputs);
        let threads = turns.and_then(|turns| turns.threads.get(&pid));
        let threads = threads.map_or(none, Vec::as_slice);
        let process = inputs.proc.and_then(|proc| proc.processes.get(&pid));
        let is_seen_in_part = turns.is_some_and(|it| {
            let each = [&it.seen_in_part, &it.hidden_in_part];
            each.iter().any(|some| some.contains(&(pid, started)))
        });
        let class = class(
            threads,
            living(pid.0, threads, process.and_then(|it| it.threads)),
        );
        let handlers = match process {
            Some(process) if class != Class::Loop => {
                let living = process.each_thread.iter().filter(|it| it.complete);
                let names = living.flat_map(|it| &it.by_id);
                let names = names.map(|(id, thread)| (id.0, thread.comm.as_slice()));
                pool(threads, &names.collect(), &process.comm)
            }
            _ => handlers(threads),
        };
        Self {
            class,
            is_seen_in_part,
            handlers,
            whole: Found::NONE,
            counts: Vec::new(),
        }
    }

    /// How its gauges are told. Of a pool that is seen in part it is not known how many threads are
    /// free.
    const fn told_as(&self) -> Class {
        match self.class {
            Class::Handoff if self.is_seen_in_part => Class::Learning,
            class => class,
        }
    }
}

fn turns_of<'a>(inputs: &Inputs<'a>) -> Option<&'a TurnsSnapshot> {
    inputs.bpf?.turns.as_ref()
}

/// Of one listener; `None` where its turns are not followed.
pub(super) fn of_listener(
    inputs: &Inputs<'_>,
    processes: &Processes,
    row: &Row<'_>,
) -> Option<Turns> {
    of_listeners(inputs, processes, &[row])
}

/// Of several listeners together.
pub(super) fn of_listeners(
    inputs: &Inputs<'_>,
    processes: &Processes,
    rows: &[&Row<'_>],
) -> Option<Turns> {
    let all = turns_of(inputs)?;
    let counts: Vec<&ListenerTurnCounts> = rows
        .iter()
        .map(|row| all.listeners.get(&row.key))
        .collect::<Option<_>>()?;
    let write_end = write_end(all);
    let mut found = Found::NONE;
    let mut gauge = Gauges::NONE;
    for counts in &counts {
        found = found.plus(counts.of_no_worker);
        gauge = gauge.plus(gauges(Class::Direct, 0, &counts.of_no_worker, write_end));
    }
    let mut here: BTreeMap<(Pid, StartTicks), Found> = BTreeMap::new();
    for (process, part) in rows
        .iter()
        .filter_map(|row| processes.on.get(&row.key))
        .flatten()
    {
        let sum = here.entry(*process).or_insert(Found::NONE);
        *sum = sum.plus(*part);
    }
    for (process, mine) in &here {
        let worker = &processes.all[process];
        found = found.plus(*mine);
        gauge = gauge.plus(part(
            worker.told_as(),
            worker.handlers,
            mine,
            &worker.whole,
            write_end,
        ));
    }
    let total = |figure: fn(&ListenerTurnCounts) -> u64| counts.iter().map(|it| figure(it)).sum();
    let histogram = |which: fn(&ListenerTurnCounts) -> &Histogram| {
        durations(&sum(counts.iter().map(|counts| which(counts))))
    };
    let Gauges {
        waiting,
        reading,
        calling,
        writing,
        blocked,
        idle,
    } = gauge;
    // What a look has not reached may be in any state.
    let known = |gauge: u64| all.is_whole.then_some(gauge);
    Some(Turns {
        waiting: waiting.and_then(known),
        reading: reading.and_then(known),
        calling: calling.and_then(known),
        writing: known(writing),
        blocked: known(blocked),
        idle: idle.and_then(known),
        total: total(ListenerTurnCounts::total),
        unanswered: total(|counts| counts.unanswered),
        bytes_in: total(|counts| counts.bytes_in),
        bytes_out: total(|counts| counts.bytes_out),
        read_wait: all
            .waits_known
            .then(|| histogram(|counts| &counts.read_wait)),
        answer: histogram(|counts| &counts.answer),
        write: histogram(|counts| &counts.write),
        waiting_since: None,
        oldest_us: age_us(found.oldest, inputs.now).and_then(known),
        complete: rows.iter().all(|row| is_complete(all, processes, row)),
        write_end,
        age_ms: Some(millis(inputs.now.since(all.looked))),
        source: "bpf".to_owned(),
    })
}

const fn write_end(turns: &TurnsSnapshot) -> WriteEnd {
    if turns.ends_seen {
        WriteEnd::Seen
    } else {
        WriteEnd::NextRead
    }
}

/// Whether none of a listener's connections is missing from its gauges.
fn is_complete(all: &TurnsSnapshot, processes: &Processes, row: &Row<'_>) -> bool {
    let Some(turns) = all.listeners.get(&row.key) else {
        return false;
    };
    let of_workers = processes.on.get(&row.key).into_iter().flatten();
    let mut each = of_workers
        .map(|(_, found)| found)
        .chain([&turns.of_no_worker]);
    all.is_whole && each.all(|found| found.unseen == 0) && are_all_followed(row, all)
}

/// Whether no connection is older than the daemon, and still unread.
fn are_all_followed(row: &Row<'_>, all: &TurnsSnapshot) -> bool {
    let both = row.counts.zip(all.listeners.get(&row.key));
    both.is_some_and(|(connections, turns)| {
        connections.complete && connections.seeded <= turns.seeds_settled
    }) && !all.with_older.contains(&row.key)
}

fn age_us(oldest: Option<Oldest>, now: Monotonic) -> Option<u64> {
    Some(micros_since(oldest?.began, now))
}

fn micros_since(then: Monotonic, now: Monotonic) -> u64 {
    u64::try_from(now.since(then).as_micros()).unwrap_or(u64::MAX)
}

/// What is known of one worker's turns.
pub(super) struct OfWorker {
    pub class: Class,
    pub threads_busy: Option<u32>,
    pub threads_seen: u32,
    pub clients: Option<u64>,
    pub turns: WorkerTurns,
}

/// Of one worker on all its listeners, `rows`; `None` where turns of one of them are not followed.
pub(super) fn of_worker(
    inputs: &Inputs<'_>,
    processes: &Processes,
    rows: &[&Row<'_>],
    (pid, started): (Pid, StartTicks),
) -> Option<OfWorker> {
    let all = turns_of(inputs)?;
    let are_hidden = rows.iter().all(|row| !all.listeners.contains_key(&row.key));
    if are_hidden || all.seen_in_part.contains(&(pid, started)) {
        return None;
    }
    let idle;
    let process = match processes.all.get(&(pid, started)) {
        Some(process) => process,
        None => {
            idle = Process::new(inputs, pid, started);
            &idle
        }
    };
    let counts = &process.counts;
    let found = &process.whole;
    let gauge = gauges(process.told_as(), process.handlers, found, write_end(all));
    let total = |figure: fn(&WorkerTurnCounts) -> u64| counts.iter().map(figure).sum();
    let Gauges {
        waiting,
        reading,
        calling,
        writing,
        blocked,
        idle,
    } = gauge;
    let known = |gauge: u64| all.is_whole.then_some(gauge);
    Some(OfWorker {
        class: process.class,
        threads_busy: busy_threads(process.class, process.handlers, &gauge)
            .filter(|_| all.is_whole && all.ends_seen && !process.is_seen_in_part),
        threads_seen: process.handlers,
        // Of connections older than the daemon it is not known whose they are until they are read.
        clients: known(found.connections)
            .filter(|_| rows.iter().all(|row| are_all_followed(row, all))),
        turns: WorkerTurns {
            waiting: waiting.and_then(known),
            reading: reading.and_then(known),
            calling: calling.and_then(known),
            writing: known(writing),
            blocked: known(blocked),
            idle: idle.and_then(known),
            total: total(|counts| counts.turns),
            answer: WorkerWait {
                count: total(|counts| counts.answers),
                sum_us: micros(total(|counts| counts.answer_sum_ns)),
                max_us: micros(
                    counts
                        .iter()
                        .map(|counts| counts.answer_max_ns)
                        .max()
                        .unwrap_or(0),
                ),
            },
            waiting_since: None,
            last_answer_age_us: counts
                .iter()
                .filter_map(|counts| counts.last_answer)
                .max()
                .map(|last| micros_since(last, inputs.now)),
            oldest_us: age_us(found.oldest, inputs.now).and_then(known),
            oldest_calling_us: age_us(found.oldest_calling, inputs.now).and_then(known),
            oldest_calling_thread: found.oldest_calling.map(|oldest| oldest.thread).filter(
                |reader| {
                    let threads = all.threads.get(&pid).map_or(&[][..], Vec::as_slice);
                    works_itself(process.class, threads, *reader)
                },
            ),
            oldest_thread: found.oldest.map(|oldest| oldest.thread),
            complete: rows.iter().all(|row| is_complete(all, processes, row)),
        },
    })
}
