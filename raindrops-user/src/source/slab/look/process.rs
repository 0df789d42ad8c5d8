//! A process, and what it has mapped.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    time::Duration,
};

use crate::{
    ids::{Monotonic, Pid, StartTicks},
    snapshot::slabs::Memory,
    source::slab::{
        declared,
        maps::{Mapping, Maps},
        remote,
    },
};

/// Between readings of one process's memory map: doubled from the first to the last.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of a memory map: some 80,000 lines.
const MAPS: u64 = 8 << 20;

/// A process, and what it had mapped when that was last read.
#[derive(Debug)]
pub(super) struct Known {
    pub started: StartTicks,
    pub pid_namespace: Option<u32>,
    pub maps: Maps,
    pub is_readable: bool,
    pub due: Monotonic,
    pause: Duration,
}

impl Known {
    pub fn new(started: StartTicks) -> Self {
        Self {
            started,
            pid_namespace: None,
            maps: Maps::default(),
            is_readable: true,
            due: Monotonic(Duration::ZERO),
            pause: FIRST_PAUSE,
        }
    }

    pub fn read(&mut self, pid: Pid, now: Monotonic) {
        match read_maps(pid) {
            Ok(bytes) => {
                self.maps = Maps::parse(&bytes, declared::LONGEST);
                // Some file systems (btrfs) have one device for maps and another for stat.
                for mapping in &mut self.maps.shared {
                    if let Ok(Some(memory)) = remote::memory_at(pid, mapping) {
                        mapping.memory = memory;
                    }
                }
                self.is_readable = true;
            }
            Err(error) => self.is_readable = error.kind() != io::ErrorKind::PermissionDenied,
        }
        if self.pid_namespace.is_none() {
            self.pid_namespace = pid_namespace(&format!("/proc/{pid}/ns/pid"));
        }
        self.due = Monotonic(now.0 + self.pause);
        self.pause = (self.pause * 2).min(LAST_PAUSE);
    }

    pub fn maps(&self, memory: Memory) -> Option<&Mapping> {
        self.maps.shared.iter().find(|it| it.memory == memory)
    }
}

fn read_maps(pid: Pid) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/maps"))?
        .take(MAPS)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn pid_namespace(link: &str) -> Option<u32> {
    u32::try_from(std::fs::metadata(link).ok()?.ino()).ok()
}
