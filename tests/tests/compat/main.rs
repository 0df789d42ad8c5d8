//! Older clients, real ones: what they get from the socket against what they get without it.

mod middleware;
mod paths;
mod pumactl;
mod tail;
mod watcher;

use std::{ffi::OsStr, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

/// What curl prints for a path of a daemon, with the head of the answer.
fn curl(socket: &Path, arguments: &[&str], path: &str) -> Result<String> {
    let url = format!("http://localhost{path}");
    let socket = [OsStr::new("--unix-socket"), socket.as_os_str()];
    printed(
        Command::new("curl")
            .args(["-si", "-m", "5"])
            .args(arguments)
            .args(socket)
            .arg(url),
    )
}

fn printed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(!text.is_empty(), "{command:?}: {}", output.status);
    Ok(text)
}
