//! Reads what the programs have counted, without a system call: all of it lies in mapped memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::offset_of,
};

use raindrops_ebpf::{
    counters::{ListenerCounters, WorkerRow},
    histogram::{BUCKETS, Histogram, lower_bound_ns},
    listener::{AF_UNIX, ListenerRow, row_state},
    miss, peak,
};

use super::{Bpf, rows};
use crate::{
    ids::{Inode, Monotonic, NetnsId, Pid, StartTicks},
    snapshot::{
        BpfSnapshot, ListenSocket, ListenerCounts, ListenerKey, QueuePeak, WorkerCounts, WorkerKey,
    },
};

/// New listeners take the free rows in their order, but for those that two programs made at once. So
/// behind this many free rows none is looked for, until the next snapshot.
const AHEAD: usize = 16;

/// A listener's sums as they were when `changes` had this value.
pub struct Cached {
    changes: u64,
    sums: ListenerCounters,
}

impl Bpf {
    /// What has been counted until now. `listeners` names the rows that have no inode.
    pub fn snapshot(&mut self, listeners: &BTreeMap<ListenerKey, ListenSocket>) -> BpfSnapshot {
        let taken = Monotonic::now();
        let mut keys = BTreeMap::new();
        let mut counts = BTreeMap::new();
        let mut addresses: BTreeMap<_, u32> = BTreeMap::new();
        let mut doubtful = Vec::new();
        let rows = self.rows_in_use();
        self.note_rows(&rows);
        for (slot, row) in rows {
            let candidates = candidates(&row, listeners);
            let Some(key) = candidates.first().copied() else {
                continue;
            };
            keys.insert(slot, key);
            if candidates.len() > 1 {
                doubtful.extend(candidates);
            }
            if row.address.family != AF_UNIX && listeners.contains_key(&key) {
                let address = (row.address.netns, row.address.port, row.address.address);
                *addresses.entry((row.address.family, address)).or_default() += 1;
            }
            let mut here = self.counts(slot);
            here.attributed = true;
            here.tcp_address = rows::tcp_address(&row.address);
            // It waits until its listener has been listed.
            if listeners.contains_key(&key) {
                here.longest_queue = self.take_longest_queue(slot as usize);
            }
            merge_into(&mut counts, key, here);
        }
        for key in doubtful {
            if let Some(counts) = counts.get_mut(&key) {
                counts.complete = false;
            }
        }
        let shared: BTreeSet<_> = addresses
            .into_iter()
            .filter(|(_, members)| *members > 1)
            .map(|(key, _)| key)
            .collect();
        for (slot, key) in &keys {
            let row = self.rows.read(*slot as usize);
            let address = (row.address.netns, row.address.port, row.address.address);
            if let Some(counts) = counts.get_mut(key)
                && shared.contains(&(row.address.family, address))
            {
                counts.attributed = self.hooks.tells_members();
                // Which member a connection came from is not known from its address.
                counts.complete &= counts.seeded == 0;
            }
        }
        BpfSnapshot {
            taken,
            listeners: counts,
            workers: self.workers(&keys),
            turns: self.turns(&keys),
            skipped_accepts: self.skipped_accepts,
            sees_arrivals: self.hooks().sees_arrivals() && self.skipped_arrivals == 0,
            misses: miss::ALL
                .into_iter()
                .map(|miss| (miss, self.misses.load(miss as usize, 0)))
                .filter(|(_, count)| *count != 0)
                .collect(),
        }
    }

    /// A number that changes when a listener comes or goes, when a connection makes a queue longer
    /// than it was since the last snapshot, and when one is accepted or ends. `None` where the
    /// kernel does not tell of arrivals, and while there are listeners without a row.
    pub fn activity(&self) -> Option<u64> {
        if !self.hooks().sees_arrivals() || !self.rowless.is_empty() {
            return None;
        }
        let mut activity = 0u64;
        let mut add = |slot: u32, row: u64| {
            let slot = slot as usize;
            activity = activity.wrapping_mul(31).wrapping_add(row);
            for shard in slot * self.shards..(slot + 1) * self.shards {
                for offset in [
                    offset_of!(ListenerCounters, changes),
                    offset_of!(ListenerCounters, peak),
                ] {
                    activity = activity.wrapping_add(self.counters.load(shard, offset));
                }
            }
        };
        // The word that has the state and how often the row was used.
        let load = |slot: u32| {
            let offset = offset_of!(ListenerRow, state);
            self.rows.load(slot as usize, offset)
        };
        for slot in &self.used_rows {
            add(*slot, load(*slot));
        }
        let mut free = 0;
        for slot in &self.unused_rows {
            let row = load(*slot);
            if rows::state_in(row) != row_state::FREE {
                free = 0;
                add(*slot, row);
                continue;
            }
            free += 1;
            if free == AHEAD {
                break;
            }
        }
        Some(activity)
    }

