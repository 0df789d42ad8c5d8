//! One run of a virtual machine.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::process;

const PROGRAM: &str = "qemu-system-x86_64";
const POLL: Duration = Duration::from_millis(200);
/// `no_timer_check`: on a busy host the kernel finds the emulated timer too slow, and gives up.
/// `loglevel=5`: warnings too, which fail the run.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 loglevel=5 no_timer_check";

/// What to boot, and how.
#[derive(Debug)]
pub struct Machine<'a> {
    pub vmlinuz: &'a Path,
    pub arguments: &'a [String],
    pub accelerator: &'a str,
    pub limit: Duration,
}

/// Where a machine's files are.
#[derive(Debug)]
pub struct Files {
    pub archive: PathBuf,
    /// What the kernel says.
    pub console: PathBuf,
    /// What the tests say.
    pub results: PathBuf,
}

impl Files {
    pub fn in_directory(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        Ok(Self {
            archive: directory.join("initramfs"),
            console: directory.join("console.log"),
            results: directory.join("results.log"),
        })
    }
}

/// Boots it and waits until it has switched itself off; hands over what the tests say meanwhile.
pub fn run(machine: &Machine<'_>, files: &Files, mut on_line: impl FnMut(&str)) -> Result<()> {
    File::create(&files.results).context("creating the file of results")?;
    // Emulated on several threads, processors that run code which another one patches (as attaching to
    // a tracepoint does) have been seen to hang in it.
    let accelerator = match machine.accelerator {
        "tcg" => "tcg,thread=single",
        other => other,
    };
    let serial = |path: &Path| format!("file:{}", path.display());
    let mut command = Command::new(PROGRAM);
    command
        .args(["-accel", accelerator, "-m", "1536"])
        .args(machine.arguments)
        .args(["-nodefaults", "-nographic", "-no-reboot"])
        .arg("-kernel")
        .arg(machine.vmlinuz)
        .arg("-initrd")
        .arg(&files.archive)
        .args(["-append", COMMAND_LINE])
        .args(["-serial", &serial(&files.console)])
        .args(["-serial", &serial(&files.results)])
        .stdin(Stdio::null());
    eprintln!("+ {}", process::shown(&command));
    let mut child = Running(command.spawn().context("cannot run QEMU")?);
    let mut results = File::open(&files.results).context("opening the file of results")?;
    let mut rest = Vec::new();
    let deadline = Instant::now() + machine.limit;
    loop {
        let ended = child.0.try_wait().context("waiting for QEMU")?;
        results
            .read_to_end(&mut rest)
            .context("reading the results")?;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            on_line(String::from_utf8_lossy(&line).trim_end());
        }
        if let Some(status) = ended {
            if !status.success() {
                bail!("QEMU ended: {status}");
            }
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "not done after {:?}: see {}",
                machine.limit,
                files.console.display()
            );
        }
        thread::sleep(POLL);
    }
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
