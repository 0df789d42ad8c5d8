//! The daemon's maps in the kernel, through bpftool, independently of raindrops.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Number of a map of a process, by its name.
pub fn id(pid: u32, name: &str) -> Result<u64> {
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        let Some(id) = info.lines().find_map(|line| line.strip_prefix("map_id:")) else {
            continue;
        };
        let id = id.trim().to_owned();
        if bpftool(&["map", "show", "id", &id])?["name"] == name {
            return Ok(id.parse()?);
        }
    }
    anyhow::bail!("process {pid} has no map {name}")
}

/// Keys of a map, as bytes in the words that bpftool takes.
pub fn keys(map: u64) -> Result<Vec<Vec<String>>> {
    let entries = bpftool(&["map", "dump", "id", &map.to_string()])?;
    let entries = entries.as_array().context("a dump is an array")?;
    entries
        .iter()
        .map(|entry| {
            let key = entry["key"].as_array().context("a key is an array")?;
            let bytes = key.iter().map(|byte| byte.as_str().map(str::to_owned));
            bytes.collect::<Option<_>>().context("a key is of strings")
        })
        .collect()
}

pub fn remove(map: u64, key: &[String]) -> Result<()> {
    let map = map.to_string();
    let mut arguments = vec!["map", "delete", "id", &map, "key"];
    arguments.extend(key.iter().map(String::as_str));
    bpftool(&arguments).map(drop)
}

fn bpftool(arguments: &[&str]) -> Result<Value> {
    let output = Command::new("bpftool")
        .arg("-j")
        .args(arguments)
        .output()
        .context("running bpftool")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "bpftool {arguments:?}: {text}");
    serde_json::from_str(&text).with_context(|| format!("bpftool {arguments:?}: {text}"))
}
