//! Asking the daemon, and knowing when there is none.
//!
//! A socket that nobody answers on means one reading in this process. A socket that we may not open
//! is an error: a reading without the daemon's rights and without its totals would look the same
//! and mean less.

use std::{
    fmt, fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::SocketAddr,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use raindrops_user::{config::Who, publish::STALE, server::AGE_MS};
use serde::Deserialize;
use tokio::{net::UnixStream, runtime, time};

/// A daemon that is there answers from memory.
const PATIENCE: Duration = Duration::from_secs(10);
/// No view of any host is larger.
const LARGEST: usize = 512 << 20;

pub enum Way {
    Daemon(Daemon),
    /// And why it must do.
    OneReading(String),
}

/// A socket on which somebody listens.
pub struct Daemon {
    path: PathBuf,
}

pub struct Answer {
    pub body: Bytes,
    /// How old the figures are, where that is told.
    pub age: Option<Duration>,
}

impl Answer {
    /// How old the figures are, where that is too old.
    pub fn stale(&self) -> Option<Duration> {
        self.age.filter(|age| *age > STALE)
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "daemon at {}", self.path.display())
    }
}

/// The daemon of `socket`, or the one at the first known path that has one.
pub fn way(socket: Option<&Path>) -> anyhow::Result<Way> {
    let paths = match socket {
        Some(path) => vec![path.to_owned()],
        None => Who::of_this_process().known_sockets(),
    };
    let mut reasons = Vec::new();
    for path in paths {
        match look(&path)? {
            None => return Ok(Way::Daemon(Daemon { path })),
            Some(reason) => reasons.push(format!("{} {reason}", path.display())),
        }
    }
    Ok(Way::OneReading(format!(
        "{}: this is one reading without the daemon, which knows no totals, peaks or rates",
        reasons.join(", ")
    )))
}

/// Why nobody can answer at a path; `None` when somebody may.
fn look(path: &Path) -> anyhow::Result<Option<&'static str>> {
    let subject = || path.display().to_string();
    if SocketAddr::from_pathname(path).is_err() {
        bail!(
            "{}: this path is too long for a socket (107 bytes at most); pass the --socket PATH of \
             the daemon",
            subject()
        );
    }
    match fs::metadata(path).map(|it| it.file_type().is_socket()) {
        Ok(true) => {}
        Ok(false) => bail!("{}: this is not a socket; check --socket", subject()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some("does not exist"));
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(error).context(may_not(path));
        }
        Err(error) => return Err(error).with_context(subject),
    }
    match raindrops_user::server::claim::connect(path) {
        Ok(_) => Ok(None),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Ok(Some("is left over, nobody answers")),
            io::ErrorKind::NotFound => Ok(Some("does not exist")),
            // Its queue is full: it is there, and asking again will tell.
            io::ErrorKind::WouldBlock => Ok(None),
            io::ErrorKind::PermissionDenied => Err(error).context(may_not(path)),
            _ => Err(error).with_context(subject),
        },
    }
}

/// Who may open the socket, as far as its modes say.
fn may_not(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(file) => format!(
            "{}: only user {} and members of group {} may open this socket (mode {:03o}); run as \
             one of them",
            path.display(),
            file.uid(),
            file.gid(),
            file.mode() & 0o777
        ),
        Err(_) => format!(
            "{}: you may not look into its directory; run as root or as its owner",
            path.display()
        ),
    }
}

/// How the daemon says what is wrong.
#[derive(Deserialize)]
struct Problem {
    error: String,
    hint: String,
}

impl Daemon {
    /// A good answer.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let (status, answer) = self.answer(path)?;
        if status == StatusCode::OK {
            return Ok(answer);
        }
        Err(self.problem(status, &answer))
    }

    /// A good answer; `None` where the daemon has no such thing.
    pub fn find(&self, path: &str) -> anyhow::Result<Option<Answer>> {
        let (status, answer) = self.answer(path)?;
        match status {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.problem(status, &answer)),
        }
    }

    fn answer(&self, path: &str) -> anyhow::Result<(StatusCode, Answer)> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the client")?;
        runtime
            .block_on(async { time::timeout(PATIENCE, self.ask(path)).await })
            .with_context(|| format!("{self} does not answer; see its log"))?
            .with_context(|| self.to_string())
    }

    fn problem(&self, status: StatusCode, answer: &Answer) -> anyhow::Error {
        match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(Problem { error, hint }) => anyhow!("{self}: {error} ({hint})"),
            Err(_) => anyhow!("{self} answers {status}"),
        }
    }

    async fn ask(&self, path: &str) -> anyhow::Result<(StatusCode, Answer)> {
        let stream = UnixStream::connect(&self.path)
            .await
            .context("cannot connect")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its end shows as the end of the answer.
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(hyper::header::HOST, "raindrops")
            .body(Empty::<Bytes>::new())?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let age = head.headers.get(AGE_MS).and_then(|age| {
            let age = age.to_str().ok()?.parse().ok()?;
            Some(Duration::from_millis(age))
        });
        let body = Limited::new(body, LARGEST)
            .collect()
            .await
            .map_err(anyhow::Error::from_boxed)?;
        let answer = Answer {
            body: body.to_bytes(),
            age,
        };
        Ok((head.status, answer))
    }
}