    /// One row's counts, summed over the shards.
    pub(super) fn counts(&mut self, slot: u32) -> ListenerCounts {
        let complete = self.seeding_complete && !self.late.contains(&slot);
        let sees_arrivals = self.hooks.sees_arrivals();
        let sums = self.sums(slot as usize);
        ListenerCounts {
            tcp_address: None,
            changes: sums.changes,
            late_accepts: sums.late_accepts,
            wait_unknown: sums.wait_unknown,
            lifetime_unknown: sums.lifetime_unknown,
            half_closed: gauge(sums.half_closed),
            seeded: sums.seeded,
            aborted: sums.aborted,
            unattributed: gauge(sums.unattributed),
            unix_arrivals: sees_arrivals.then_some(sums.unix_arrivals),
            wait: sums.wait,
            lifetime: sums.lifetime,
            longest_queue: None,
            complete,
            seeding_complete: complete,
            attributed: true,
        }
    }

    /// The longest queue that an arriving connection has found itself in since the last call.
    fn take_longest_queue(&self, slot: usize) -> Option<QueuePeak> {
        let offset = offset_of!(ListenerCounters, peak);
        let longest = (slot * self.shards..(slot + 1) * self.shards)
            .filter(|shard| self.counters.load(*shard, offset) != peak::NONE)
            .map(|shard| self.counters.swap(shard, offset, peak::NONE))
            .max_by_key(|peak| peak::length(*peak))?;
        Some(QueuePeak {
            length: peak::length(longest),
            at: Monotonic::from_nanos(peak::at_ns(longest)),
        })
    }

    fn sums(&mut self, slot: usize) -> &ListenerCounters {
        let offset = offset_of!(ListenerCounters, changes);
        let shards = slot * self.shards..(slot + 1) * self.shards;
        let changes = shards.clone().fold(0u64, |sum, shard| {
            sum.wrapping_add(self.counters.load(shard, offset))
        });
        let stale = self.cached[slot]
            .as_ref()
            .is_none_or(|cached| cached.changes != changes);
        if stale {
            let mut sums = ListenerCounters::EMPTY;
            for shard in shards {
                add(&mut sums, &self.counters.read(shard));
            }
            sums.changes = changes;
            correct_max(&mut sums.wait);
            correct_max(&mut sums.lifetime);
            self.cached[slot] = Some(Box::new(Cached { changes, sums }));
        }
        self.cached[slot]
            .as_ref()
            .map_or(&ListenerCounters::EMPTY, |cached| &cached.sums)
    }

    fn workers(&self, keys: &BTreeMap<u32, ListenerKey>) -> BTreeMap<WorkerKey, WorkerCounts> {
        let nanos_per_tick = 1_000_000_000 / self.ticks_per_second.max(1);
        let mut workers = BTreeMap::new();
        for index in 0..self.worker_rows.len() {
            if self.worker_rows.load(index, offset_of!(WorkerRow, in_use)) != 1 {
                continue;
            }
            let row = self.worker_rows.read(index);
            let Some(listener) = keys.get(&row.key.slot) else {
                continue;
            };
            let is_unix = self.rows.read(row.key.slot as usize).address.family == AF_UNIX;
            let key = WorkerKey {
                pid: Pid(row.key.pid),
                started: StartTicks(row.key.started_ns / nanos_per_tick),
                listener: *listener,
            };
            let counts = workers.entry(key).or_insert(WorkerCounts {
                accepts: 0,
                active: (!is_unix).then_some(0),
                last_accept: None,
                wait_count: 0,
                wait_sum_ns: 0,
                wait_max_ns: 0,
            });
            counts.accepts += row.accepts;
            counts.active = counts.active.map(|active| active + gauge(row.active));
            let last = (row.last_accept_ns != 0).then(|| Monotonic::from_nanos(row.last_accept_ns));
            counts.last_accept = counts.last_accept.max(last);
            counts.wait_count += row.wait_count;
            counts.wait_sum_ns += row.wait_sum_ns;
            counts.wait_max_ns = counts.wait_max_ns.max(row.wait_max_ns);
        }
        workers
    }

