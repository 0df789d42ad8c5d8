//! puma: a cluster of two workers, TCP and unix, with its control socket.

use anyhow::Result;

use super::{Recipe, Server, local, run_dir};

/// Backlog of every listener, which is puma's default.
pub const BACKLOG: u32 = 1024;
/// The control socket, in the run directory.
pub const CONTROL: &str = "pumactl.sock";

pub fn start() -> Result<Server> {
    start_with(2, "1:4")
}

/// One that has so many workers, or 0 for a single process, and `LEAST:MOST` threads in each.
pub fn start_with(workers: usize, threads: &str) -> Result<Server> {
    Recipe {
        kind: "puma",
        program: "puma",
        arguments: ["-C", "puma.rb", "config.ru"].map(str::to_owned).to_vec(),
        environment: vec![
            ("WORKERS", workers.to_string().into()),
            ("THREADS", threads.into()),
        ],
        tcp: vec![local(18180)],
        unix: vec!["puma.sock"],
        workers,
    }
    .start(run_dir()?)
}
