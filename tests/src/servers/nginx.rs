//! nginx: two workers with a SO_REUSEPORT listener each, and a shared unix listener.

use std::fs::{self, File};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::{Recipe, Server, fixtures, local, run_dir};
use crate::client::{Address, Client};

pub const ADDRESS: &str = "127.0.0.1:18480";

/// Backlog of every listener, which is nginx's default on Linux.
pub const BACKLOG: u32 = 511;

/// In the run directory, the log of requests for `/logged`.
pub const LOG: &str = "access";

pub fn start() -> Result<Server> {
    start_in(run_dir()?)
}

/// One that logs requests for `/logged` to a pipe, and the pipe. A worker that logs more than it
/// takes is kept from everything else.
pub fn start_logging_to_pipe() -> Result<(Server, File)> {
    let run_dir = run_dir()?;
    let log = run_dir.path().join(LOG);
    mknodat(CWD, &log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).context("making a pipe")?;
    // Also for reading, as else nginx would wait for somebody who does.
    let pipe = File::options().read(true).write(true).open(&log)?;
    Ok((start_in(run_dir)?, pipe))
}

fn start_in(run_dir: TempDir) -> Result<Server> {
    let directory = run_dir.path().to_string_lossy().into_owned();
    let template = fixtures().join("nginx.conf.in");
    let template = fs::read_to_string(template).context("reading nginx.conf.in")?;
    let configuration = run_dir.path().join("nginx.conf");
    fs::write(&configuration, template.replace("@RUN_DIR@", &directory))?;
    Recipe {
        kind: "nginx",
        program: "nginx",
        arguments: ["-p", &directory, "-c", "nginx.conf", "-e", "err.log"]
            .map(str::to_owned)
            .to_vec(),
        environment: Vec::new(),
        tcp: vec![local(18480)],
        unix: vec!["nginx.sock"],
        workers: 2,
    }
    .start(run_dir)
}

/// What its workers have counted together, by stub_status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub accepts: u64,
    pub requests: u64,
    pub writing: u64,
    pub waiting: u64,
}

impl Status {
    /// Asks over the unix listener; the asking connection and its request are taken off.
    pub fn of(server: &Server) -> Result<Self> {
        let mut client = Client::connect(&Address::Unix(server.unix[0].clone()))?;
        client.ask_and_close("/s")?;
        let answer = String::from_utf8(client.answered()?)?;
        let numbers: Vec<u64> = answer
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        // Active connections; accepts, handled, requests; reading, writing, waiting.
        let [_, accepts, _, requests, _, writing, waiting] = numbers[..] else {
            anyhow::bail!("unexpected status: {answer}");
        };
        Ok(Self {
            accepts: accepts - 1,
            requests: requests - 1,
            writing: writing - 1,
            waiting,
        })
    }
}
