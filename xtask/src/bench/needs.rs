//! What raindrops is compared with.

use anyhow::Result;

use crate::{debian, workspace};

/// Debian package, and the program that is started.
const PROGRAMS: &[(&str, &str)] = &[
    ("bpftrace", "bpftrace"),
    ("gcc", "cc"),
    ("iproute2", "ss"),
    ("libbpf-tools", "tcpstates"),
    ("nginx-light", "nginx"),
    ("ruby", "ruby"),
];
const LIBRARIES: &[&str] = &["ruby-raindrops"];

/// Installs what is missing where that is possible and wanted; else says what is not compared.
pub fn provide(may_install: bool) -> Result<()> {
    if debian::is_debian() && workspace::is_root() && may_install {
        let packages: Vec<&str> = PROGRAMS
            .iter()
            .filter(|(_, program)| workspace::program(program).is_none())
            .map(|(package, _)| *package)
            .chain(LIBRARIES.iter().copied())
            .collect();
        return debian::install(&debian::missing(&packages));
    }
    for (package, program) in PROGRAMS {
        if workspace::program(program).is_none() {
            println!("{program} is not installed (Debian package {package}): not compared with");
        }
    }
    Ok(())
}

/// A note for what is missing.
pub fn absent(program: &str) -> Option<String> {
    workspace::program(program)
        .is_none()
        .then(|| format!("Not measured: {program} is not installed."))
}
