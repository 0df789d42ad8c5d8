//! The Debian package on a root that has nothing else: installed, used, and removed.
//!
//! What is mounted for it is mounted in namespaces of the processes that need it, so that nothing
//! stays mounted, however this ends.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{deb, debian, process, vm::mirror, workspace};

/// What has to work on the root, as commands of its own shell.
const INSTALLED: [(&str, &str); 11] = [
    (
        "its description begins with one line that says it all",
        "dpkg-query -W -f '${binary:Summary}\n' raindrops | grep -q 'on a live host$'",
    ),
    ("the program runs", "raindrops --version"),
    (
        "it shows listeners without a daemon",
        r#"view=$(raindrops show); echo "$view"; grep -q '^LISTENER' <<< "$view""#,
    ),
    (
        "every command has a page of the manual",
        r#"raindrops man --list | while read -r name; do
               page=/usr/share/man/man1/$(echo "$name" | tr ' ' -).1.gz
               zcat "$page" | grep -q '^\.SH NAME' || { echo "$page"; exit 1; }
           done"#,
    ),
    (
        "bash completes",
        r#"bash -c '. /usr/share/bash-completion/completions/raindrops
               COMP_WORDS=(raindrops sh) COMP_CWORD=1
               _raindrops raindrops sh raindrops
               echo "raindrops sh: ${COMPREPLY[*]}"
               test "${COMPREPLY[*]}" = show'"#,
    ),
    (
        "other shells have theirs",
        "ls /usr/share/zsh/vendor-completions/_raindrops \
            /usr/share/fish/vendor_completions.d/raindrops.fish",
    ),
    (
        "the daemon serves the group with the packaged configuration",
        r#"getent group raindrops
           mkdir -p /run/raindrops
           raindrops serve --no-bpf --config /etc/raindrops/raindrops.toml &
           daemon=$!
           trap 'kill $daemon; wait $daemon || true' EXIT
           for _ in $(seq 100); do
               raindrops show --socket /run/raindrops/raindrops.sock >/dev/null 2>&1 && break
               sleep 0.1
           done
           test "$(stat -c '%a %U %G' /run/raindrops/raindrops.sock)" = '660 root raindrops'"#,
    ),
    (
        "the configuration may hold secrets",
        "test \"$(stat -c '%a %U' /etc/raindrops/raindrops.toml)\" = '640 root'",
    ),
    (
        "the unit is enabled",
        "test -e /etc/systemd/system/multi-user.target.wants/raindrops.service",
    ),
    (
        "the loader finds the library",
        "ldconfig -p | grep libraindrops_slab.so",
    ),
    (
        "bindings, documents and what C programs need are there",
        "ls /usr/include/raindrops_slab.h /usr/lib/libraindrops_slab.a \
            /usr/lib/pkgconfig/raindrops_slab.pc /usr/lib/ruby/vendor_ruby/raindrops_slab.rb \
            /usr/lib/ruby/vendor_ruby/raindrops_slab/middleware.rb \
            /usr/lib/python3/dist-packages/raindrops_slab.py \
            /usr/share/doc/raindrops/README.md /usr/share/doc/raindrops/docs/configuration.md \
            /usr/share/doc/raindrops/copyright",
    ),
];

/// After the purge. The group stays, because files may be its own.
const PURGED: [(&str, &str); 2] = [
    (
        "nothing is left of it",
        "test -z \"$(ls -d /etc/raindrops /usr/bin/raindrops /usr/share/doc/raindrops \
            /usr/lib/libraindrops_slab.* /usr/share/man/man1/raindrops* 2>/dev/null)\"",
    ),
    (
        "the unit is no more enabled",
        "! test -L /etc/systemd/system/multi-user.target.wants/raindrops.service",
    ),
];

/// Skipped, and said so, where no such root can be made.
pub fn run() -> Result<()> {
    if !debian::is_debian() || !workspace::is_root() {
        println!("SKIPPED the Debian package: not root on Debian");
        return Ok(());
    }
    let package = deb::package()?;
    debian::install(&debian::missing(&["debootstrap"]))?;
    let directory = tempfile::tempdir().context("making a directory for a root")?;
    let root = Root::make(&directory.path().join("root"))?;
    let inside = root.path.join("tmp/raindrops.deb");
    fs::copy(&package, &inside).with_context(|| format!("copying {}", package.display()))?;
    root.apt_get(["install", "/tmp/raindrops.deb"])?;
    root.check(&INSTALLED)?;
    root.apt_get(["purge", "raindrops"])?;
    root.check(&PURGED)
}

/// A Debian of its own under a directory.
struct Root {
    path: PathBuf,
}

impl Root {
    /// Of the same release as this machine, whose C library the program is linked with.
    fn make(path: &Path) -> Result<Self> {
        let suite = codename()?;
        let uri = mirror::uri(&suite)?.context("apt's sources name no archive of Debian")?;
        process::run(
            in_a_mount_namespace(["debootstrap", "--variant=minbase", &suite])
                .arg(path)
                .arg(uri)
                .stdout(Stdio::null()),
        )?;
        let path = path.to_owned();
        Ok(Self { path })
    }

    /// A command inside, with the processes of this machine.
    fn command<const N: usize>(&self, command: [&str; N]) -> Command {
        let enter = r#"mount -t proc proc "$0/proc" && exec chroot "$0" "$@""#;
        let mut inside = in_a_mount_namespace(["sh", "-c", enter]);
        inside
            .arg(&self.path)
            .args(command)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null());
        inside
    }

    fn apt_get(&self, what: [&str; 2]) -> Result<()> {
        // There is no /dev/pts.
        let quietly = ["apt-get", "-q", "-y", "-o", "Dpkg::Use-Pty=0"];
        process::run(self.command(quietly).args(what))
    }

    fn check(&self, checks: &[(&str, &str)]) -> Result<()> {
        for (what, script) in checks {
            let mut command = self.command(["bash", "-e", "-o", "pipefail", "-c", script]);
            let status = command.status().context("cannot run unshare")?;
            if !status.success() {
                bail!("on a clean root it is not so that {what}: {status} of\n{script}");
            }
            println!("ok: {what}");
        }
        Ok(())
    }
}

/// What it mounts, nobody else sees, and is gone with it.
fn in_a_mount_namespace<const N: usize>(command: [impl AsRef<OsStr>; N]) -> Command {
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "--propagation", "private", "--"])
        .args(command);
    unshare
}

fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    codename
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no release")
}
