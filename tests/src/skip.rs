//! Tests that this machine cannot run: said aloud, and counted by `cargo xtask test`.
//!
//! libtest would report them as passed.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
    thread,
};

use rustix::process::geteuid;

use crate::{daemon, netns, slab};

/// What a test needs of the machine.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Root, and the right to make network namespaces.
    Root,
    /// That the kernel takes our BPF programs.
    Bpf,
    /// A program on PATH.
    Program(&'static str),
    /// The library of slabs for other languages.
    SlabLibrary,
}

/// Whether this test can run here; if not, says why.
#[must_use]
pub fn can_run(needs: &[Need]) -> bool {
    let missing = needs.iter().find_map(|need| lack(*need));
    let missing = missing.or_else(|| {
        daemon::binary()
            .is_none()
            .then(|| "raindrops is not built: run `cargo xtask test`".to_owned())
    });
    if let Some(reason) = &missing {
        report(reason);
    }
    missing.is_none()
}

fn lack(need: Need) -> Option<String> {
    match need {
        Need::Root if !geteuid().is_root() => Some("this host cannot: not root".to_owned()),
        Need::Root => netns::in_new(|| Ok(()))
            .err()
            .map(|error| format!("this host cannot: {error:#}")),
        Need::Bpf if env::var_os(daemon::ACCEPT_HOOK).is_some_and(|hook| hook == "none") => {
            Some("this host cannot: --accept-hook none leaves BPF off".to_owned())
        }
        Need::Bpf if env::var_os("RAINDROPS_EXPECT_BPF").is_some() => None,
        Need::Bpf if !geteuid().is_root() => Some("this host cannot: not root".to_owned()),
        Need::Bpf if !Path::new("/sys/kernel/btf/vmlinux").exists() => {
            Some("this host cannot: the kernel has no BTF".to_owned())
        }
        Need::Bpf => None,
        Need::SlabLibrary => slab::library().is_none().then(|| {
            "the library of slabs is not built: run `cargo xtask test`, or first \
             `cargo build --package raindrops-slab-c`"
                .to_owned()
        }),
        Need::Program(name) => {
            let path = env::var_os("PATH").unwrap_or_default();
            let is_there = env::split_paths(&path)
                .chain(["/usr/sbin".into(), "/sbin".into()])
                .any(|directory| directory.join(name).is_file());
            (!is_there).then(|| format!("not installed: {name}"))
        }
    }
}

/// Says that the calling test does not run. What begins with `this host cannot` is nobody's fault;
/// any other reason fails CI.
pub fn report(reason: &str) {
    let binary = env::current_exe().unwrap_or_default();
    let binary = binary.file_stem().unwrap_or_default().to_string_lossy();
    let suite = binary.rsplit_once('-').map_or(&*binary, |(name, _)| name);
    let thread = thread::current();
    let line = format!(
        "SKIPPED {suite}::{}: {reason}\n",
        thread.name().unwrap_or("?")
    );
    // Unlike `print!`, this is not captured by libtest.
    let _ = io::stdout().write_all(line.as_bytes());
    if let Some(list) = env::var_os("RAINDROPS_SKIPPED_TESTS")
        && let Ok(mut list) = OpenOptions::new().append(true).open(list)
    {
        let _ = list.write_all(line.as_bytes());
    }
}
