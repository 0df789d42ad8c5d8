//! `ab`: many requests over few connections, counted by the one who makes them.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// What it says that it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    pub requests: u64,
    /// Bytes of the answers.
    pub received: u64,
}

/// Runs `ab` with these options to its end; no request may have failed.
pub fn run(options: &[&str], url: &str) -> Result<Made> {
    let output = Command::new("ab").arg("-q").args(options).arg(url).output();
    let output = output.context("running ab")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "ab: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.with_context(|| format!("no {name:?} in {text}"))
    };
    ensure!(value("Failed requests:")? == 0, "{text}");
    Ok(Made {
        requests: value("Complete requests:")?,
        received: value("Total transferred:")?,
    })
}
