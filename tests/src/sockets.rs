//! Listening sockets and who holds them as `ss` shows them, independently of raindrops.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

#[derive(Debug, PartialEq, Eq)]
pub struct Listening {
    pub inode: u64,
    pub queued: u32,
    pub limit: u32,
    /// Ascending.
    pub holders: Vec<u32>,
}

/// Every listening socket of the calling thread's network namespace.
pub fn listening() -> Result<Vec<Listening>> {
    let output = Command::new("ss").args(["-Hltnxpe"]).output();
    let output = output.context("running ss")?;
    ensure!(output.status.success(), "ss: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| parse(line).with_context(|| format!("unexpected line of ss: {line}")))
        .collect()
}

fn parse(line: &str) -> Option<Listening> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let inode = match *fields.first()? {
        "tcp" => fields.iter().find_map(|field| field.strip_prefix("ino:"))?,
        _ => fields.get(5)?,
    };
    let mut holders: Vec<u32> = line
        .split("pid=")
        .skip(1)
        .filter_map(|rest| rest.split(',').next()?.parse().ok())
        .collect();
    holders.sort_unstable();
    holders.dedup();
    Some(Listening {
        inode: inode.parse().ok()?,
        queued: fields.get(2)?.parse().ok()?,
        limit: fields.get(3)?.parse().ok()?,
        holders,
    })
}
