//! What the daemon says of its paths against what it answers, by a tool that only knows the former:
//! schemathesis, over a real daemon's socket.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{debian, process, test, workspace};

const READY: Duration = Duration::from_secs(20);
/// A stream does not end, so no tool that waits for the end of an answer can check it.
const NOT_ASKED: &str = "/v1/stream";

/// Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn run() -> Result<()> {
    let socat = debian::missing(&["socat", "python3-venv"]);
    debian::install(&socat)?;
    let binary = test::build_binary(true)?;
    let tool = schemathesis()?;
    let directory = tempfile::tempdir().context("making a directory")?;
    let socket = directory.path().join("raindrops.sock");
    let log = fs::File::create(directory.path().join("log"))?;
    let mut daemon = Command::new(binary);
    daemon.arg("serve").arg("--socket").arg(&socket);
    let _daemon = Running(daemon.stderr(log).spawn().context("starting the daemon")?);
    until_there(&socket)?;
    let port = free_port()?;
    let mut bridge = Command::new("socat");
    bridge
        .arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"))
        .arg(format!("UNIX-CONNECT:{}", socket.display()))
        .stdin(Stdio::null());
    let _bridge = Running(bridge.spawn().context("starting socat")?);
    let address = format!("http://127.0.0.1:{port}/openapi.json");
    process::run(
        Command::new(tool)
            .current_dir(directory.path())
            .args(["run", &address, "--exclude-path", NOT_ASKED])
            .args(["--wait-for-schema", "20", "--generation-database", "none"]),
    )
}

/// In an environment of its own, kept for the next time.
fn schemathesis() -> Result<std::path::PathBuf> {
    let environment = workspace::root().join("target/verify/schemathesis");
    let tool = environment.join("bin/schemathesis");
    if !tool.exists() {
        process::run(
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(&environment),
        )?;
        process::run(Command::new(environment.join("bin/pip")).args([
            "install",
            "--quiet",
            "schemathesis>=4,<5",
        ]))?;
    }
    Ok(tool)
}

fn until_there(socket: &Path) -> Result<()> {
    let began = Instant::now();
    while !socket.exists() {
        if began.elapsed() > READY {
            bail!("the daemon made no socket within {} s", READY.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// One that nobody listens on now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
