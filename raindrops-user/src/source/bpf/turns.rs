//! Turns, as the programs count them: has them look over all connections, teaches them how each
//! worker works, and reads what they have found.
//!
//! Apart from the other counters because gauges are not kept up by events, but counted anew by a
//! program that this code runs, within a bound on its time.

mod hooks;
mod read;

use std::{collections::BTreeMap, mem::offset_of, path::Path, time::Duration};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
    programs::RawTracePoint,
};
use raindrops_ebpf::{
    counters::{ListenerCounters, WorkerRow},
    names::{map, program},
    turns::{self as abi, LISTED, ListedConnection, ListenerTurns, LookOver, WorkerTurns},
};

use super::{
    Bpf, BpfError, Wire,
    load::{load_program, refused, shared, take},
    read::{add_histogram, correct_max},
    reconcile::{StepError, run},
    shared::SharedArray,
    sizes::{Host, WORKER_ROWS},
};
use crate::{
    causes::with_causes,
    ids::{Monotonic, Pid},
    plan::{Off, TurnsPlan},
    processor_time,
    snapshot::ListenerKey,
    turns::{Found, Oldest, Thread, class},
    view::Class,
};

/// Connections that one look goes over at most.
pub(super) const MOST: u64 = 1 << 16;
/// A little less than the time between two views while somebody reads: looks come with views.
const INTERVAL: Duration = Duration::from_millis(90);
/// Looks take at most one part in this of one processor. One takes a millisecond or two however few
/// connections there are, because the kernel goes over the whole table.
const SHARE: u32 = 200;
/// What tells the end of an answer comes a moment after its last write, and a client that takes
/// nothing is told by time: after the last change there is one more look.
const SETTLES: Duration = Duration::from_secs(1);
/// Between looks while nothing is read or written, while somebody reads the views and while nobody
/// does. Data may come that nobody reads, and nothing tells of the end of a unix connection.
const QUIET: Duration = Duration::from_secs(1);
const QUIET_UNREAD: Duration = Duration::from_secs(5);
/// How often the threads are looked for that have ended.
const PRUNE_INTERVAL: Duration = Duration::from_secs(1);
/// Looks that may fail in a row.
const FAILURES: u32 = 3;

/// What is kept of turns.
pub(super) struct Turns {
    listeners: SharedArray<ListenerTurns>,
    workers: SharedArray<WorkerTurns>,
    listener_gauges: SharedArray<abi::Gauges>,
    worker_gauges: SharedArray<abi::Gauges>,
    pub(super) order: SharedArray<LookOver>,
    pub(super) listed: SharedArray<ListedConnection>,
    /// Which listener each row was of at the last snapshot.
    pub(super) keys: BTreeMap<u32, ListenerKey>,
    threads: HashMap<MapData, u32, Wire<abi::Thread>>,
    /// The system calls that tell the end of an answer are hooked.
    pub(super) ends_seen: bool,
    /// The kernel tells when data comes.
    sees_data: bool,
    /// Unix connections are followed, too.
    sees_unix: bool,
    look: u64,
    looked: Option<Look>,
    /// Sum of what has changed when it was last seen to, and when that was.
    changes: u64,
    changed: Monotonic,
    pruned: Monotonic,
    processes: BTreeMap<u32, Vec<Thread>>,
    cached: Vec<Option<Box<ListenerTurns>>>,
    failures: u32,
}

/// One look.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Monotonic,
    cost: Duration,
    /// All connections were looked at.
    is_whole: bool,
}

impl Turns {
    pub(super) fn load(
        ebpf: &mut Ebpf,
        host: &Host,
        plan: &TurnsPlan,
        sees_data: bool,
    ) -> Result<Self, BpfError> {
        let counters = host.listener_counters();
        Ok(Self {
            listeners: shared(ebpf, map::LISTENER_TURNS, counters)?,
            workers: shared(ebpf, map::WORKER_TURNS, WORKER_ROWS)?,
            listener_gauges: shared(ebpf, map::LISTENER_GAUGES, host.listener_rows())?,
            worker_gauges: shared(ebpf, map::WORKER_GAUGES, WORKER_ROWS)?,
            order: shared(ebpf, map::LOOK_OVER, 1)?,
            listed: shared(ebpf, map::LISTED_CONNECTIONS, LISTED)?,
            keys: BTreeMap::new(),
            threads: take(ebpf, map::THREADS)?,
            ends_seen: false,
            sees_data,
            sees_unix: plan.sees_unix(),
            look: 0,
            looked: None,
            changes: 0,
            changed: Monotonic::now(),
            pruned: Monotonic::now(),
            processes: BTreeMap::new(),
            cached: std::iter::repeat_with(|| None)
                .take(host.listener_rows() as usize)
                .collect(),
            failures: 0,
        })
    }

