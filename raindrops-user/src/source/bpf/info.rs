//! What the kernel itself says of programs and maps, in the `fdinfo` of their descriptors.
//!
//! Apart because it is the only part of this source that asks by system calls, once a second. The
//! files stay open: to find and open one costs more than to read it.

use std::{
    collections::btree_map,
    fs::File,
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::fs::FileExt as _,
    },
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use raindrops_ebpf::names::{map, program};

use super::Bpf;

const MEMLOCK: &str = "memlock:";
const SKIPPED: &str = "recursion_misses:";

/// Bytes of a map's memory.
pub(super) fn memory_of(map: &Map) -> Option<u64> {
    memlock(data_of(map)?.fd())
}

fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::Queue(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

/// What the kernel accounts for a map.
fn memlock(descriptor: impl AsFd) -> Option<u64> {
    number(&info_of(descriptor)?, MEMLOCK)
}

/// A descriptor's `fdinfo`.
fn info_of(descriptor: impl AsFd) -> Option<File> {
    let descriptor = descriptor.as_fd().as_raw_fd();
    File::open(format!("/proc/self/fdinfo/{descriptor}")).ok()
}

/// A number of an `fdinfo`, as it is now.
fn number(info: &File, name: &str) -> Option<u64> {
    let mut bytes = [0; 1024];
    let length = info.read_at(&mut bytes, 0).ok()?;
    let text = str::from_utf8(bytes.get(..length)?).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}

impl Bpf {
    /// Asks the kernel for its own figures about the programs and their maps.
    pub fn ask_kernel(&mut self) {
        self.look_at_skipped();
        let connections = self.memory_of_connections();
        self.hooks.memory = self
            .fixed_memory
            .zip(connections)
            .map(|(fixed, connections)| fixed + connections);
    }

    /// Whether no connection is followed; false where the kernel does not tell.
    pub(super) fn has_no_connections(&mut self) -> bool {
        self.empty_table.is_some() && self.memory_of_connections() == self.empty_table
    }

    fn memory_of_connections(&mut self) -> Option<u64> {
        let info = self.info(map::CONNECTIONS, |ebpf| {
            info_of(data_of(ebpf.map(map::CONNECTIONS)?)?.fd())
        });
        number(info?, MEMLOCK)
    }

    /// Looks at how many accepts the kernel has not handed to the programs, because another was
    /// being dealt with on that CPU: raw tracepoints and fexit of kernels since 7.0 are preemptible.
    fn look_at_skipped(&mut self) {
        let programs = std::mem::take(&mut self.accept_programs);
        let skipped = programs.iter().filter_map(|name| self.skipped(name));
        self.skipped_accepts = skipped.sum();
        self.accept_programs = programs;
        self.skipped_arrivals = self.skipped(program::DATA_READY).unwrap_or(0);
    }

    /// How many events a program that is loaded did not get.
    fn skipped(&mut self, name: &'static str) -> Option<u64> {
        let info = self.info(name, |ebpf| info_of(ebpf.program(name)?.fd().ok()?));
        number(info?, SKIPPED)
    }

    /// The `fdinfo` of a program or a map, opened once.
    fn info(
        &mut self,
        name: &'static str,
        open: impl FnOnce(&Ebpf) -> Option<File>,
    ) -> Option<&File> {
        Some(match self.infos.entry(name) {
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(new) => new.insert(open(&self.ebpf)?),
        })
    }
}
