//! `cargo xtask run`, the first command that the README gives.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::Place,
    http, listening,
    skip::{Need, can_run},
    wait,
};
use rustix::process::{Pid, Signal, kill_process_group};

/// Check that it starts a daemon, shows a first table with a listener that is there, names the
/// socket and three commands, and that Ctrl-C ends it with nothing left behind.
#[test]
fn starts_shows_and_stops() -> Result<()> {
    if !can_run(&[Need::Program("cargo")]) {
        return Ok(());
    }
    let listening = listening::tcp(16)?;
    let address = listening.local_addr()?.to_string();
    let place = Place::new()?;
    let socket = place.socket();
    let output = place.path().join("output");
    let mut child = Ended(spawn(&socket, &output)?);
    let printed = wait::until("the three commands", || {
        if let Some(status) = child.0.try_wait()? {
            anyhow::bail!("it ended ({status}): {}", fs::read_to_string(&output)?);
        }
        let text = fs::read_to_string(&output)?;
        let commands = text.matches("release/raindrops").count() + text.matches("curl ").count();
        Ok((commands >= 3).then_some(text))
    })?;
    assert!(printed.contains(&address), "{printed}");
    assert!(printed.contains(&*socket.to_string_lossy()), "{printed}");
    assert_eq!(http::get(&socket, "/healthz")?.status, 200);

    // As a terminal does, to all of them.
    let group = Pid::from_raw(child.0.id().cast_signed()).context("pid 0")?;
    kill_process_group(group, Signal::INT)?;
    let status = wait::until("its end", || Ok(child.0.try_wait()?))?;
    assert!(status.success(), "{status}");
    assert!(!socket.exists());
    Ok(())
}

fn spawn(socket: &Path, output: &Path) -> Result<Child> {
    let file = File::create(output)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new("cargo")
        .args(["xtask", "run", "--no-sudo", "--", "--socket"])
        .arg(socket)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()
        .context("running cargo")
}

/// A process that is ended with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0.id().cast_signed())
            && matches!(self.0.try_wait(), Ok(None))
        {
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = self.0.wait();
        }
    }
}