    /// Loads a program that looks, which is attached nowhere.
    pub(super) fn load_look(ebpf: &mut Ebpf, name: &'static str) -> Result<(), BpfError> {
        let program: &mut RawTracePoint = load_program(ebpf, name)?;
        program.load().map_err(refused(name))
    }

    /// A row has gone to another listener.
    pub(super) fn forget_listener(&mut self, slot: usize, shards: usize) {
        for shard in 0..shards {
            self.listeners
                .write(slot * shards + shard, &ListenerTurns::EMPTY);
        }
        self.listener_gauges.write(slot, &abi::Gauges::of(0));
        self.cached[slot] = None;
    }

    /// A row has gone to another worker.
    pub(super) fn forget_worker(&mut self, row: usize) {
        self.workers.write(row, &WorkerTurns::EMPTY);
        self.worker_gauges.write(row, &abi::Gauges::of(0));
    }

    /// Whether a look could find anything new, and may be taken.
    fn is_due(&self, now: Monotonic, is_read: bool) -> bool {
        if self.failures >= FAILURES {
            return false;
        }
        let Some(last) = self.looked else {
            return true;
        };
        let age = now.since(last.at);
        let is_settled = last.at >= Monotonic(self.changed.0 + SETTLES);
        let quiet = if is_read { QUIET } else { QUIET_UNREAD };
        let may_differ = age >= quiet || !is_settled && (self.changed >= last.at || age >= SETTLES);
        may_differ && age >= INTERVAL.max(last.cost * SHARE)
    }

    /// Takes note of whether anything has happened to the connections of these rows.
    fn note_changes(&mut self, rows: &[u32], shards: usize, others: u64, now: Monotonic) {
        let shards_of = |slot: &u32| {
            let slot = *slot as usize;
            slot * shards..(slot + 1) * shards
        };
        let all = rows.iter().flat_map(shards_of);
        let changes = all.fold(others, |sum, shard| sum.wrapping_add(self.change(shard)));
        if changes != self.changes {
            self.changes = changes;
            self.changed = now;
        }
    }

    /// Rises with every change of a shard.
    fn change(&self, shard: usize) -> u64 {
        let offsets = [
            offset_of!(ListenerTurns, changes),
            offset_of!(ListenerTurns, bytes_in),
            offset_of!(ListenerTurns, bytes_out),
        ];
        let words = offsets.map(|offset| self.listeners.load(shard, offset));
        words.into_iter().fold(0, u64::wrapping_add)
    }

    fn read_threads(&mut self, now: Monotonic) {
        let prunes = now.since(self.pruned) >= PRUNE_INTERVAL;
        if prunes {
            self.pruned = now;
        }
        self.processes.clear();
        let all: Vec<_> = self.threads.iter().filter_map(Result::ok).collect();
        for (id, Wire(thread)) in all {
            if prunes && !is_alive(thread.process, id) {
                let _ = self.threads.remove(&id);
                continue;
            }
            let thread = (
                thread.process,
                Thread {
                    id,
                    reads: thread.reads,
                    answers: thread.answers,
                    handed: thread.handed,
                    waits_for_events: thread.waited_ns != 0,
                    registered: thread.registered,
                    fresh: thread.fresh,
                },
            );
            self.processes.entry(thread.0).or_default().push(thread.1);
        }
    }

    fn sums(&mut self, slot: usize, shards: usize) -> ListenerTurns {
        let range = slot * shards..(slot + 1) * shards;
        let all = range.clone();
        let changes = all.fold(0u64, |sum, shard| sum.wrapping_add(self.change(shard)));
        if let Some(cached) = self.cached[slot]
            .as_ref()
            .filter(|it| it.changes == changes)
        {
            return **cached;
        }
        let mut sums = ListenerTurns::EMPTY;
        for shard in range {
            add(&mut sums, &self.listeners.read(shard));
        }
        sums.changes = changes;
        for histogram in [&mut sums.read_wait, &mut sums.answer, &mut sums.write] {
            correct_max(histogram);
        }
        self.cached[slot] = Some(Box::new(sums));
        sums
    }

    fn found(gauges: &abi::Gauges, look: u64) -> Found {
        if gauges.look != look {
            return Found::NONE;
        }
        let abi::Gauges {
            look: _,
            connections,
            unread,
            reading,
            calling,
            writing,
            blocked,
            parked,
            unseen,
            oldest_ns,
            oldest_thread,
            oldest_call_ns,
            oldest_call_thread,
        } = *gauges;
        let oldest = |began: u64, thread: u64| {
            (began != 0).then(|| Oldest {
                began: Monotonic::from_nanos(began),
                thread: u32::try_from(thread).unwrap_or(0),
            })
        };
        Found {
            connections,
            unread,
            reading,
            calling,
            writing,
            blocked,
            parked,
            unseen,
            oldest: oldest(oldest_ns, oldest_thread),
            oldest_calling: oldest(oldest_call_ns, oldest_call_thread),
        }
    }
}

