//! The machine and the versions of what is compared, as the document's first table.

use std::{fmt, fs, process::Command};

use super::report::Table;
use crate::{process, workspace};

#[derive(Debug)]
pub struct Machine {
    facts: Vec<(&'static str, String)>,
}

impl Machine {
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let is_virtual = field(&cpuinfo, "flags")
            .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
        let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let unknown = || "unknown".to_owned();
        let processor = format!(
            "{}, {cpus} CPUs{}",
            field(&cpuinfo, "model name").unwrap_or_else(unknown),
            if is_virtual { ", virtual machine" } else { "" }
        );
        let facts = vec![
            ("processor", processor),
            (
                "memory",
                field(&read("/proc/meminfo"), "MemTotal").unwrap_or_else(unknown),
            ),
            (
                "kernel",
                read("/proc/sys/kernel/osrelease").trim().to_owned(),
            ),
            (
                "date",
                first_line("date", &["--utc", "+%Y-%m-%d %H:%M UTC"]),
            ),
            ("commit", commit()),
            (
                "load average at the start",
                read("/proc/loadavg")
                    .split(' ')
                    .take(3)
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
            ("tcpstates (libbpf-tools)", package("libbpf-tools")),
            ("bpftrace", first_line("bpftrace", &["--version"])),
            ("ss", first_line("ss", &["-V"])),
            ("raindrops for Ruby", package("ruby-raindrops")),
            ("ruby", first_line("ruby", &["-v"])),
            ("nginx", package("nginx-light")),
        ];
        Self { facts }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["", ""]);
        for (name, value) in &self.facts {
            table.row([*name, value]);
        }
        table.fmt(f)
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = process::output(Command::new(program).args(arguments)).unwrap_or_default();
    match output.lines().next() {
        Some(line) => line.to_owned(),
        None => "not found".to_owned(),
    }
}

fn package(name: &str) -> String {
    first_line("dpkg-query", &["-W", "-f", "${Version}", name])
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        process::output(
            Command::new("git")
                .arg("-C")
                .arg(workspace::root())
                .args(arguments),
        )
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]);
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]);
    match (commit, changes) {
        (Ok(commit), Ok(changes)) if changes.is_empty() => commit,
        (Ok(commit), _) => format!("{commit}, with changes"),
        (Err(_), _) => "unknown".to_owned(),
    }
}
