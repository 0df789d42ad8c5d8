//! Every map: key, value, who writes it, who reads it. Sizes given here are the smallest; user
//! space sets those that depend on the host before loading.
//!
//! Counters and rows are arrays that user space maps into its memory, so reading them costs no
//! system call. Nothing is sent per event.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, Queue},
};
use raindrops_ebpf::{
    connection::{Connection, FlowKey, QueuedUnix},
    counters::{ListenerCounters, WorkerKey, WorkerRow},
    listener::{AddressKey, ListenerRow, RowRef},
    miss,
    overlooked::{self, Look},
    turns::{Gauges, ListedConnection, ListenerTurns, LookOver, Thread, WorkerTurns},
};

/// Socket address to connection. Written by the programs; user space reads its keys.
#[map]
pub static CONNECTIONS: HashMap<u64, Connection> =
    HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// Cookie to older connection. Written by user space and the programs.
#[map]
pub static SEEDS: HashMap<u64, Connection> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// Connections born while older ones are being learnt. Written by the programs, read and emptied
/// by user space.
#[map]
pub static BORN_WHILE_SEEDING: HashMap<FlowKey, u32> =
    HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

/// One element: a value of `connection::seeding`. Written by user space.
#[map]
pub static SEEDING: Array<u32> = Array::with_max_entries(1, 0);

/// Entries of `CONNECTIONS` that user space wants looked at: it writes the keys and runs the program,
/// which writes what they have missed.
#[map]
pub static LOOKS: Array<Look> = Array::with_max_entries(overlooked::LOOKS, BPF_F_MMAPABLE);

/// Unix connections between connect and accept; the end of one that is never accepted cannot be
/// seen, so the oldest give way. Written by the programs.
#[map]
pub static QUEUED_UNIX: LruHashMap<u64, QueuedUnix> = LruHashMap::with_max_entries(2048, 0);

/// Inode of a listening socket to its row. Written by whoever sees a listener first.
#[map]
pub static LISTENERS: HashMap<u64, RowRef> = HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);

/// Address of a listening socket's structure to its row. Written by the programs.
#[map]
pub static LISTENER_BY_SOCK: HashMap<u64, RowRef> =
    HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);

/// TCP address to one of the rows that listen there. Written by user space and the programs.
#[map]
pub static LISTENER_BY_ADDRESS: HashMap<AddressKey, RowRef> =
    HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);

/// The kernel's shared name object of a unix listener and of the connections accepted from it, to
/// the listener's row. Written and checked by the programs: the object's address may be used again.
#[map]
pub static LISTENER_BY_UNIX_NAME: LruHashMap<u64, RowRef> = LruHashMap::with_max_entries(512, 0);

/// What each row describes. Written by whoever makes the row, read by user space.
#[map]
pub static LISTENER_ROWS: Array<ListenerRow> = Array::with_max_entries(256, BPF_F_MMAPABLE);

/// Counters of row `slot` in shard `s` at `slot * SHARDS + s`. Written by the programs.
#[map]
pub static LISTENER_COUNTERS: Array<ListenerCounters> =
    Array::with_max_entries(256, BPF_F_MMAPABLE);

/// Rows that are free. Filled by user space, taken by the programs and user space.
#[map]
pub static FREE_LISTENER_ROWS: Queue<u32> = Queue::with_max_entries(256, 0);

/// Worker and listener to a worker row. Written by the programs and, for older connections, by
/// user space.
#[map]
pub static WORKERS: HashMap<WorkerKey, u32> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Counters of each worker on each listener. Written by the programs, read by user space.
#[map]
pub static WORKER_ROWS: Array<WorkerRow> = Array::with_max_entries(4096, BPF_F_MMAPABLE);

/// Worker rows that are free. Filled by user space.
#[map]
pub static FREE_WORKER_ROWS: Queue<u32> = Queue::with_max_entries(4096, 0);

/// Events that were not counted, by `Miss`. Written by the programs, read by user space.
#[map]
pub static MISSES: Array<u64> = Array::with_max_entries(miss::ALL.len() as u32, BPF_F_MMAPABLE);

/// The last event that the first of the two programs on `inet_sock_set_state` has dealt with on this
/// CPU: the socket, and both states. Private to the programs.
#[map]
pub static LAST_EVENT: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// The connection born last on this CPU and not yet told its listener. Private to the programs.
#[map]
pub static LAST_CHILD: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Totals of turns, placed like `LISTENER_COUNTERS`. Written by the programs.
#[map]
pub static LISTENER_TURNS: Array<ListenerTurns> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Totals of turns of the worker in the same row of `WORKER_ROWS`. Written by the programs; its class
/// by user space.
#[map]
pub static WORKER_TURNS: Array<WorkerTurns> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the last look found of each listener's connections whose worker is not known. Written by the
/// program that looks.
#[map]
pub static LISTENER_GAUGES: Array<Gauges> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the last look found of each worker row's connections. Written by the program that looks.
#[map]
pub static WORKER_GAUGES: Array<Gauges> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Thread number to what it does with turns. Written by the programs, read and emptied by user space.
#[map]
pub static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// One element: what a look over the connections is told, and what it tells.
#[map]
pub static LOOK_OVER: Array<LookOver> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Connections of one listener, when they were last listed. Written by the program that lists.
#[map]
pub static LISTED_CONNECTIONS: Array<ListedConnection> = Array::with_max_entries(1, BPF_F_MMAPABLE);
