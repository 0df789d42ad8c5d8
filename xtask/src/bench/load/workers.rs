//! Forked processes of a load, which end with it.

use std::io;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, waitpid};

/// Runs `body` in a fork of this process, which must have one thread only. Returns the child's pid.
pub fn fork(body: impl FnOnce() -> Result<()>) -> Result<Pid> {
    // SAFETY: this process has one thread, so the child may do what any process may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("forking"),
        0 => {
            let ended = set_parent_process_death_signal(Some(Signal::KILL))
                .context("tying a worker to its parent")
                .and_then(|()| body());
            if let Err(error) = &ended {
                eprintln!("load: {error:#}");
            }
            // SAFETY: it ends the process, without running what belongs to the parent.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        pid => Pid::from_raw(pid).context("a child without a pid"),
    }
}

/// Waits for a child's end. `false` when it failed.
pub fn succeeded(child: Pid) -> Result<bool> {
    let (_, status) = waitpid(Some(child), WaitOptions::empty())
        .context("waiting for a child")?
        .context("no child to wait for")?;
    Ok(status.exit_status() == Some(0))
}
