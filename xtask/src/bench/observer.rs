//! What observes connections while their cost is measured: nothing, raindrops, and two tools that
//! are told of every event.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use super::{
    bpf::{Program, Runs, Statistics, map_bytes, programs},
    child::{Answering, Running, until},
    daemon::{Daemon, processor_time},
    load::churn,
    needs,
};

/// Waits per listener and accepts per worker with tracepoints only.
const SCRIPT: &str = include_str!("accept_latency.bt");

/// Connections that show whether the programs run.
const PROBE: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    Nothing,
    Raindrops,
    Tcpstates,
    Bpftrace,
}

impl Tool {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Raindrops => "raindrops",
            Self::Tcpstates => "tcpstates",
            Self::Bpftrace => "bpftrace",
        }
    }

    /// Those that this machine has; a note for each that it has not.
    pub fn available(notes: &mut Vec<String>) -> Vec<Self> {
        let mut available = vec![Self::Nothing, Self::Raindrops];
        for tool in [Self::Tcpstates, Self::Bpftrace] {
            match needs::absent(tool.name()) {
                Some(note) => notes.push(note),
                None => available.push(tool),
            }
        }
        available
    }
}

#[derive(Debug)]
pub enum Observer {
    Nothing,
    Daemon(Daemon),
    Other(Running),
}

impl Observer {
    /// Starts it, and waits until its programs run when connections come.
    pub fn start(tool: Tool, raindrops: &Path, load: &mut Answering) -> Result<Self> {
        let other = |command: &mut Command| {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            Running::start(command).map(Self::Other)
        };
        let mut observer = match tool {
            Tool::Nothing => return Ok(Self::Nothing),
            Tool::Raindrops => Self::Daemon(Daemon::start(raindrops, &[])?),
            Tool::Tcpstates => other(&mut Command::new("tcpstates"))?,
            Tool::Bpftrace => other(Command::new("bpftrace").args(["-e", SCRIPT]))?,
        };
        observer.wait_until_running(tool, load)?;
        Ok(observer)
    }

    fn wait_until_running(&mut self, tool: Tool, load: &mut Answering) -> Result<()> {
        let _statistics = Statistics::on()?;
        until(&format!("programs of {} to run", tool.name()), || {
            if let Self::Other(running) = self
                && running.has_ended()?
            {
                bail!("{} ended at once", tool.name());
            }
            churn(load, PROBE)?;
            let runs: u64 = self.programs()?.values().map(|runs| runs.count).sum();
            Ok((runs >= u64::from(PROBE)).then_some(()))
        })
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Self::Nothing => None,
            Self::Daemon(daemon) => Some(daemon.pid()),
            Self::Other(running) => Some(running.pid()),
        }
    }

    pub fn programs(&self) -> Result<BTreeMap<Program, Runs>> {
        self.pid().map_or_else(|| Ok(BTreeMap::new()), programs)
    }

    /// Bytes of its maps.
    pub fn map_bytes(&self) -> Result<u64> {
        self.pid().map_or(Ok(0), map_bytes)
    }

    /// Processor time of its own process, in seconds.
    pub fn processor_seconds(&self) -> Result<f64> {
        let Some(pid) = self.pid() else {
            return Ok(0.0);
        };
        let threads = processor_time(pid)?;
        Ok(threads.values().map(|time| time.as_secs_f64()).sum())
    }

    /// Detaches its programs. The other tools are killed: bpftrace sometimes misses a signal that
    /// asks it to end, and the kernel detaches what nobody holds.
    pub fn end(self) -> Result<()> {
        match self {
            Self::Nothing | Self::Other(_) => Ok(()),
            Self::Daemon(daemon) => daemon.end(),
        }
    }
}
