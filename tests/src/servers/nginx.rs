//! nginx: two workers with a SO_REUSEPORT listener each, and a shared unix listener.

use std::{
    fs::{self, File},
    net::SocketAddr,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
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
    start_from("nginx.conf.in", run_dir()?, vec![local(18480)])
}

/// Listeners that speak one version of TLS each. The unix listener speaks none.
pub const TLS_1_2: &str = "127.0.0.1:18482";
pub const TLS_1_3: &str = "127.0.0.1:18483";

/// With a certificate that it has signed itself.
pub fn start_with_tls() -> Result<Server> {
    let run_dir = run_dir()?;
    let (key, certificate) = ("key.pem", "certificate.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-subj", "/CN=localhost"])
        .args(["-keyout", key, "-out", certificate])
        .current_dir(run_dir.path())
        .output()
        .context("running openssl")?;
    ensure!(
        made.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    start_from("nginx_tls.conf.in", run_dir, Vec::new())
}

/// One that logs requests for `/logged` to a pipe, and the pipe. A worker that logs more than it
/// takes is kept from everything else.
pub fn start_logging_to_pipe() -> Result<(Server, File)> {
    let run_dir = run_dir()?;
    let log = run_dir.path().join(LOG);
    mknodat(CWD, &log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).context("making a pipe")?;
    // Also for reading, as else nginx would wait for somebody who does.
    let pipe = File::options().read(true).write(true).open(&log)?;
    Ok((
        start_from("nginx.conf.in", run_dir, vec![local(18480)])?,
        pipe,
    ))
}

fn start_from(template: &str, run_dir: TempDir, tcp: Vec<SocketAddr>) -> Result<Server> {
    let directory = run_dir.path().to_string_lossy().into_owned();
    let text = fs::read_to_string(fixtures().join(template));
    let text = text.with_context(|| format!("reading {template}"))?;
    let configuration = run_dir.path().join("nginx.conf");
    fs::write(&configuration, text.replace("@RUN_DIR@", &directory))?;
    Recipe {
        kind: "nginx",
        program: "nginx",
        arguments: ["-p", &directory, "-c", "nginx.conf", "-e", "err.log"]
            .map(str::to_owned)
            .to_vec(),
        environment: Vec::new(),
        tcp,
        unix: vec!["nginx.sock"],
        workers: 2,
    }
    .start(run_dir)
}

/// What its workers have counted together, by stub_status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status {
    pub accepts: u64,
    pub handled: u64,
    pub requests: u64,
    pub active: u64,
    pub reading: u64,
    pub writing: u64,
    pub waiting: u64,
}

impl Status {
    /// Asks over the unix listener; the asking connection and its request are taken off.
    pub fn of(server: &Server) -> Result<Self> {
        let mut client = Client::connect(&Address::Unix(server.unix[0].clone()))?;
        client.ask_and_close("/s")?;
        let answer = String::from_utf8(client.answered()?)?;
        client.closed()?;
        let numbers: Vec<u64> = answer
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [
            active,
            accepts,
            handled,
            requests,
            reading,
            writing,
            waiting,
        ] = numbers[..]
        else {
            anyhow::bail!("unexpected status: {answer}");
        };
        Ok(Self {
            accepts: accepts - 1,
            handled: handled - 1,
            requests: requests - 1,
            active: active - 1,
            reading,
            writing: writing - 1,
            waiting,
        })
    }

    /// As it is after having been asked once more.
    #[must_use]
    pub const fn asked(self) -> Self {
        Self {
            accepts: self.accepts + 1,
            handled: self.handled + 1,
            requests: self.requests + 1,
            ..self
        }
    }
}
