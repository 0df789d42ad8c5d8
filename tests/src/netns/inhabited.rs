//! A network namespace that a process lives in or a name stands for, as on a host with containers:
//! the thread of a test is in another one.

use std::{
    fs::{self, File},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Ends with its process or name when dropped, unless something else keeps it.
#[derive(Debug)]
pub struct Inhabited {
    inode: u32,
    child: Option<Child>,
    name: Option<String>,
}

impl Inhabited {
    /// One without a name, in which a process sleeps.
    pub fn unnamed() -> Result<Self> {
        let child = super::in_new(|| {
            let mut sleep = Command::new("sleep");
            sleep.arg("1000").stdin(Stdio::null()).stdout(Stdio::null());
            sleep.spawn().context("starting sleep")
        })?;
        let inode = fs::metadata(format!("/proc/{}/ns/net", child.id()))?.ino();
        Ok(Self {
            inode: u32::try_from(inode)?,
            child: Some(child),
            name: None,
        })
    }

    /// One with a name of its own and no process.
    pub fn named() -> Result<Self> {
        let mut namespace = Self::unnamed()?;
        let name = new_name();
        let pid = namespace.pid().context("it was just started")?;
        ip(&["netns", "attach", &name, &pid.to_string()])?;
        namespace.name = Some(name);
        namespace.end_process()?;
        Ok(namespace)
    }

    #[must_use]
    pub const fn inode(&self) -> u32 {
        self.inode
    }

    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Of the process that lives in it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Runs `body` in it.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = match (&self.name, self.pid()) {
            (Some(name), _) => named_path(name),
            (None, Some(pid)) => PathBuf::from(format!("/proc/{pid}/ns/net")),
            (None, None) => anyhow::bail!("nothing leads to the namespace any more"),
        };
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("entering a network namespace")?;
                drop(file);
                body()
            });
            inside.join().expect("the body does not panic")
        })
    }

    fn end_process(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("ending the process")?;
            child.wait().context("waiting for the process")?;
        }
        Ok(())
    }
}

impl Drop for Inhabited {
    fn drop(&mut self) {
        let _ = self.end_process();
        if let Some(name) = &self.name {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

/// Where `ip netns` keeps a name.
#[must_use]
pub fn named_path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// A name that no other test has.
#[must_use]
pub fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("raindrops-test-{}-{number}", process::id())
}

/// Runs `ip` in the namespace of the calling thread.
pub fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.context("running ip")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments:?}: {error}");
    Ok(())
}
