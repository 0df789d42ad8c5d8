//! The loads: processes of this binary, so that they are not part of what measures them.
//!
//! Each does one thing. It prints `READY` when that is prepared, obeys lines on its standard input,
//! and ends when that is closed.

mod churn;
mod count;
mod getppid;
mod hold;
mod keep_alive;
mod listen;
mod serve;
mod sockets;
mod stalls;
mod workers;

use std::{
    io::{BufRead as _, Write as _},
    mem::MaybeUninit,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::child::{Answering, numbers};
pub use stalls::{ARRIVALS, EVERY as STALL_EVERY, STALL};

/// A load process; for `bench` only.
#[derive(Debug, clap::Subcommand)]
pub enum Load {
    /// Listeners that nobody connects to
    Listen(listen::Listen),
    /// Listeners with forked workers that keep what they accept
    Serve(serve::Serve),
    /// Connections that stay open
    Hold(hold::Hold),
    /// Short connections, as fast as one client makes them
    Churn(churn::Churn),
    /// Connections that a server's answers come over again and again
    KeepAlive(keep_alive::KeepAlive),
    /// Counting in a slab
    Count(count::Count),
    /// A system call that nobody observes
    Getppid,
    /// Listeners whose worker stalls once, each at its time
    Stalls(stalls::Stalls),
}

impl Load {
    pub fn run(&self) -> Result<()> {
        sockets::raise_descriptor_limit()?;
        match self {
            Self::Listen(load) => load.run(),
            Self::Serve(load) => load.run(),
            Self::Hold(load) => load.run(),
            Self::Churn(load) => load.run(),
            Self::KeepAlive(load) => load.run(),
            Self::Count(load) => load.run(),
            Self::Getppid => getppid::run(),
            Self::Stalls(load) => load.run(),
        }
    }

    /// Starts `load ARGUMENTS` and waits until it is ready; what it says then is returned too.
    pub fn start(arguments: &[&str]) -> Result<(Answering, String)> {
        let this = std::env::current_exe().context("finding this program")?;
        let mut load = Answering::start(Command::new(this).arg("load").args(arguments))?;
        let line = load.line()?;
        let rest = line.strip_prefix("READY");
        let rest = rest.with_context(|| format!("load {arguments:?} said {line:?}"))?;
        let rest = rest.trim().to_owned();
        Ok((load, rest))
    }
}

/// What one run of [`Load::Churn`] took.
#[derive(Clone, Copy, Debug)]
pub struct Churned {
    pub connections: u32,
    pub seconds: f64,
    /// Processor time of client and server, which includes what runs in the kernel for them.
    pub cpu_seconds: f64,
}

impl Churned {
    pub fn per_second(&self) -> f64 {
        f64::from(self.connections) / self.seconds
    }

    pub fn cpu_us_per_connection(&self) -> f64 {
        self.cpu_seconds * 1e6 / f64::from(self.connections)
    }
}

/// Short connections, `connections` of them.
pub fn churn(load: &mut Answering, connections: u32) -> Result<Churned> {
    let [seconds, cpu_seconds] = numbers(&load.ask(&connections.to_string())?)?;
    Ok(Churned {
        connections,
        seconds,
        cpu_seconds,
    })
}

/// What one run of [`Load::KeepAlive`] took.
#[derive(Clone, Copy, Debug)]
pub struct KeptAlive {
    pub requests: u32,
    pub seconds: f64,
    /// Processor time of the client.
    pub cpu_seconds: f64,
    /// What the client did.
    pub reads: u32,
    pub writes: u32,
    pub waits: u32,
}

/// Requests over open connections, `requests` of them.
pub fn keep_alive(load: &mut Answering, requests: u32) -> Result<KeptAlive> {
    let answer = load.ask(&requests.to_string())?;
    let [seconds, cpu_seconds, reads, writes, waits]: [f64; 5] = numbers(&answer)?;
    Ok(KeptAlive {
        requests,
        seconds,
        cpu_seconds,
        reads: reads as u32,
        writes: writes as u32,
        waits: waits as u32,
    })
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush().context("answering")
}

/// Answers every line until there are no more.
fn obey(mut answer: impl FnMut(u32) -> Result<String>) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let [number] = numbers(&line?)?;
        say(&answer(number)?)?;
    }
    Ok(())
}

fn wait_for_the_end() -> Result<()> {
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    Ok(())
}

/// Ports of `count` listeners from `first` on.
fn ports(first: u16, count: u16) -> Result<std::ops::Range<u16>> {
    let end = first.checked_add(count);
    ensure!(
        end.is_some() && count != 0,
        "no ports {first} and {count} more"
    );
    Ok(first..first + count)
}

/// Of this process and of its children that have ended.
fn processor_time() -> Duration {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN]
        .into_iter()
        .map(|who| {
            let mut usage = MaybeUninit::<libc::rusage>::zeroed();
            // SAFETY: the kernel writes an `rusage`, which is plain data and valid when zero.
            let usage = unsafe {
                libc::getrusage(who, usage.as_mut_ptr());
                usage.assume_init()
            };
            duration(usage.ru_utime) + duration(usage.ru_stime)
        })
        .sum()
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    seconds + Duration::from_micros(time.tv_usec.unsigned_abs())
}
