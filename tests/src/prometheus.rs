//! A real Prometheus, in the network namespace of the calling thread, and what it scrapes.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::wait::{self, CEILING};

const PORT: u16 = 9090;
/// It loads slowly on a machine that also compiles.
const START: Duration = Duration::from_secs(60);

/// Rules and alerts as they are given to users.
#[must_use]
pub fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib")
}

/// Killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    directory: TempDir,
}

/// A value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub labels: Value,
    pub value: f64,
}

impl Prometheus {
    /// Scrapes each second, and evaluates contrib's rules each second.
    pub fn start(targets: &[SocketAddr]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("raindrops-").tempdir()?;
        let contrib = contrib();
        let mut config =
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files:\n".to_owned();
        for file in ["raindrops.rules.yml", "raindrops.alerts.yml"] {
            let path = contrib.join("prometheus").join(file);
            writeln!(config, "  - {}", path.display())?;
        }
        let targets: Vec<String> = targets.iter().map(|it| format!("\"{it}\"")).collect();
        write!(
            config,
            "scrape_configs:\n  - job_name: raindrops\n    static_configs:\n      - targets: [{}]\n",
            targets.join(", ")
        )?;
        let path = directory.path().join("prometheus.yml");
        fs::write(&path, config)?;
        let log = File::create(directory.path().join("log"))?;
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{PORT}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting prometheus")?;
        let mut prometheus = Self { child, directory };
        wait::within(START, "Prometheus", || {
            if let Some(status) = prometheus.child.try_wait()? {
                bail!("Prometheus ended ({status}):\n{}", prometheus.log());
            }
            let ready = get(([127, 0, 0, 1], PORT).into(), "/-/ready", "");
            Ok(ready.is_ok_and(|it| it.status == 200).then_some(()))
        })?;
        Ok(prometheus)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// What an expression is now.
    pub fn query(&self, expression: &str) -> Result<Vec<Found>> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let answer = get(([127, 0, 0, 1], PORT).into(), &path, "")?;
        ensure!(answer.status == 200, "{expression}: {}", answer.body);
        let answer: Value = serde_json::from_str(&answer.body)?;
        let found = answer["data"]["result"].as_array().context("no result")?;
        let one = |found: &Value| {
            let value = found["value"][1].as_str().context("no value")?;
            Ok(Found {
                labels: found["metric"].clone(),
                value: value.parse()?,
            })
        };
        found.iter().map(one).collect()
    }

    /// The first result that is what is waited for.
    pub fn until(
        &self,
        ceiling: Duration,
        expression: &str,
        is_it: impl Fn(&[Found]) -> bool,
    ) -> Result<Vec<Found>> {
        let mut last = Vec::new();
        let found = wait::within(ceiling, expression, || {
            last = self.query(expression)?;
            Ok(is_it(&last).then_some(()))
        });
        match found {
            Ok(()) => Ok(last),
            Err(error) => Err(error.context(format!("last: {last:?}\n{}", self.log()))),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        let _ = write!(encoded, "%{byte:02X}");
        encoded
    })
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// `GET path`, in HTTP/1.0 because that has no chunks. `headers` end with a line's end each.
pub fn get(address: SocketAddr, path: &str, headers: &str) -> Result<Answer> {
    let host = if headers.contains("Host:") {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    let mut stream = TcpStream::connect_timeout(&address, CEILING)?;
    stream.set_read_timeout(Some(CEILING))?;
    write!(stream, "GET {path} HTTP/1.0\r\n{host}{headers}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of headers")?;
    let status = head.split_whitespace().nth(1).context("no status")?;
    Ok(Answer {
        status: status.parse()?,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

/// `/metrics` in the older dialect.
pub fn scrape(address: SocketAddr) -> Result<String> {
    let answer = get(address, "/metrics", "Accept: text/plain\r\n")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.body)
}

/// Values of a line's name whose labels contain all of `labels`, as they are printed.
#[must_use]
pub fn values(text: &str, name: &str, labels: &[&str]) -> Vec<f64> {
    let of_name = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    text.lines()
        .filter(of_name)
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect()
}
