//! Debian packages: which are missing, and how to install them without questions.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

use crate::process;

const LISTS: &str = "/var/lib/apt/lists";
const LISTS_MAX_AGE: Duration = Duration::from_secs(24 * 3600);
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Whether this is Debian or something that descends from it.
pub fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release
        .lines()
        .filter(|line| line.starts_with("ID=") || line.starts_with("ID_LIKE="))
        .any(|line| line.contains("debian") || line.contains("ubuntu"))
        && Path::new("/usr/bin/apt-get").exists()
}

/// Those of `packages` that are not installed.
pub fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let is_installed = |package: &str| {
        process::output(Command::new("dpkg-query").args([
            "-W",
            "-f",
            "${db:Status-Status}",
            package,
        ]))
        .is_ok_and(|status| status == "installed")
    };
    let missing = packages.iter().filter(|package| !is_installed(package));
    missing.copied().collect()
}

/// Installs packages; services among them are not started.
pub fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    println!("installing Debian packages: {}", packages.join(" "));
    if lists_are_old() {
        process::run(apt_get().arg("update"))?;
    }
    let _no_services = NoServices::begin()?;
    let install = || {
        process::run(
            apt_get()
                .args(["install", "-y", "--no-install-recommends"])
                .args(packages),
        )
    };
    // A mirror drops superseded versions within hours, so young lists can still be too old.
    install().or_else(|_| {
        process::run(apt_get().arg("update"))?;
        install()
    })
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    command
}

fn lists_are_old() -> bool {
    let Ok(entries) = fs::read_dir(LISTS) else {
        return true;
    };
    let newest = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("Packages"))
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .max();
    let age = newest.map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
    // Package files keep the mirror's date; apt leaves its own date on the directory.
    let update = fs::metadata(LISTS).and_then(|metadata| metadata.modified());
    let update = update.map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
    match (age, update) {
        (Some(age), Ok(update)) => age.min(update) > LISTS_MAX_AGE,
        _ => true,
    }
}

/// While it lives, installing a server does not start it: a test run must not leave a web server
/// behind on port 80.
struct NoServices {
    is_ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        let is_ours = !Path::new(POLICY).exists();
        if is_ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")
                .with_context(|| format!("writing {POLICY}"))?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("making {POLICY} executable"))?;
        }
        Ok(Self { is_ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("cannot remove {POLICY}: {error}; remove it by hand");
        }
    }
}