impl Bpf {
    /// Has the programs look over all connections, where that is due. `is_read`: somebody reads the
    /// views. `told`: how many threads a process has, where known.
    pub fn look_over_turns(&mut self, is_read: bool, told: impl Fn(Pid) -> Option<u32>) {
        if self.turns.is_none() {
            return;
        }
        let now = Monotonic::now();
        let connections = self.changes_of_connections();
        let (rows, shards) = (&self.used_rows, self.shards);
        let Some(turns) = self.turns.as_mut() else {
            return;
        };
        turns.note_changes(rows, shards, connections, now);
        if !turns.is_due(now, is_read) {
            return;
        }
        let began = processor_time::of_this_thread();
        let is_whole = if self.has_no_connections() {
            Ok(true)
        } else {
            self.teach_classes(now, told);
            self.run_look()
        };
        let Some(turns) = self.turns.as_mut() else {
            return;
        };
        match is_whole {
            Ok(is_whole) => {
                turns.failures = 0;
                turns.look += 1;
                turns.looked = Some(Look {
                    at: now,
                    cost: processor_time::of_this_thread().saturating_sub(began),
                    is_whole,
                });
            }
            Err(error) => {
                turns.failures += 1;
                if turns.failures == FAILURES {
                    let reason = with_causes(&error);
                    log::error!("turns are not counted any more: {reason}");
                    self.hooks.turns = Err(Off {
                        reason,
                        grant: Some("restart the daemon".to_owned()),
                    });
                    turns.looked = None;
                }
            }
        }
    }

    /// Tells the program that looks how each worker works.
    fn teach_classes(&mut self, now: Monotonic, told: impl Fn(Pid) -> Option<u32>) {
        let Some(turns) = self.turns.as_mut() else {
            return;
        };
        turns.read_threads(now);
        for index in 0..self.worker_rows.len() {
            if self.worker_rows.load(index, offset_of!(WorkerRow, in_use)) != 1 {
                continue;
            }
            let pid = Pid(self.worker_rows.read(index).key.pid);
            let threads = turns.processes.get(&pid.0).map_or(&[][..], Vec::as_slice);
            let living = crate::turns::living(pid.0, threads, told(pid));
            let class = match class(threads, living) {
                Class::Handoff => abi::class::HANDOFF,
                _ if crate::turns::waits_for_events(threads) => abi::class::LOOP,
                Class::Loop | Class::Direct | Class::Learning => abi::class::DIRECT,
            };
            turns
                .workers
                .swap(index, offset_of!(WorkerTurns, class), class);
        }
    }

    /// Whether all connections were looked at.
    fn run_look(&mut self) -> Result<bool, StepError> {
        let Some(turns) = self.turns.as_mut() else {
            return Ok(false);
        };
        let order = LookOver {
            look: turns.look + 1,
            most: MOST,
            seen: 0,
            slot: 0,
            skip: 0,
            listed: 0,
        };
        turns.order.write(0, &order);
        run(&self.ebpf, program::COUNT_TURNS, 0)?;
        Ok(turns.order.read(0).seen < MOST)
    }

    fn changes_of_connections(&self) -> u64 {
        let shards_of = |slot: &u32| {
            let slot = *slot as usize;
            slot * self.shards..(slot + 1) * self.shards
        };
        let all = self.used_rows.iter().flat_map(shards_of);
        let changes = |shard| {
            self.counters
                .load(shard, offset_of!(ListenerCounters, changes))
        };
        all.fold(0u64, |sum, shard| sum.wrapping_add(changes(shard)))
    }
}

/// Whether a thread still is one of its process.
fn is_alive(process: u32, thread: u32) -> bool {
    Path::new(&format!("/proc/{process}/task/{thread}")).exists()
}

fn add(sums: &mut ListenerTurns, shard: &ListenerTurns) {
    let ListenerTurns {
        changes: _,
        read_wait_unknown,
        unanswered,
        bytes_in,
        bytes_out,
        seeds_settled,
        read_wait,
        answer,
        write,
    } = shard;
    for (sum, value) in [
        (&mut sums.read_wait_unknown, read_wait_unknown),
        (&mut sums.unanswered, unanswered),
        (&mut sums.bytes_in, bytes_in),
        (&mut sums.bytes_out, bytes_out),
        (&mut sums.seeds_settled, seeds_settled),
    ] {
        *sum = sum.wrapping_add(*value);
    }
    add_histogram(&mut sums.read_wait, read_wait);
    add_histogram(&mut sums.answer, answer);
    add_histogram(&mut sums.write, write);
}
