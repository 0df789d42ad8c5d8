//! The real servers, started from `tests/fixtures` with their state in a temporary directory.

pub mod acceptor;
pub mod epoll;
pub mod gunicorn;
pub mod middleware;
pub mod nginx;
pub mod puma;
pub mod rainbows;
pub mod unicorn;

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    process::{Pid, Signal, kill_process, kill_process_group},
    thread::{UnshareFlags, unshare_unsafe},
};
use tempfile::TempDir;

use crate::{client::Address, load, processes, slab, wait::CEILING};

/// Ruby servers load slowly on a machine that also compiles.
const START_CEILING: Duration = Duration::from_secs(60);

/// The slab of those that count in one, in the run directory.
const SLAB: &str = "server.slab";

/// A running server, in a process group of its own.
#[derive(Debug)]
pub struct Server {
    pub kind: &'static str,
    pub tcp: Vec<SocketAddr>,
    pub unix: Vec<PathBuf>,
    child: Child,
    run_dir: TempDir,
}

impl Server {
    #[must_use]
    pub fn master(&self) -> u32 {
        self.child.id()
    }

    /// The master's children, which are the workers.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        processes::children(self.master())
    }

    /// All its listeners.
    #[must_use]
    pub fn listeners(&self) -> Vec<Address> {
        let tcp = self.tcp.iter().copied().map(Address::Tcp);
        tcp.chain(self.unix.iter().cloned().map(Address::Unix))
            .collect()
    }

    /// A file of the server's.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.run_dir.path().join(name)
    }

    /// The file in which the processes of one with a slab count.
    #[must_use]
    pub fn slab(&self) -> PathBuf {
        self.path(SLAB)
    }

    /// Requests to `/park/NAME` and `/stream/NAME` stay unfinished until what is returned is dropped.
    pub fn hold(&self, name: &str) -> Result<Hold> {
        let path = self.path(name);
        File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Hold(path))
    }

    fn wait_until_it_serves(&mut self, workers: usize) -> Result<()> {
        let deadline = Instant::now() + START_CEILING;
        loop {
            let serves = self.workers().len() >= workers
                && self
                    .tcp
                    .iter()
                    .all(|address| load::tcp(*address, 1).is_ok())
                && self.unix.iter().all(|path| load::unix(path, 1).is_ok());
            if serves {
                return Ok(());
            }
            let status = self.child.try_wait()?;
            if status.is_some() || Instant::now() > deadline {
                bail!(
                    "{} does not serve ({status:?}):\n{}",
                    self.kind,
                    self.logs()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn logs(&self) -> String {
        fs::read_dir(self.run_dir.path())
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "log")
            })
            .filter_map(|entry| fs::read_to_string(entry.path()).ok())
            .collect()
    }
}

/// What the fixtures' application waits for the end of.
#[derive(Debug)]
pub struct Hold(PathBuf);

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(group) = Pid::from_raw(self.master().cast_signed()) else {
            return;
        };
        // The master first, because it would replace workers that die.
        let _ = kill_process(group, Signal::TERM);
        let deadline = Instant::now() + CEILING;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// What to start, before it runs.
struct Recipe {
    kind: &'static str,
    program: &'static str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, OsString)>,
    tcp: Vec<SocketAddr>,
    /// Names in the run directory.
    unix: Vec<&'static str>,
    workers: usize,
}

impl Recipe {
    fn start(self, run_dir: TempDir) -> Result<Server> {
        self.start_by(run_dir, Command::spawn)
    }

    /// Starts it in a pid namespace of its own, whose first process is the master.
    fn start_in_container(self, run_dir: TempDir) -> Result<Server> {
        self.start_by(run_dir, |command| {
            // A thread that has left its namespace can start processes only, no threads.
            let spawned = thread::scope(|scope| {
                let spawning = scope.spawn(|| {
                    // SAFETY: the flag concerns only the children of this thread.
                    unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?;
                    command.spawn()
                });
                spawning.join()
            });
            spawned.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        })
    }

    fn start_by(
        self,
        run_dir: TempDir,
        spawn: impl FnOnce(&mut Command) -> io::Result<Child>,
    ) -> Result<Server> {
        let output = File::create(run_dir.path().join("output.log"))?;
        let mut command = Command::new(self.program);
        command
            .args(&self.arguments)
            .env("STATS_FILE", run_dir.path().join(middleware::FILE))
            .env_remove("COUNTERS_FILE")
            .envs(self.environment)
            .env("RUN_DIR", run_dir.path())
            .env_remove("MODEL")
            .env_remove("WATCHER")
            .env("RAINDROPS_SLAB_FILE", run_dir.path().join(SLAB))
            .envs(slab::library().map(|path| (slab::LIBRARY, path)))
            .current_dir(fixtures())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let child = spawn(&mut command).with_context(|| format!("starting {}", self.program))?;
        let mut server = Server {
            kind: self.kind,
            tcp: self.tcp,
            unix: self
                .unix
                .iter()
                .map(|name| run_dir.path().join(name))
                .collect(),
            child,
            run_dir,
        };
        server.wait_until_it_serves(self.workers)?;
        Ok(server)
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn run_dir() -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("raindrops-").tempdir();
    directory.context("creating a directory for a server")
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
