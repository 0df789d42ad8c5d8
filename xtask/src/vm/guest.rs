//! The first file system of the virtual machine: busybox, the tests, and what they need.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Hook,
    archive::Archive,
    image::Image,
    suite::{Built, Extent},
};
use crate::{process, workspace};

const INIT: &str = include_str!("init.sh");
const BUSYBOX: &str = "/bin/busybox";
/// Programs of this machine that the tests run.
const PROGRAMS: &[&str] = &["bpftool", "install", "ip", "ss", "unshare"];
/// What sock_diag and the tests use, where the kernel does not have it built in.
const MODULES: &[&str] = &[
    "inet_diag",
    "tcp_diag",
    "unix_diag",
    "mptcp_diag",
    "dummy",
    "veth",
];

/// What one virtual machine does, in this order.
pub fn plan(built: &Built, extent: Extent, hooks: &[Hook]) -> Vec<String> {
    let mut plan = Vec::new();
    for hook in hooks {
        for suite in built.suites.iter().filter(|it| it.runs_with(*hook, extent)) {
            for test in &suite.tests {
                let program = suite.program.display();
                plan.push(format!("{hook} {} {program} {test}", suite.name));
            }
        }
    }
    plan
}

/// The files that every kernel gets; the modules differ.
pub fn common(built: &Built) -> Result<Vec<(String, Vec<u8>)>> {
    let work = tempfile::tempdir().context("creating a temporary directory")?;
    let mut files = vec![
        ("/init".to_owned(), INIT.as_bytes().to_vec()),
        (BUSYBOX.to_owned(), read(Path::new(BUSYBOX))?),
        (
            "/raindrops/raindrops".to_owned(),
            stripped(&built.raindrops, work.path())?,
        ),
    ];
    let mut programs = vec![built.raindrops.clone()];
    let tests = built.suites.iter().map(|suite| &suite.program);
    for program in tests.chain(&built.helpers) {
        // Under the path that it has here, because tests know each other's.
        let path = program.display().to_string();
        files.push((path, stripped(program, work.path())?));
        programs.push(program.clone());
    }
    for name in PROGRAMS {
        let program = workspace::program(name);
        let program = program.with_context(|| format!("{name} is not installed"))?;
        files.push((program.display().to_string(), read(&program)?));
        programs.push(program);
    }
    for library in libraries(&programs)? {
        files.push((library.display().to_string(), read(&library)?));
    }
    Ok(files)
}

/// The archive for one kernel.
pub fn archive(common: &[(String, Vec<u8>)], image: &Image, plan: &[String]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for (path, content) in common {
        archive.add_file(path, content);
    }
    let modules = image.modules(MODULES)?;
    let mut names = String::new();
    for (name, bytes) in modules {
        archive.add_file(&format!("/raindrops/{name}.ko"), &bytes);
        names.push_str(&name);
        names.push('\n');
    }
    archive.add_file("/raindrops/modules", names.as_bytes());
    let mut text = plan.join("\n");
    text.push('\n');
    archive.add_file("/raindrops/plan", text.as_bytes());
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Without the information for debuggers, which is most of a test binary.
fn stripped(program: &Path, work: &Path) -> Result<Vec<u8>> {
    let to = work.join("stripped");
    let mut strip = Command::new("strip");
    process::output(strip.arg("--strip-debug").arg("-o").arg(&to).arg(program))?;
    read(&to)
}

/// Shared libraries of these programs, and the loader, as the loader of this machine finds them.
fn libraries(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let text = process::output(Command::new("ldd").args(programs))?;
    let mut libraries = BTreeSet::new();
    for line in text.lines() {
        if line.contains("=> not found") {
            bail!("a shared library is missing: {line}");
        }
        let line = line.split_once("=> ").map_or(line, |(_, path)| path).trim();
        if line.starts_with('/')
            && let Some((path, _)) = line.split_once(" (")
        {
            libraries.insert(PathBuf::from(path));
        }
    }
    Ok(libraries)
}
