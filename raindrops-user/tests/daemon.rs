//! The built binary: configuration, log, service manager and doctor. Its command line, and how it
//! starts and ends, are tested end to end, in the package `tests`.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat},
    process::{Pid, Signal, kill_process},
};

const RAINDROPS: &str = env!("CARGO_BIN_EXE_raindrops");
/// No step of a test may take longer.
const CEILING: Duration = Duration::from_secs(10);

struct Daemon {
    directory: tempfile::TempDir,
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < CEILING, "waited too long: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn raindrops(args: &[&str]) -> Output {
    Command::new(RAINDROPS)
        .args(args)
        .env_remove("XDG_RUNTIME_DIR")
        .output()
        .unwrap()
}

impl Daemon {
    /// Through a shell, which sets what is inherited.
    fn start_after(shell: &str, config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config"), config).unwrap();
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "{shell}\nexec \"$0\" serve --no-bpf --socket d/s --config config --log log"
            ))
            .arg(RAINDROPS)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Self { directory, child };
        daemon.logged("serves on");
        daemon
    }

    fn start() -> Self {
        Self::start_after("", "")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn socket(&self) -> String {
        self.path("d/s").to_str().unwrap().to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn logged(&self, text: &str) {
        wait_for(&format!("{text:?} in {}", self.log()), || {
            self.log().contains(text).then_some(())
        });
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn show(&self) -> Output {
        raindrops(&["show", "--format", "json", "--socket", &self.socket()])
    }
}

#[test]
fn hup_takes_a_good_configuration_and_keeps_the_old_one_instead_of_a_bad_one() {
    let daemon = Daemon::start_after("trap '' HUP", "sample_hz = 10\n");
    let since = |output: &Output| {
        let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let since = view["since"].clone();
        assert!(since.is_string(), "{view}");
        since
    };
    let before = since(&daemon.show());
    for (config, logged) in [
        (
            "sample_hz = 20\nverbose = true\n",
            "sample_hz 10 -> 20, verbose false -> true",
        ),
        ("sample_hz = 20\nverbose = true\n", "nothing changed"),
        (
            "sampel_hz = 20\n",
            "did you mean \"sample_hz\"?; the old configuration stays",
        ),
        ("sample_hz =\n", "not a configuration"),
        (
            "max_connections = 7\nsample_hz = 20\n",
            "max_connections needs a restart",
        ),
    ] {
        fs::write(daemon.path("config"), config).unwrap();
        daemon.signal(Signal::HUP);
        daemon.logged(logged);
    }
    assert_eq!(since(&daemon.show()), before);
}

#[test]
fn a_fifo_instead_of_the_configuration_or_the_log_hangs_nothing() {
    let daemon = Daemon::start();
    for (name, signal, logged) in [
        ("config", Signal::HUP, "not a regular file"),
        ("log", Signal::USR1, "a log cannot be a FIFO"),
    ] {
        let _ = fs::rename(daemon.path(name), daemon.path("old"));
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, daemon.path(name), FileType::Fifo, mode, 0).unwrap();
        daemon.signal(signal);
        wait_for(logged, || {
            let log = if name == "log" { "old" } else { "log" };
            let log = fs::read_to_string(daemon.path(log)).unwrap();
            log.contains(logged).then_some(())
        });
        assert!(daemon.show().status.success());
    }
}

/// Standard error is a pipe that is full and that nobody reads.
#[test]
fn a_stuck_log_holds_up_neither_clients_nor_the_end() {
    let (_reader, writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
    while rustix::io::write(&writer, b"x").is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let child = Command::new(RAINDROPS)
        .args(["serve", "--no-bpf", "--socket", "d/s"])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut daemon = Daemon { directory, child };
    wait_for("the socket", || daemon.path("d/s").exists().then_some(()));
    for _ in 0..5 {
        daemon.signal(Signal::USR2);
        assert!(daemon.show().status.success());
    }
    daemon.signal(Signal::TERM);
    let status = wait_for("the daemon's end", || daemon.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn usr1_opens_the_log_again() {
    let daemon = Daemon::start();
    fs::rename(daemon.path("log"), daemon.path("log.1")).unwrap();
    daemon.signal(Signal::USR1);
    daemon.logged("USR1: log reopened");
    let old = fs::read_to_string(daemon.path("log.1")).unwrap();
    assert!(
        old.contains("serves on") && !old.contains("reopened"),
        "{old}"
    );
}

#[test]
fn the_service_manager_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(CEILING)).unwrap();
    let mut buffer = [0; 64];
    let export = format!("export NOTIFY_SOCKET={}", path.display());
    let daemon = Daemon::start_after(&export, "");
    let length = manager.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
    daemon.signal(Signal::TERM);
    let length = manager.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"STOPPING=1");
}

#[test]
fn what_somebody_typed_is_printed_safely_with_what_to_do() {
    for (args, text) in [
        (
            &["show", "--socket", &"/x".repeat(60)][..],
            "too long for a socket (107 bytes at most); pass",
        ),
        (
            &["serve", "--config", "/no\x1b[2J"],
            "/no\\x1b[2J: cannot read",
        ),
    ] {
        let output = raindrops(args);
        let found = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {found}");
        assert!(found.contains(text), "{args:?}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn doctor_answers_and_its_code_is_that_of_its_verdicts() {
    let daemon = Daemon::start();
    let output = raindrops(&["doctor", "--format", "json", "--socket", &daemon.socket()]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["schema"], "raindrops.diagnosis/1");
    let trouble = json["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .any(|it| it["severity"] != "info");
    assert_eq!(output.status.code(), Some(if trouble { 3 } else { 0 }));
    let text = raindrops(&["doctor", "--socket", &daemon.socket()]);
    assert!(!text.stdout.is_empty());
}
