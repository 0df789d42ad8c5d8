//! What is counted, per listener and per worker. Only ever added to with atomic instructions, and
//! read by user space through a shared mapping.

use crate::{histogram::Histogram, listener::Slot, peak};

/// Totals of one listener. Each listener has `SHARDS` of these, one for each CPU modulo `SHARDS`;
/// a figure is the wrapping sum over them.
///
/// Accepts are not stored: they are `wait.count + late_accepts + wait_unknown`. Closes are
/// `lifetime.count + lifetime_unknown`. Active follows from `seeded + accepts = active +
/// half_closed + closes`, so the accounting holds in every reading.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerCounters {
    /// Changes whenever anything else here does: tells a reader whether to look at the rest.
    pub changes: u64,
    /// Accepts that no hook saw, found out later, at the connection's end at the latest.
    pub late_accepts: u64,
    /// Accepts of connections whose time in the queue is not known.
    pub wait_unknown: u64,
    /// Ends of connections whose beginning is not known.
    pub lifetime_unknown: u64,
    /// Gauge: accepted, the client has closed, the server has not.
    pub half_closed: u64,
    /// Connections that were open before the programs and that the programs found themselves.
    pub seeded: u64,
    /// Connections that ended before anybody accepted them.
    pub aborted: u64,
    /// Gauge: active connections whose worker is not known. While there are any, the workers'
    /// `active` do not add up to the listener's.
    pub unattributed: u64,
    /// Connections that have joined a unix listener's queue, which they leave by an accept only. Only
    /// where the kernel tells of arrivals.
    pub unix_arrivals: u64,
    /// Longest queue that an arriving connection has found itself in since user space last took
    /// this word, see [`crate::peak`]. Only where the kernel tells of arrivals.
    pub peak: u64,
    /// From ESTABLISHED to the return of `accept()`.
    pub wait: Histogram,
    /// From ESTABLISHED to the server's close or the reset.
    pub lifetime: Histogram,
}

/// Which worker on which listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerKey {
    /// Start of the process, nanoseconds of `CLOCK_BOOTTIME`: pids are reused.
    pub started_ns: u64,
    /// Process id (thread group) in the initial pid namespace.
    pub pid: u32,
    pub slot: Slot,
}

/// Totals of one worker on one listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    pub key: WorkerKey,
    pub accepts: u64,
    /// Gauge: accepted by it and ESTABLISHED.
    pub active: u64,
    pub last_accept_ns: u64,
    pub wait_count: u64,
    pub wait_sum_ns: u64,
    pub wait_max_ns: u64,
    /// 1 while the row is in use. Written last by its creator.
    pub in_use: u64,
}

const _: () = assert!(size_of::<ListenerCounters>() == 80 + 2 * size_of::<Histogram>());
const _: () = assert!(size_of::<WorkerKey>() == 16);
const _: () = assert!(size_of::<WorkerRow>() == 72);

impl ListenerCounters {
    pub const EMPTY: Self = Self {
        changes: 0,
        late_accepts: 0,
        wait_unknown: 0,
        lifetime_unknown: 0,
        half_closed: 0,
        seeded: 0,
        aborted: 0,
        unattributed: 0,
        unix_arrivals: 0,
        peak: peak::NONE,
        wait: Histogram::EMPTY,
        lifetime: Histogram::EMPTY,
    };
}

impl WorkerRow {
    pub const EMPTY: Self = Self {
        key: WorkerKey {
            started_ns: 0,
            pid: 0,
            slot: 0,
        },
        accepts: 0,
        active: 0,
        last_accept_ns: 0,
        wait_count: 0,
        wait_sum_ns: 0,
        wait_max_ns: 0,
        in_use: 0,
    };
}