    /// Frees the rows of workers that are gone and have no open connection left.
    ///
    /// # Errors
    /// When a map cannot be changed.
    pub fn forget_workers(
        &mut self,
        is_gone: impl Fn(Pid, StartTicks) -> bool,
    ) -> Result<(), super::BpfError> {
        let nanos_per_tick = 1_000_000_000 / self.ticks_per_second.max(1);
        for index in 0..self.worker_rows.len() {
            if self.worker_rows.load(index, offset_of!(WorkerRow, in_use)) != 1 {
                continue;
            }
            let row = self.worker_rows.read(index);
            let started = StartTicks(row.key.started_ns / nanos_per_tick);
            if row.active == 0 && is_gone(Pid(row.key.pid), started) {
                self.free_worker_row(index)?;
            }
        }
        Ok(())
    }
}

/// The listeners that a row may be of: several when it was made from an accepted unix connection, of
/// which only the name is known.
fn candidates(
    row: &ListenerRow,
    listeners: &BTreeMap<ListenerKey, ListenSocket>,
) -> Vec<ListenerKey> {
    let netns = NetnsId(row.address.netns);
    if row.inode != 0 {
        return vec![ListenerKey {
            netns,
            inode: Inode(row.inode),
        }];
    }
    let named: Vec<_> = listeners
        .iter()
        .filter(|(_, socket)| rows::names(row, &socket.address))
        .map(|(key, _)| *key)
        .collect();
    let clients = NetnsId(row.address.netns);
    let here: Vec<_> = named.iter().filter(|key| key.netns == clients).collect();
    if !here.is_empty() {
        return here.into_iter().copied().collect();
    }
    // An abstract name is known in its own network namespace only. A path may be known in others,
    // and mean another socket there.
    if rows::is_path(row) && named.len() == 1 {
        named
    } else {
        Vec::new()
    }
}

/// Two rows are one listener when one of them was made from an accepted unix connection.
fn merge_into(
    all: &mut BTreeMap<ListenerKey, ListenerCounts>,
    key: ListenerKey,
    more: ListenerCounts,
) {
    let Some(counts) = all.get_mut(&key) else {
        all.insert(key, more);
        return;
    };
    counts.changes = counts.changes.wrapping_add(more.changes);
    counts.late_accepts += more.late_accepts;
    counts.wait_unknown += more.wait_unknown;
    counts.lifetime_unknown += more.lifetime_unknown;
    counts.half_closed += more.half_closed;
    counts.seeded += more.seeded;
    counts.aborted += more.aborted;
    counts.unattributed += more.unattributed;
    counts.unix_arrivals = counts
        .unix_arrivals
        .zip(more.unix_arrivals)
        .map(|(one, other)| one + other);
    counts.longest_queue = match (counts.longest_queue, more.longest_queue) {
        (Some(one), Some(other)) if other.length > one.length => Some(other),
        (one, other) => one.or(other),
    };
    counts.complete &= more.complete;
    counts.seeding_complete &= more.seeding_complete;
    add_histogram(&mut counts.wait, &more.wait);
    add_histogram(&mut counts.lifetime, &more.lifetime);
}

fn add(sums: &mut ListenerCounters, shard: &ListenerCounters) {
    let ListenerCounters {
        changes: _,
        late_accepts,
        wait_unknown,
        lifetime_unknown,
        half_closed,
        seeded,
        aborted,
        unattributed,
        unix_arrivals,
        peak: _,
        wait,
        lifetime,
    } = shard;
    for (sum, value) in [
        (&mut sums.late_accepts, late_accepts),
        (&mut sums.wait_unknown, wait_unknown),
        (&mut sums.lifetime_unknown, lifetime_unknown),
        (&mut sums.half_closed, half_closed),
        (&mut sums.seeded, seeded),
        (&mut sums.aborted, aborted),
        (&mut sums.unattributed, unattributed),
        (&mut sums.unix_arrivals, unix_arrivals),
    ] {
        *sum = sum.wrapping_add(*value);
    }
    add_histogram(&mut sums.wait, wait);
    add_histogram(&mut sums.lifetime, lifetime);
}

pub(super) fn add_histogram(sum: &mut Histogram, more: &Histogram) {
    for (sum, count) in sum.buckets.iter_mut().zip(&more.buckets) {
        *sum += count;
    }
    sum.sum_ns = sum.sum_ns.wrapping_add(more.sum_ns);
    sum.max_ns = sum.max_ns.max(more.max_ns);
}

/// A maximum that was lost when two CPUs sharing a shard met is at least the lower bound of the
/// highest bucket in use.
pub(super) fn correct_max(histogram: &mut Histogram) {
    if let Some(highest) = (0..BUCKETS)
        .rev()
        .find(|index| histogram.buckets[*index] != 0)
    {
        histogram.max_ns = histogram.max_ns.max(lower_bound_ns(highest));
    }
}

/// A gauge is a wrapping sum; read while it changes, it may be below zero for an instant.
fn gauge(value: u64) -> u64 {
    u64::try_from(value.cast_signed()).unwrap_or(0)
}
