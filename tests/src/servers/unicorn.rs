//! unicorn: workers with TCP and unix listeners, and one of each worker's own.

use std::ffi::OsString;

use anyhow::Result;

use super::{Recipe, Server, local, middleware::without_file, run_dir};

/// Backlog of the shared listeners, and of each worker's own.
pub const BACKLOG: u32 = 64;
pub const OWN_BACKLOG: u32 = 8;

/// In the run directory, counters of the application.
pub const COUNTERS: &str = "counters";

pub fn start() -> Result<Server> {
    start_with(2)
}

pub fn start_with(workers: u16) -> Result<Server> {
    recipe("", workers, Vec::new()).start(run_dir()?)
}

/// One whose application also counts in a slab.
pub fn start_with_slab(workers: u16) -> Result<Server> {
    recipe("slab/", workers, Vec::new()).start(run_dir()?)
}

/// The same in a pid namespace of its own.
pub fn start_with_slab_in_container(workers: u16) -> Result<Server> {
    recipe("slab/", workers, Vec::new()).start_in_container(run_dir()?)
}

/// One whose Middleware counts where the library puts it: in memory without a name.
pub fn start_unmodified(workers: u16) -> Result<Server> {
    recipe("", workers, vec![without_file()]).start(run_dir()?)
}

/// One whose application has counters of its own in a file.
pub fn start_counting() -> Result<Server> {
    let run_dir = run_dir()?;
    let counters = run_dir.path().join(COUNTERS).into();
    let environment = vec![without_file(), ("COUNTERS_FILE", counters)];
    recipe("", 2, environment).start(run_dir)
}

/// Of the configuration and the application in a directory of the fixtures.
fn recipe(directory: &str, workers: u16, mut environment: Vec<(&'static str, OsString)>) -> Recipe {
    environment.push(("WORKERS", workers.to_string().into()));
    // The workers' own come last.
    let ports = [18080].into_iter().chain((0..workers).map(|nr| 18090 + nr));
    Recipe {
        kind: "unicorn",
        program: "unicorn",
        arguments: vec![
            "-c".to_owned(),
            format!("{directory}unicorn.conf.rb"),
            format!("{directory}config.ru"),
        ],
        environment,
        tcp: ports.map(local).collect(),
        unix: vec!["unicorn.sock"],
        workers: workers.into(),
    }
}
