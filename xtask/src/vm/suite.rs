//! The end-to-end tests that can run in a virtual machine, and the programs that they start.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Hook;
use crate::{process, test, workspace};

/// Suites that test the repository, what clients are told, or servers and languages that are not in the
/// machine.
const NOT_OF_A_KERNEL: &[&str] = &[
    "accounting",
    "askers",
    "compat",
    "diagnosis",
    "fresh_clone",
    "metrics",
    "packaging",
    "puma",
    "run_command",
    "screen",
    "servers",
    "slab_bindings",
];
/// Suites in which no connection is accepted that BPF should see: once is enough.
const WITHOUT_ACCEPTS: &[&str] = &["cli", "lifecycle", "maps", "privileges"];
/// What tells, in minutes, whether a kernel is served at all.
const SMOKE: &[&str] = &["agreement", "kernel", "overflow", "seeding"];

/// A test binary.
#[derive(Debug)]
pub struct Suite {
    pub name: String,
    pub program: PathBuf,
    pub tests: Vec<String>,
}

/// What was built.
#[derive(Debug)]
pub struct Built {
    pub raindrops: PathBuf,
    pub suites: Vec<Suite>,
    /// Started by the tests, which know their paths.
    pub helpers: Vec<PathBuf>,
}

/// Which of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Smoke,
    All,
}

impl Suite {
    /// Whether it can show anything new with this hook.
    pub fn runs_with(&self, hook: Hook, extent: Extent) -> bool {
        if extent == Extent::Smoke && !SMOKE.contains(&self.name.as_str()) {
            return false;
        }
        let is_kernel = self.name == "kernel";
        match hook {
            Hook::Fexit => true,
            Hook::Syscall => !WITHOUT_ACCEPTS.contains(&self.name.as_str()),
            // Chooses one of the two above, or leaves BPF off.
            Hook::Auto | Hook::None => is_kernel,
        }
    }
}

/// Builds the binary and the tests.
pub fn build(filter: Option<&str>) -> Result<Built> {
    let raindrops = test::build_binary(true)?;
    let mut command = Command::new(workspace::cargo());
    command
        .current_dir(workspace::root())
        .args(["test", "--no-run", "--package", "raindrops-tests"])
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    eprintln!("+ {}", process::shown(&command));
    let output = command.output().context("cannot run cargo test")?;
    ensure!(output.status.success(), "cargo test: {}", output.status);

    let mut built = Built {
        raindrops,
        suites: Vec::new(),
        helpers: Vec::new(),
    };
    for line in output.stdout.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        let Some(program) = message["executable"].as_str().map(PathBuf::from) else {
            continue;
        };
        let name = message["target"]["name"].as_str().unwrap_or_default();
        let is_test = message["profile"]["test"] == true;
        match message["target"]["kind"][0].as_str() {
            Some("bin") if !is_test => built.helpers.push(program),
            Some("test") if !NOT_OF_A_KERNEL.contains(&name) => {
                let mut tests = list(&program)?;
                tests.retain(|test| format!("{name}::{test}").contains(filter.unwrap_or_default()));
                built.suites.push(Suite {
                    name: name.to_owned(),
                    program,
                    tests,
                });
            }
            _ => {}
        }
    }
    built
        .suites
        .sort_by(|left, right| left.name.cmp(&right.name));
    built.suites.retain(|suite| !suite.tests.is_empty());
    ensure!(!built.suites.is_empty(), "no test is called that");
    Ok(built)
}

fn list(program: &PathBuf) -> Result<Vec<String>> {
    let mut command = Command::new(program);
    let text = process::output(command.args(["--list", "--format", "terse"]))?;
    let tests = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(tests.map(str::to_owned).collect())
}
