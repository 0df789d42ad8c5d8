//! puma: a cluster of two workers, TCP and unix, with its control socket, and one without workers.

use std::net::SocketAddr;

use anyhow::Result;

use super::{Recipe, Server, local, run_dir};

/// Backlog of every listener, which is puma's default.
pub const BACKLOG: u32 = 1024;
/// The control socket, in the run directory.
pub const CONTROL: &str = "pumactl.sock";
/// That of the one without workers.
pub const SINGLE_CONTROL: &str = "pumactl1.sock";
/// What the control servers ask for.
pub const TOKEN: &str = "tok3n";

pub fn start() -> Result<Server> {
    start_with(2, "1:4")
}

/// One that has so many workers, or 0 for a single process, and `LEAST:MOST` threads in each.
pub fn start_with(workers: usize, threads: &str) -> Result<Server> {
    start_from("", workers, threads)
}

/// One whose application also counts in a slab.
pub fn start_with_slab(workers: usize, threads: &str) -> Result<Server> {
    start_from("slab/", workers, threads)
}

fn start_from(directory: &str, workers: usize, threads: &str) -> Result<Server> {
    Recipe {
        kind: "puma",
        program: "puma",
        arguments: vec![
            "-C".to_owned(),
            format!("{directory}puma.rb"),
            format!("{directory}config.ru"),
        ],
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

/// Without workers.
pub fn start_single() -> Result<Server> {
    single(Vec::new())
}

/// Without workers, and with its control server on TCP.
pub fn start_controlled_by(control: SocketAddr) -> Result<Server> {
    let url = format!("tcp://{control}");
    let arguments = ["--control-url", &url, "--control-token", TOKEN];
    single(arguments.map(str::to_owned).to_vec())
}

fn single(mut arguments: Vec<String>) -> Result<Server> {
    arguments.extend(["-C", "puma_single.rb", "config.ru"].map(str::to_owned));
    Recipe {
        kind: "puma",
        program: "puma",
        arguments,
        environment: Vec::new(),
        tcp: vec![local(18181)],
        unix: Vec::new(),
        workers: 0,
    }
    .start(run_dir()?)
}
