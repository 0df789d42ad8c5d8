//! The inferred slabs of a look: what may be one is copied, and recognised.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

use super::Looker;
use crate::{
    ids::{Monotonic, Pid},
    snapshot::slabs::{Memory, SlabSnapshot, Suspect},
    source::slab::{
        inferred::{self, Copied, Host, Mapped},
        remote,
    },
};

/// Bytes that are copied in one look: a page for each of a thousand workers.
const TOGETHER: u64 = 4 << 20;

impl Looker {
    pub(super) fn infer(
        &mut self,
        suspects: &BTreeMap<Pid, Suspect>,
        quarantined: &BTreeSet<Pid>,
        snapshot: &mut SlabSnapshot,
    ) {
        let processes: BTreeMap<Pid, Mapped<'_>> = self
            .processes
            .iter()
            .filter_map(|(pid, known)| {
                let process = suspects.get(pid)?;
                let mapped = Mapped {
                    process,
                    maps: &known.maps,
                    is_read: known.is_readable && known.due.0 > Duration::ZERO,
                };
                Some((*pid, mapped))
            })
            .collect();
        let mut bytes: BTreeMap<Memory, Vec<u8>> = BTreeMap::new();
        let mut moved: BTreeSet<Pid> = BTreeSet::new();
        let mut left = TOGETHER;
        let began = Monotonic::now();
        for (pid, mapped) in &processes {
            for mapping in &mapped.maps.shared {
                let is_worth_it = mapping.length <= left
                    && !quarantined.contains(pid)
                    && !bytes.contains_key(&mapping.memory)
                    && inferred::is_candidate(*mapped, mapping);
                if !is_worth_it {
                    continue;
                }
                let mut copy = vec![0; mapping.length as usize];
                self.watch.begin(*pid);
                let copied = remote::copy(*pid, mapping.address, &mut copy);
                let is_there = remote::is_there(*pid, mapping);
                self.watch.end();
                match copied {
                    _ if !is_there => {
                        moved.insert(*pid);
                    }
                    Ok(()) => {
                        left -= mapping.length;
                        bytes.insert(mapping.memory, copy);
                    }
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        snapshot.unreadable.insert(*pid);
                    }
                    Err(_) => {}
                }
            }
        }
        let copied = Copied {
            began,
            ended: Monotonic::now(),
            suspended: suspended(),
        };
        let found = self.recogniser.recognise(&processes, &bytes, copied);
        snapshot.slabs.extend(found);
        for pid in moved {
            if let Some(known) = self.processes.get_mut(&pid) {
                known.due = copied.began;
            }
        }
    }
}

pub(super) fn host() -> Host {
    // SAFETY: asks for numbers.
    let (line, processors) = unsafe {
        (
            libc::sysconf(libc::_SC_LEVEL1_DCACHE_LINESIZE),
            libc::sysconf(libc::_SC_NPROCESSORS_CONF),
        )
    };
    Host {
        stride: inferred::stride(usize::try_from(line).ok(), processors == 1),
        musl_stride: inferred::stride(None, processors == 1),
        page: rustix::param::page_size(),
        ticks_per_second: rustix::param::clock_ticks_per_second(),
    }
}

/// Since the host was started.
fn suspended() -> Duration {
    let awake = clock_gettime(ClockId::Monotonic);
    let since_boot = clock_gettime(ClockId::Boottime);
    Duration::from_secs(since_boot.tv_sec.abs_diff(awake.tv_sec))
}
