//! The built `raindrops`, started on a socket of its own.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use raindrops_user::view::{Source, SourceState, View};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{http, wait};

pub const NOBODY: u32 = 65534;

/// Variable that holds the daemon's `--accept-hook`, where a test does not choose one.
pub const ACCEPT_HOOK: &str = "RAINDROPS_ACCEPT_HOOK";

/// The binary under test: what `cargo xtask test` built, else the last build there is.
#[must_use]
pub fn binary() -> Option<PathBuf> {
    if let Some(path) = env::var_os("RAINDROPS_BIN") {
        return Some(path.into());
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()?
        .join("target");
    let mut profiles = ["release", "debug"].into_iter();
    profiles.find_map(|profile| {
        Some(target.join(profile).join("raindrops")).filter(|path| path.exists())
    })
}

/// `raindrops ARGUMENTS`, to its end.
pub fn raindrops<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Output> {
    let binary = binary().context("raindrops is not built")?;
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command.output().context("running raindrops")
}

/// Who runs the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    Same,
    Nobody,
}

/// A directory for a daemon's socket and log; outlives the daemons that are started in it.
#[derive(Debug)]
pub struct Place {
    directory: TempDir,
    /// Of the socket, in the directory.
    subdirectory: &'static str,
    /// Network namespaces that daemons read where their arguments do not say.
    netns: Option<&'static str>,
}

impl Place {
    pub fn new() -> Result<Self> {
        Self::with_socket_in("")
    }

    /// A place where the daemon has to make the directory of its socket.
    pub fn with_socket_in(subdirectory: &'static str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("raindrops-").tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            directory,
            subdirectory,
            // Other tests run at the same time, in namespaces of theirs, with the same addresses.
            netns: Some("own"),
        })
    }

    /// A place whose daemons decide themselves which network namespaces they read.
    pub fn with_default_namespaces() -> Result<Self> {
        let mut place = Self::new()?;
        place.netns = None;
        Ok(place)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path().join(self.subdirectory).join("raindrops.sock")
    }

    /// Starts `raindrops serve` without waiting for it.
    pub fn spawn(&self, user: User, arguments: &[&str]) -> Result<Daemon> {
        self.spawn_after("", user, arguments)
    }

    /// Starts `raindrops serve` through a shell, which sets what is inherited, and waits until it
    /// answers.
    pub fn start_after(&self, shell: &str, arguments: &[&str]) -> Result<Daemon> {
        let mut daemon = self.spawn_after(shell, User::Same, arguments)?;
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    /// Copies a program to where anybody may run it. Another process writes it: a descriptor open
    /// for writing here would be inherited by what other tests start at this instant, and a program
    /// that is open for writing cannot be run.
    pub fn copy_for_anybody(&self, program: &Path) -> Result<PathBuf> {
        let copy = self.path().join("raindrops");
        let install = Command::new("install")
            .args(["-m", "755"])
            .args([program, &copy])
            .status()
            .context("running install")?;
        ensure!(install.success(), "install: {install}");
        Ok(copy)
    }

    fn spawn_after(&self, shell: &str, user: User, arguments: &[&str]) -> Result<Daemon> {
        let mut binary = binary().context("raindrops is not built")?;
        if user == User::Nobody {
            chown(self.path(), Some(NOBODY), Some(NOBODY)).context("giving the directory away")?;
            // The build directory may lie where only its owner can go.
            binary = self.copy_for_anybody(&binary)?;
        }
        let log = self.path().join("log");
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("{shell}\nexec \"$0\" \"$@\""))
            .arg(binary)
            .arg("serve")
            .arg("--socket")
            .arg(self.socket())
            .args(arguments)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        if let Some(netns) = self.netns
            && !arguments.contains(&"--netns")
        {
            command.args(["--netns", netns]);
        }
        if let Some(hook) = env::var_os(ACCEPT_HOOK)
            && !arguments.contains(&"--accept-hook")
        {
            command.arg("--accept-hook").arg(hook);
        }
        if user == User::Nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.spawn().context("starting raindrops serve")?;
        Ok(Daemon {
            child,
            socket: self.socket(),
            log,
        })
    }

    /// Starts `raindrops serve` and waits until it answers.
    pub fn start(&self, user: User, arguments: &[&str]) -> Result<Daemon> {
        let mut daemon = self.spawn(user, arguments)?;
        daemon.wait_until_ready()?;
        Ok(daemon)
    }
}

