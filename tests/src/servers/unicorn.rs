//! unicorn: workers with TCP and unix listeners, and one of each worker's own.

use std::ffi::OsString;

use anyhow::Result;
use tempfile::TempDir;

use super::{Recipe, Server, local, middleware::without_file, run_dir};

/// Backlog of the shared listeners, and of each worker's own.
pub const BACKLOG: u32 = 64;
pub const OWN_BACKLOG: u32 = 8;

pub fn start() -> Result<Server> {
    start_with(2)
}

pub fn start_with(workers: u16) -> Result<Server> {
    start_from(workers, Vec::new(), run_dir()?)
}

/// One whose Middleware counts where the library puts it: in memory without a name.
pub fn start_unmodified(workers: u16) -> Result<Server> {
    start_from(workers, vec![without_file()], run_dir()?)
}

/// In the run directory, counters of the application.
pub const COUNTERS: &str = "counters";

/// One whose application has counters of its own in a file.
pub fn start_counting() -> Result<Server> {
    let run_dir = run_dir()?;
    let counters = run_dir.path().join(COUNTERS).into();
    start_from(
        2,
        vec![without_file(), ("COUNTERS_FILE", counters)],
        run_dir,
    )
}

fn start_from(
    workers: u16,
    mut environment: Vec<(&'static str, OsString)>,
    run_dir: TempDir,
) -> Result<Server> {
    environment.push(("WORKERS", workers.to_string().into()));
    // The workers' own come last.
    let ports = [18080].into_iter().chain((0..workers).map(|nr| 18090 + nr));
    Recipe {
        kind: "unicorn",
        program: "unicorn",
        arguments: ["-c", "unicorn.conf.rb", "config.ru"]
            .map(str::to_owned)
            .to_vec(),
        environment,
        tcp: ports.map(local).collect(),
        unix: vec!["unicorn.sock"],
        workers: workers.into(),
    }
    .start(run_dir)
}
