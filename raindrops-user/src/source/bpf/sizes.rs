//! How large the maps are. Pure.
//!
//! Memory does not grow with the number of CPUs beyond eight: counters are sharded, not per CPU.

use raindrops_ebpf::{names::map, turns::LISTED};

/// Rows for workers: one for each worker on each listener.
pub(super) const WORKER_ROWS: u32 = 4096;

/// Threads that read or answer, of all workers.
const THREADS: u32 = 8192;

/// Connections that can be noted as born while older ones are learnt.
pub(super) const BORN_WHILE_SEEDING: u32 = 8192;

/// Rows for listeners that are made later, or that have closed and still have connections.
const SPARE_LISTENERS: u32 = 96;
/// Room for connections that are made before they have all been learnt.
const SPARE_SEEDS: u32 = 4096;

/// More shards than this do not make counting cheaper, only larger.
const MAX_SHARDS: usize = 8;

/// The ring that log messages go through, a multiple of the page size.
const LOG_BYTES: u32 = 128 * 1024;
const NO_LOG_BYTES: u32 = 4096;

/// What the sizes depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Connections to follow at one time.
    pub connections: u32,
    /// TCP sockets that exist now.
    pub tcp_sockets: u32,
    /// Listeners that exist now.
    pub listeners: u32,
    pub cpus: usize,
    /// The programs write log messages.
    pub logs: bool,
    /// Turns are followed.
    pub turns: bool,
}

impl Host {
    pub(super) fn listener_rows(&self) -> u32 {
        self.listeners
            .saturating_mul(2)
            .saturating_add(SPARE_LISTENERS)
    }

    pub(super) fn shards(&self) -> u32 {
        self.cpus.next_power_of_two().min(MAX_SHARDS) as u32
    }

    pub(super) fn listener_counters(&self) -> u32 {
        self.listener_rows().saturating_mul(self.shards())
    }

    /// Entries of each map whose size depends on the host.
    pub(super) fn entries(&self) -> [(&'static str, u32); 19] {
        let rows = self.listener_rows();
        let seeds = self
            .tcp_sockets
            .saturating_mul(2)
            .saturating_add(SPARE_SEEDS);
        let of_turns = |entries: u32| if self.turns { entries } else { 1 };
        [
            (map::LISTENER_TURNS, of_turns(self.listener_counters())),
            (map::WORKER_TURNS, of_turns(WORKER_ROWS)),
            (map::LISTENER_GAUGES, of_turns(rows)),
            (map::WORKER_GAUGES, of_turns(WORKER_ROWS)),
            (map::THREADS, of_turns(THREADS)),
            (map::LISTED_CONNECTIONS, of_turns(LISTED)),
            (map::CONNECTIONS, self.connections),
            (map::SEEDS, seeds),
            (map::BORN_WHILE_SEEDING, BORN_WHILE_SEEDING),
            (map::LISTENERS, rows),
            (map::LISTENER_BY_SOCK, rows.saturating_mul(2)),
            (map::LISTENER_BY_ADDRESS, rows),
            (map::LISTENER_ROWS, rows),
            (map::LISTENER_COUNTERS, self.listener_counters()),
            (map::FREE_LISTENER_ROWS, rows),
            (map::WORKERS, WORKER_ROWS),
            (map::WORKER_ROWS, WORKER_ROWS),
            (map::FREE_WORKER_ROWS, WORKER_ROWS),
            (map::LOG, if self.logs { LOG_BYTES } else { NO_LOG_BYTES }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

    use super::Host;

    const HASH: u32 = 1;
    const ARRAY: u32 = 2;
    const PERCPU_ARRAY: u32 = 6;
    const LRU_HASH: u32 = 9;
    const QUEUE: u32 = 22;
    const RINGBUF: u32 = 27;

    /// The start of a record of the section `maps`.
    struct Definition {
        kind: u32,
        key: u32,
        value: u32,
        entries: u32,
    }

    fn definitions() -> BTreeMap<String, Definition> {
        let object = super::super::object().unwrap();
        let file = object::File::parse(&*object).unwrap();
        let section = file.section_by_name("maps").unwrap();
        let data = section.data().unwrap();
        let records = file.symbols().filter(|symbol| {
            symbol.section_index() == Some(section.index()) && symbol.is_definition()
        });
        records
            .map(|symbol| {
                let start = (symbol.address() - section.address()) as usize;
                let field = |index: usize| {
                    let at = start + index * 4;
                    u32::from_le_bytes(data[at..at + 4].try_into().unwrap())
                };
                let definition = Definition {
                    kind: field(0),
                    key: field(1),
                    value: field(2),
                    entries: field(3),
                };
                (symbol.name().unwrap().to_owned(), definition)
            })
            .collect()
    }

    /// Bytes of all maps while no connection is followed, as `kernel/bpf/{hashtab,arraymap}.c` of
    /// Linux 6.18 allocate them: a hash map's buckets, and of those that allocate ahead its
    /// elements.
    fn idle_bytes(host: &Host) -> u64 {
        const BUCKET: u64 = 16;
        const ELEMENT: u64 = 48;
        let sizes = BTreeMap::from(host.entries());
        let words = |bytes: u32| u64::from(bytes.next_multiple_of(8));
        definitions()
            .iter()
            .map(|(name, map)| {
                let entries = sizes.get(name.as_str()).copied().unwrap_or(map.entries);
                let buckets = BUCKET * u64::from(entries.next_power_of_two());
                match map.kind {
                    HASH => buckets,
                    LRU_HASH => {
                        buckets + u64::from(entries) * (ELEMENT + words(map.key) + words(map.value))
                    }
                    ARRAY | QUEUE => u64::from(entries) * u64::from(map.value),
                    PERCPU_ARRAY => u64::from(entries) * words(map.value) * host.cpus as u64,
                    RINGBUF => u64::from(entries),
                    other => panic!("map {name} is of type {other}"),
                }
            })
            .sum()
    }

    #[test]
    fn memory_does_not_multiply_by_cpus() {
        let mut host = Host {
            connections: 131_072,
            tcp_sockets: 1000,
            listeners: 64,
            cpus: 2,
            logs: false,
            turns: false,
        };
        let small = idle_bytes(&host);
        assert!(small > 2_000_000 && small <= 4_000_000, "{small}");
        host.turns = true;
        let with_turns = idle_bytes(&host);
        assert!(
            with_turns > small && with_turns <= 6_000_000,
            "{with_turns}"
        );
        host.cpus = 128;
        host.listeners = 256;
        let large = idle_bytes(&host);
        assert!(large > small && large <= 64_000_000, "{large}");
    }
}
