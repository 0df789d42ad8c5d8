//! Processes that share one listener, each with its own epoll, and count what they accept.

use std::{
    ffi::OsStr,
    fs::File,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{fs::FileExt as _, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command},
};

use anyhow::{Context as _, Result};

/// Workers of one listener; killed when dropped.
#[derive(Debug)]
pub struct Workers {
    pub address: SocketAddr,
    workers: Vec<(Child, File)>,
}

impl Workers {
    /// Starts `titles.len()` processes of `program` (the binary `epoll_worker`), which show these
    /// titles.
    pub fn start(program: &str, listener: TcpListener, titles: &[&OsStr]) -> Result<Self> {
        let address = listener.local_addr()?;
        let listener = OwnedFd::from(listener);
        let workers = titles.iter().map(|title| {
            let counts = tempfile::tempfile().context("a file for a worker's count")?;
            let child = Command::new(Path::new(program))
                .arg0(title)
                .stdin(listener.try_clone()?)
                .stdout(counts.try_clone()?)
                .spawn()
                .context("starting a worker")?;
            Ok((child, counts))
        });
        Ok(Self {
            address,
            workers: workers.collect::<Result<_>>()?,
        })
    }

    /// What each worker has accepted by its own count, by pid.
    pub fn counts(&self) -> Result<Vec<(u32, u64)>> {
        let count = |(child, counts): &(Child, File)| {
            let mut bytes = [0; 8];
            // Empty until the first accept.
            let read = counts.read_at(&mut bytes, 0)?;
            let count = if read == 8 {
                u64::from_ne_bytes(bytes)
            } else {
                0
            };
            Ok((child.id(), count))
        };
        self.workers.iter().map(count).collect()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (child, _) in &mut self.workers {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
