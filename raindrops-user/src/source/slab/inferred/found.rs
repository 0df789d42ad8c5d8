//! Memory that was read, and what can be said of it before its bytes are looked at.

use std::collections::{BTreeMap, BTreeSet};

use raindrops_slab::{Kind as FieldKind, read::Value};

use super::{Copied, Mapped};
use crate::{
    ids::Pid,
    snapshot::slabs::{Memory, Place, Slab, SlabField, SlabKind},
    source::slab::maps::Mapping,
    view::servers::Role,
};

/// Memory shared by `mmap` without a file, as `/proc/PID/maps` calls it.
const ANONYMOUS: &[u8] = b"/dev/zero (deleted)";

/// Memory that was read, and who has it.
pub(super) struct Found<'a> {
    pub memory: Memory,
    pub bytes: &'a [u8],
    pub mapping: &'a Mapping,
    pub holders: BTreeMap<Pid, Mapped<'a>>,
    /// Of the only server that has it.
    pub server: Option<&'a str>,
}

/// On the kernel's own mount: no file system of anybody's.
pub(super) const fn is_in_memory(mapping: &Mapping) -> bool {
    matches!((mapping.memory.major, mapping.memory.minor), (0, 1))
}

pub(super) fn is_anonymous(mapping: &Mapping) -> bool {
    is_in_memory(mapping) && mapping.label == ANONYMOUS
}

pub(super) fn is_memfd(mapping: &Mapping) -> bool {
    mapping.label.starts_with(b"/memfd:")
}

pub(super) fn found<'a>(
    processes: &BTreeMap<Pid, Mapped<'a>>,
    memory: Memory,
    bytes: &'a [u8],
) -> Option<Found<'a>> {
    let mut holders = BTreeMap::new();
    let mut first: Option<&'a Mapping> = None;
    for (pid, mapped) in processes {
        let mapping = mapped.maps.shared.iter().find(|it| it.memory == memory);
        if let Some(mapping) = mapping {
            holders.insert(*pid, *mapped);
            first = first.or(Some(mapping));
        }
    }
    let servers: BTreeSet<&str> = holders
        .values()
        .filter_map(|it| it.process.member.server.as_deref())
        .collect();
    Some(Found {
        memory,
        bytes,
        mapping: first?,
        server: (servers.len() == 1)
            .then(|| servers.first().copied())
            .flatten(),
        holders,
    })
}

impl Found<'_> {
    fn place(&self) -> Place {
        if let Some(path) = &self.mapping.path {
            return Place::File(path.clone());
        }
        let is_master = |it: &Mapped<'_>| it.process.member.role == Role::Master;
        let master = self.holders.iter().find(|(_, it)| is_master(it));
        let pid = master.or_else(|| self.holders.iter().next());
        Place::Process(pid.map_or(Pid(0), |(pid, _)| *pid))
    }

    pub fn slab(
        &self,
        kind: SlabKind,
        fields: Vec<SlabField>,
        totals: Vec<Option<Value>>,
        copied: Copied,
    ) -> Slab {
        Slab {
            memory: self.memory,
            kind,
            name: None,
            place: self.place(),
            server: self.server.map(str::to_owned),
            pids: self.holders.keys().copied().collect(),
            fields,
            totals,
            workers: BTreeMap::new(),
            slots: None,
            read: copied.began,
        }
    }
}

pub(super) fn gauge(name: impl Into<String>) -> SlabField {
    SlabField {
        name: name.into(),
        kind: FieldKind::Gauge,
        unit: None,
    }
}

/// Who counts below zero has wrapped round.
pub(super) const fn level(word: u64) -> Value {
    Value::Gauge(word.cast_signed())
}
