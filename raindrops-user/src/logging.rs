//! Where log lines go: standard error, or a file that can be reopened after it was rotated.
//!
//! Lines carry the time in UTC and the level. A log that cannot be written never stops the daemon:
//! a thread of its own writes it, errors of writing are dropped, and lines that it has no time for
//! are counted instead of waited for.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, SystemTime},
};

use log::{Level, LevelFilter, Log, Metadata, Record};
use thiserror::Error;

use crate::escape::printable;

/// Lines that may wait for the writer.
const WAITING: usize = 1024;
/// How long the last lines may take to be written.
const LAST_WORDS: Duration = Duration::from_millis(200);

#[derive(Debug, Error)]
pub enum LogError {
    #[error("{}: cannot open the log: {error}; check its directory, or pass another --log FILE", path.display())]
    Open { path: PathBuf, error: io::Error },
    #[error("{}: a log cannot be {kind}; pass a regular file, or no --log for standard error", path.display())]
    Kind { path: PathBuf, kind: &'static str },
    #[error("cannot log to standard error: {0}; pass --log FILE")]
    StandardError(io::Error),
    #[error("cannot start the thread that writes the log: {0}; check the limit on processes")]
    Thread(io::Error),
}

/// Where lines go to.
fn open(path: Option<&Path>) -> Result<File, LogError> {
    let Some(path) = path else {
        // A descriptor of its own: a writer that is stuck must not hold the lock of the other.
        let stderr = io::stderr().as_fd().try_clone_to_owned();
        return stderr.map(File::from).map_err(LogError::StandardError);
    };
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        // A FIFO without a reader would make this wait for one.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    // By its path where it cannot be opened: what it is says more than ENXIO.
    let kind = match &file {
        Ok(file) => file.metadata(),
        Err(_) => path.metadata(),
    };
    let kind = kind.map(|metadata| metadata.file_type());
    if let Ok(kind) = kind
        && (kind.is_fifo() || kind.is_socket())
    {
        return Err(LogError::Kind {
            path: path.to_owned(),
            kind: if kind.is_fifo() { "a FIFO" } else { "a socket" },
        });
    }
    file.map_err(|error| LogError::Open {
        path: path.to_owned(),
        error,
    })
}

enum Order {
    Line(String),
    /// Answered when all that came before is written.
    Flush(SyncSender<()>),
}

/// The one log of the process.
#[derive(Debug)]
struct Logger {
    orders: SyncSender<Order>,
    lost: AtomicU64,
    place: Mutex<Place>,
}

#[derive(Debug)]
struct Place {
    /// `None` is standard error.
    path: Option<PathBuf>,
    /// What the writer takes before its next line; it never waits in an order, so that a full
    /// channel does not keep the log from being reopened.
    next: Option<File>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

impl Logger {
    fn send(&self, line: String) {
        // Before the line, so that the log tells where lines are missing.
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && !self.try_send(lines_lost(lost)) {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        } else if !self.try_send(line) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_send(&self, line: String) -> bool {
        self.orders.try_send(Order::Line(line)).is_ok()
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries say of their own doings is for their authors, unless it is a warning.
        let is_ours = metadata.target().starts_with("raindrops");
        metadata.level() <= log::max_level() && (is_ours || metadata.level() <= Level::Warn)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.send(line(SystemTime::now(), record));
        }
    }

    fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.orders.try_send(Order::Flush(done)).is_ok() {
            // Fails when the writer is stuck: then the rest is lost with the process.
            let _ = written.recv_timeout(LAST_WORDS);
        }
    }
}

fn write(logger: &Logger, orders: &Receiver<Order>) {
    let mut file = None;
    for order in orders {
        if let Some(next) = logger.place().next.take() {
            file = Some(next);
        }
        match order {
            Order::Line(line) => {
                // In one write, so that lines of several writers do not mix.
                let _ = file.as_mut().map(|file| file.write_all(line.as_bytes()));
            }
            // Nobody waits any more: the writer was too slow.
            Order::Flush(done) => drop(done.try_send(())),
        }
    }
}

fn line(now: SystemTime, record: &Record<'_>) -> String {
    format!(
        "{} {:5} {}\n",
        humantime::format_rfc3339_millis(now),
        record.level(),
        printable(&record.args().to_string())
    )
}

fn lines_lost(lost: u64) -> String {
    let lines = if lost == 1 { "line" } else { "lines" };
    line(
        SystemTime::now(),
        &Record::builder()
            .level(Level::Warn)
            .args(format_args!(
                "{lost} {lines} lost: the log was not written fast enough"
            ))
            .build(),
    )
}

/// Starts logging to a file, or to standard error.
pub fn start(path: Option<&Path>, verbose: bool) -> Result<(), LogError> {
    let file = open(path)?;
    let (orders, received) = sync_channel(WAITING);
    let place = Mutex::new(Place {
        path: path.map(Path::to_owned),
        next: Some(file),
    });
    let lost = AtomicU64::new(0);
    let logger = LOGGER.get_or_init(|| Logger {
        orders,
        lost,
        place,
    });
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write(logger, &received))
        .map_err(LogError::Thread)?;
    // Fails only where a logger is set already, which is then this one.
    let _ = log::set_logger(logger);
    set_verbose(verbose);
    Ok(())
}

pub fn set_verbose(verbose: bool) {
    log::set_max_level(if verbose {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    });
}

/// Opens the file of that name again: it may have been rotated. On failure the old one stays.
pub fn reopen() -> Result<(), LogError> {
    let path = LOGGER.get().and_then(|logger| logger.place().path.clone());
    redirect(path.as_deref())
}

/// Logs to another place from now on. On failure the old one stays.
pub fn redirect(path: Option<&Path>) -> Result<(), LogError> {
    let file = open(path)?;
    if let Some(logger) = LOGGER.get() {
        *logger.place() = Place {
            path: path.map(Path::to_owned),
            next: Some(file),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use log::Level;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_line_has_time_level_and_no_line_ends_of_its_own() {
        let line = line(
            SystemTime::UNIX_EPOCH,
            &Record::builder()
                .level(Level::Warn)
                .args(format_args!("a\nb"))
                .build(),
        );
        assert_eq!(line, "1970-01-01T00:00:00.000Z WARN  a\\nb\n");
    }

    #[test]
    fn a_file_is_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for text in ["a\n", "b\n"] {
            let mut file = open(Some(&path)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\n");
        let error = open(Some(directory.path())).unwrap_err();
        assert!(error.to_string().contains("cannot open the log"), "{error}");
    }

    #[test]
    fn a_fifo_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let refused = || open(Some(&path)).unwrap_err().to_string();
        assert!(refused().contains("a log cannot be a FIFO"));
        let _reader = File::options().read(true).write(true).open(&path).unwrap();
        assert!(refused().contains("a log cannot be a FIFO"));
    }

    #[test]
    fn lines_that_nobody_writes_are_counted_instead_of_waited_for() {
        let (orders, received) = sync_channel(2);
        let logger = Logger {
            orders,
            lost: AtomicU64::new(0),
            place: Mutex::new(Place {
                path: None,
                next: None,
            }),
        };
        for _ in 0..5 {
            logger.send("x".to_owned());
        }
        let waiting = || {
            let orders = std::iter::from_fn(|| received.try_recv().ok());
            let lines = orders.filter_map(|order| match order {
                Order::Line(line) => Some(line),
                Order::Flush(_) => None,
            });
            lines.collect::<Vec<_>>()
        };
        assert_eq!(waiting(), ["x", "x"]);
        logger.send("y".to_owned());
        let lines = waiting();
        assert!(lines[0].contains("WARN  3 lines lost"), "{lines:?}");
        assert_eq!(lines[1], "y");
    }
}
