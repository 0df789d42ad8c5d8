//! A real nginx to measure with.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use super::child::{Running, until};

/// Of a server that has a master.
const WORKERS: usize = 2;

#[derive(Debug)]
pub struct Nginx {
    running: Running,
    directory: TempDir,
}

impl Nginx {
    /// Starts one whose configuration is `main` besides what every one has, and the `server` of a
    /// directory of its own. Does not wait until it listens.
    pub fn start(main: &str, server: impl FnOnce(&str) -> String) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let place = directory.path();
        let configuration = place.join("nginx.conf");
        let here = place.to_str().context("directory is not UTF-8")?;
        fs::write(
            &configuration,
            format!(
                "user root; daemon off; pid {here}/nginx.pid; error_log {here}/error.log; {main}\n\
                 http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 1h; \
                 client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; \
                 fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi; \
                 scgi_temp_path {here}/scgi; \
                 server {{ {} }} }}\n",
                server(here)
            ),
        )?;
        let running = Running::start(
            Command::new("nginx")
                .arg("-c")
                .arg(&configuration)
                .stdin(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        Ok(Self { running, directory })
    }

    /// A master and two workers that answer every request with `return 200`. Connections are spread
    /// over the workers by the kernel (`reuseport`), so that it does not depend on who sleeps how
    /// many each has.
    pub fn answering_at_once(port: &str) -> Result<Self> {
        let nginx = Self::start(
            &format!(
                "worker_processes {WORKERS}; worker_rlimit_nofile 20000; \
                 events {{ worker_connections 20000; }}"
            ),
            |_| {
                format!(
                    "listen 127.0.0.1:{port} reuseport backlog=4096; \
                     location / {{ return 200 \"ok\\n\"; }}"
                )
            },
        )?;
        // Workers are made when the master listens.
        until("nginx to have workers", || {
            Ok((nginx.workers()?.len() == WORKERS).then_some(()))
        })?;
        Ok(nginx)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn workers(&self) -> Result<Vec<u32>> {
        let master = self.running.pid();
        let children = format!("/proc/{master}/task/{master}/children");
        let children = fs::read_to_string(&children).with_context(|| format!("reading {children}"));
        children?
            .split_whitespace()
            .map(|pid| pid.parse().context("pid of a worker"))
            .collect()
    }
}

impl Drop for Nginx {
    /// Workers would outlive a master that is killed.
    fn drop(&mut self) {
        let _ = self.running.end(Signal::TERM);
    }
}
