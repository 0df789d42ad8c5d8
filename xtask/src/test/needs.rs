//! What the end-to-end tests need of the machine.

use std::{fs, path::Path};

use anyhow::Result;

use crate::{debian, workspace};

/// Debian package, and the program that the tests start.
const PROGRAMS: &[(&str, &str)] = &[
    ("apache2-utils", "ab"),
    ("bpftool", "bpftool"),
    ("curl", "curl"),
    ("g++", "c++"),
    ("git", "git"),
    ("gunicorn", "gunicorn"),
    ("iproute2", "ss"),
    ("nginx-light", "nginx"),
    ("openssl", "openssl"),
    ("prometheus", "promtool"),
    ("puma", "puma"),
    ("python3", "python3"),
    ("rainbows", "rainbows"),
    ("ruby", "ruby"),
    ("unicorn", "unicorn"),
    ("valgrind", "valgrind"),
];
/// Debian packages of Ruby libraries that the fixtures load.
const LIBRARIES: &[&str] = &["ruby-aggregate", "ruby-rack", "ruby-raindrops"];

/// Installs what is missing where that is possible and wanted; else lists it.
pub fn provide(may_install: bool) -> Result<()> {
    if debian::is_debian() && workspace::is_root() && may_install {
        let packages: Vec<&str> = PROGRAMS.iter().map(|(package, _)| *package).collect();
        let packages = [packages.as_slice(), LIBRARIES].concat();
        return debian::install(&debian::missing(&packages));
    }
    for (package, program) in PROGRAMS {
        if workspace::program(program).is_none() {
            println!(
                "{program} is not installed (Debian package {package}): tests that need it are \
                 skipped"
            );
        }
    }
    if !workspace::is_root() {
        println!("not root: tests that need BPF or a network namespace are skipped");
    }
    Ok(())
}

/// Whether this host has all that the BPF programs need, so that no test may skip them.
pub fn bpf_must_work() -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    const PERFMON_AND_BPF: u64 = 1 << 38 | 1 << 39;

    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or(0);
    let may_load =
        capabilities & SYS_ADMIN != 0 || capabilities & PERFMON_AND_BPF == PERFMON_AND_BPF;
    workspace::is_root() && may_load && Path::new("/sys/kernel/btf/vmlinux").exists()
}
