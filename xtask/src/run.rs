//! `run`: builds raindrops and starts it in the foreground, with as many rights as there are.

use std::{
    ffi::OsString,
    fs,
    io::IsTerminal as _,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{test, workspace};

const READY_CEILING: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// Builds raindrops and starts it in the foreground, with a first table
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Never use sudo: run with the rights that are there
    #[arg(long)]
    no_sudo: bool,
    /// Arguments for `raindrops serve`
    #[arg(last = true)]
    serve: Vec<OsString>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let binary = test::build_binary(true)?;
    let is_root = workspace::is_root();
    let sudo = !is_root && !arguments.no_sudo && may_sudo();
    if !is_root && !sudo {
        println!(
            "no root rights: no BPF, so no accepts, waits or active connections of TCP listeners, \
             and only your own processes as owners; `raindrops doctor` tells it all"
        );
    }
    let given = given_socket(&arguments.serve);
    let socket = match &given {
        Some(socket) => socket.clone(),
        None => default_socket(is_root || sudo)?,
    };

    end_with_the_child();
    let mut serve = with_rights(sudo, &binary);
    serve.arg("serve").args(&arguments.serve);
    if given.is_none() {
        serve.arg("--socket").arg(&socket);
    }
    let before = identity(&socket);
    let mut child = serve
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;

    let show = || {
        let mut show = with_rights(sudo, &binary);
        show.args(["show", "--socket"]).arg(&socket);
        show.stdin(Stdio::null());
        show
    };
    if ready(&mut child, &socket, before, show) {
        // Its own standard output, so that it fits the terminal; what fails it says itself.
        if show().status().is_ok_and(|status| status.success()) {
            println!();
            print_examples(sudo, &binary, &socket);
        }
    } else if !has_ended(&mut child) {
        eprintln!("no answer from {} yet", socket.display());
    }
    let status = wait(&mut child)?;
    Ok(exit_code(status))
}

fn may_sudo() -> bool {
    if workspace::program("sudo").is_none() {
        return false;
    }
    let mut command = Command::new("sudo");
    if std::io::stdin().is_terminal() {
        println!("raindrops needs root for BPF and for other users' processes: asking sudo");
    } else {
        command.arg("-n");
    }
    command
        .arg("-v")
        .status()
        .is_ok_and(|status| status.success())
}

fn with_rights(sudo: bool, binary: &Path) -> Command {
    if !sudo {
        return Command::new(binary);
    }
    let mut command = Command::new("sudo");
    command.arg("--").arg(binary);
    command
}

/// The socket that the arguments for `serve` name.
fn given_socket(serve: &[OsString]) -> Option<PathBuf> {
    let mut arguments = serve.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--socket" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(path) = argument
            .to_str()
            .and_then(|text| text.strip_prefix("--socket="))
        {
            return Some(path.into());
        }
    }
    None
}

fn default_socket(with_rights: bool) -> Result<PathBuf> {
    if with_rights {
        return Ok("/run/raindrops/raindrops.sock".into());
    }
    if let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR") {
        let directory = PathBuf::from(directory);
        if directory.is_dir() {
            return Ok(directory.join("raindrops.sock"));
        }
    }
    let user = rustix::process::geteuid().as_raw();
    let directory = std::env::temp_dir().join(format!("raindrops-{user}"));
    let created = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory);
    created.with_context(|| format!("creating {}", directory.display()))?;
    Ok(directory.join("raindrops.sock"))
}

/// What tells a socket file from the one that was there before.
type FileIdentity = (u64, u64, i64, i64);

fn identity(path: &Path) -> Option<FileIdentity> {
    let file = fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.ctime(), file.ctime_nsec()))
}

/// Waits until our own daemon answers. It makes a socket file of its own, or finds the path taken
/// and ends: then whoever else answers there must not be taken for it.
fn ready(
    child: &mut Child,
    socket: &Path,
    before: Option<FileIdentity>,
    show: impl Fn() -> Command,
) -> bool {
    let deadline = Instant::now() + READY_CEILING;
    while Instant::now() < deadline && !TERMINATED.load(Ordering::Relaxed) {
        let now = identity(socket);
        let answers = now.is_some()
            && now != before
            && show()
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success());
        if has_ended(child) {
            return false;
        }
        if answers {
            return true;
        }
        thread::sleep(POLL);
    }
    false
}

fn has_ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

fn print_examples(sudo: bool, binary: &Path, socket: &Path) {
    let sudo = if sudo { "sudo " } else { "" };
    let here = std::env::current_dir().unwrap_or_default();
    let binary = binary.strip_prefix(&here).unwrap_or(binary).display();
    let socket = socket.display();
    println!("socket: {socket}\n");
    println!("  {sudo}curl --unix-socket {socket} http://localhost/v1/view");
    println!("  {sudo}{binary} show --socket {socket}");
    println!("  {sudo}{binary} top --socket {socket}");
    println!("  {sudo}{binary} doctor --socket {socket}\n");
    println!("Ctrl-C ends it.");
}

static TERMINATED: AtomicBool = AtomicBool::new(false);

extern "C" fn terminate(_: libc::c_int) {
    TERMINATED.store(true, Ordering::Relaxed);
}

extern "C" fn outlive(_: libc::c_int) {}

/// Ctrl-C reaches the daemon too, being of the same process group: this process only has to
/// outlive it. Handlers, unlike SIG_IGN, are not inherited by the daemon.
fn end_with_the_child() {
    let handlers = [
        (libc::SIGINT, outlive as extern "C" fn(libc::c_int)),
        (libc::SIGQUIT, outlive),
        (libc::SIGTERM, terminate),
    ];
    for (signal, handler) in handlers {
        // SAFETY: the handlers only store to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Waits for the daemon; passes on a SIGTERM that reached this process alone.
fn wait(child: &mut Child) -> Result<ExitStatus> {
    let mut forwarded = false;
    loop {
        if let Some(status) = child.try_wait().context("waiting for the daemon")? {
            return Ok(status);
        }
        thread::sleep(POLL);
        if TERMINATED.load(Ordering::Relaxed) && !forwarded {
            forwarded = true;
            // One poll late: a SIGTERM for the whole group has ended the daemon by now.
            if child
                .try_wait()
                .context("waiting for the daemon")?
                .is_none()
                && let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed())
            {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                    .context("stopping the daemon")?;
            }
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a socket given to `serve` is found in either spelling.
    #[test]
    fn given_socket_is_found() {
        let table: [(&[&str], Option<&str>); 4] = [
            (&[], None),
            (&["--no-bpf", "--socket", "/a"], Some("/a")),
            (&["--socket=/a", "-v"], Some("/a")),
            (&["--socket"], None),
        ];
        for (arguments, expected) in table {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            assert_eq!(
                given_socket(&arguments),
                expected.map(PathBuf::from),
                "{arguments:?}"
            );
        }
    }
}
