//! What the programs have counted of turns, as a snapshot.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::offset_of,
};

use raindrops_ebpf::{counters::WorkerRow, listener::AF_UNIX};

use super::Turns;
use crate::{
    ids::{Monotonic, Pid, StartTicks},
    snapshot::{ListenerKey, ListenerTurnCounts, TurnsSnapshot, WorkerKey, WorkerTurnCounts},
    source::bpf::{Bpf, read::add_histogram},
};

impl Bpf {
    /// What was counted of turns until now. `keys`: which listener each row is of.
    pub(in crate::source::bpf) fn turns(
        &mut self,
        keys: &BTreeMap<u32, ListenerKey>,
    ) -> Option<TurnsSnapshot> {
        let turns = self.turns.as_mut()?;
        turns.keys.clone_from(keys);
        let look = turns.looked?;
        let mut listeners: BTreeMap<ListenerKey, ListenerTurnCounts> = BTreeMap::new();
        let (rows, sees_unix) = (&self.rows, turns.sees_unix);
        let is_followed =
            |slot: u32| sees_unix || rows.read(slot as usize).address.family != AF_UNIX;
        for (slot, key) in keys {
            if !is_followed(*slot) {
                continue;
            }
            let sums = turns.sums(*slot as usize, self.shards);
            let gauges = turns.listener_gauges.read(*slot as usize);
            let here = listeners.entry(*key).or_insert(ListenerTurnCounts::NONE);
            here.read_wait_unknown += sums.read_wait_unknown;
            here.unanswered += sums.unanswered;
            here.bytes_in += sums.bytes_in;
            here.bytes_out += sums.bytes_out;
            here.seeds_settled += sums.seeds_settled;
            add_histogram(&mut here.read_wait, &sums.read_wait);
            add_histogram(&mut here.answer, &sums.answer);
            add_histogram(&mut here.write, &sums.write);
            here.of_no_worker = here.of_no_worker.plus(Turns::found(&gauges, turns.look));
        }
        let nanos_per_tick = 1_000_000_000 / self.ticks_per_second.max(1);
        let mut workers: BTreeMap<WorkerKey, WorkerTurnCounts> = BTreeMap::new();
        let mut pids = BTreeSet::new();
        let mut seen_in_part = BTreeSet::new();
        for index in 0..self.worker_rows.len() {
            let in_use = offset_of!(WorkerRow, in_use);
            if self.worker_rows.load(index, in_use) != 1 {
                continue;
            }
            let row = self.worker_rows.read(index).key;
            let Some(listener) = keys.get(&row.slot) else {
                continue;
            };
            let key = WorkerKey {
                pid: Pid(row.pid),
                started: StartTicks(row.started_ns / nanos_per_tick),
                listener: *listener,
            };
            if !is_followed(row.slot) {
                seen_in_part.insert((key.pid, key.started));
                continue;
            }
            pids.insert(row.pid);
            let counted = turns.workers.read(index);
            let found = Turns::found(&turns.worker_gauges.read(index), turns.look);
            let here = workers.entry(key).or_insert(WorkerTurnCounts::NONE);
            here.turns += counted.turns;
            here.answers += counted.answers;
            here.answer_sum_ns += counted.answer_sum_ns;
            here.answer_max_ns = here.answer_max_ns.max(counted.answer_max_ns);
            let last = (counted.last_answer_ns != 0)
                .then(|| Monotonic::from_nanos(counted.last_answer_ns));
            here.last_answer = here.last_answer.max(last);
            here.found = here.found.plus(found);
        }
        let threads = pids.into_iter().filter_map(|pid| {
            let threads = turns.processes.get(&pid)?;
            Some((Pid(pid), threads.clone()))
        });
        Some(TurnsSnapshot {
            looked: look.at,
            is_whole: look.is_whole,
            ends_seen: turns.ends_seen,
            waits_known: turns.sees_data,
            listeners,
            workers,
            seen_in_part,
            hidden_in_part: BTreeSet::new(),
            with_older: BTreeSet::new(),
            threads: threads.collect(),
        })
    }
}