/// A running `raindrops serve`; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    fn wait_until_ready(&mut self) -> Result<()> {
        let (child, socket, log) = (&mut self.child, &self.socket, &self.log);
        wait::until("the daemon to answer /healthz", || {
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(log).unwrap_or_default();
                bail!("the daemon ended ({status}) before it answered:\n{log}");
            }
            let is_ready = http::get(socket, "/healthz").is_ok_and(|answer| answer.status == 200);
            Ok(is_ready.then_some(()))
        })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn get(&self, path: &str) -> Result<http::Response> {
        http::get(&self.socket, path)
    }

    pub fn post(&self, path: &str) -> Result<http::Response> {
        http::post(&self.socket, path)
    }

    pub fn view(&self) -> Result<View> {
        self.view_at("/v1/view")
    }

    /// The view with the buckets of its histograms.
    pub fn view_with_buckets(&self) -> Result<View> {
        self.view_at("/v1/view?buckets=1")
    }

    fn view_at(&self, path: &str) -> Result<View> {
        let answer = self.get(path)?;
        ensure!(answer.status == 200, "{path} answered {}", answer.status);
        serde_json::from_slice(&answer.body).context("decoding the view")
    }

    /// The first view that shows what is waited for.
    pub fn until(&self, what: &str, shows: impl Fn(&View) -> bool) -> Result<View> {
        let mut last = None;
        let found = wait::until(what, || {
            let view = self.view()?;
            let is_shown = shows(&view);
            last = Some(view);
            Ok(is_shown.then_some(()))
        });
        match (found, last) {
            (Ok(()), Some(view)) => Ok(view),
            (Err(error), Some(view)) => {
                let listeners = serde_json::to_string_pretty(&view.listeners)?;
                let slabs = serde_json::to_string(&view.slabs)?;
                let (workers, gaps) = (&view.workers, &view.gaps);
                Err(error.context(format!(
                    "last view: {listeners}\n{workers:?}\n{slabs}\n{gaps:?}"
                )))
            }
            (Err(error), None) => Err(error),
            (Ok(()), None) => bail!("no view"),
        }
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid().cast_signed()).context("pid 0")?;
        kill_process(pid, signal).with_context(|| format!("sending {signal:?}"))
    }

    pub fn wait_for_end(&mut self) -> Result<ExitStatus> {
        wait::until("the daemon to end", || Ok(self.child.try_wait()?))
    }

    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn until_logged(&self, text: &str) -> Result<()> {
        wait::until(&format!("{text:?} in the log"), || {
            Ok(self.log().contains(text).then_some(()))
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Captured by libtest, which shows it only when the test fails.
        println!(
            "--- log of raindrops serve, pid {}\n{}---",
            self.pid(),
            self.log()
        );
    }
}

/// A source of the view by its name.
pub fn source<'a>(view: &'a View, name: &str) -> Result<&'a Source> {
    let source = view.sources.iter().find(|source| source.name == name);
    source.with_context(|| format!("no source {name} among {:?}", view.sources))
}

/// No later than a source was read, by the clock of [`wait::monotonic_ns`].
pub fn read_at_ns(view: &View, name: &str) -> Result<u64> {
    let age = source(view, name)?.age_ms;
    let age = age.with_context(|| format!("{name} has no figures"))?;
    Ok(wait::before_ns(view.monotonic_ns, age))
}

/// BPF must serve here; `Need::Bpf` has said that it can.
pub fn expect_bpf(view: &View) -> Result<()> {
    let bpf = source(view, "bpf")?;
    ensure!(
        bpf.state != SourceState::Off,
        "BPF is off: {:?}",
        bpf.reason
    );
    Ok(())
}
