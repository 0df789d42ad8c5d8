//! `raindrops serve` under measurement.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    child::{Running, until},
    http::Client,
};

#[derive(Debug)]
pub struct Daemon {
    running: Running,
    directory: TempDir,
}

impl Daemon {
    /// Starts it with `arguments` and waits until it answers.
    pub fn start(binary: &Path, arguments: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("raindrops-").tempdir()?;
        let log = directory.path().join("log");
        let output = File::create(&log)?;
        let mut command = Command::new(binary);
        command
            .arg("serve")
            .arg("--socket")
            .arg(directory.path().join("raindrops.sock"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut daemon = Self {
            running: Running::start(&mut command)?,
            directory,
        };
        until("the daemon to answer", || {
            if daemon.running.has_ended()? {
                let log = fs::read_to_string(&log).unwrap_or_default();
                bail!("the daemon ended before it answered:\n{log}");
            }
            Ok(daemon
                .client("/healthz")
                .and_then(|mut client| Ok(client.get()?.len()))
                .ok())
        })?;
        Ok(daemon)
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("raindrops.sock")
    }

    pub fn client(&self, path: &str) -> Result<Client> {
        Client::connect(&self.socket(), path)
    }

    pub fn view(&self) -> Result<Value> {
        let mut client = self.client("/v1/view")?;
        serde_json::from_slice(client.get()?).context("decoding the view")
    }

    /// Active connections of all TCP listeners; unix ones are those of the measurement itself.
    pub fn active_connections(&self) -> Result<u64> {
        let active = |listener: &Value| listener["connections"]["active"].as_u64();
        Ok(self.tcp_listeners()?.iter().filter_map(active).sum())
    }

    /// Turns of all TCP listeners.
    pub fn turns(&self) -> Result<u64> {
        let total = |listener: &Value| listener["turns"]["total"].as_u64();
        Ok(self.tcp_listeners()?.iter().filter_map(total).sum())
    }

    fn tcp_listeners(&self) -> Result<Vec<Value>> {
        let view = self.view()?;
        let listeners = view["listeners"].as_array().context("no listeners")?;
        let tcp = listeners
            .iter()
            .filter(|listener| listener["protocol"] == "tcp");
        Ok(tcp.cloned().collect())
    }

    /// What the view says of a source.
    pub fn source(&self, name: &str) -> Result<Value> {
        let view = self.view()?;
        let sources = view["sources"].as_array();
        let mut sources = sources.into_iter().flatten();
        let source = sources.find(|source| source["name"] == name);
        source.cloned().with_context(|| format!("no source {name}"))
    }

    pub fn end(mut self) -> Result<()> {
        self.running.end(Signal::TERM)
    }
}

/// Processor time of a process's threads that live, by their names.
pub fn processor_time(pid: u32) -> Result<BTreeMap<String, Duration>> {
    let mut times = BTreeMap::new();
    let tasks = format!("/proc/{pid}/task");
    for task in fs::read_dir(&tasks).with_context(|| format!("listing {tasks}"))? {
        let task = task?.path();
        let name = fs::read_to_string(task.join("comm"))?.trim_end().to_owned();
        let schedstat = fs::read_to_string(task.join("schedstat"))?;
        let nanoseconds = schedstat.split_whitespace().next();
        let nanoseconds = nanoseconds.and_then(|number| number.parse().ok());
        let nanoseconds = nanoseconds.context("no time in schedstat")?;
        *times.entry(name).or_default() += Duration::from_nanos(nanoseconds);
    }
    Ok(times)
}

/// A line of `/proc/PID/status`, in KiB.
pub fn memory_kib(pid: u32, line: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status
        .lines()
        .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))
        .and_then(|value| value.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("no {line} in status"))
}
