//! unicorn: workers with TCP and unix listeners, and one of each worker's own.

use anyhow::Result;

use super::{Recipe, Server, local, run_dir};

/// Backlog of the shared listeners, and of each worker's own.
pub const BACKLOG: u32 = 64;
pub const OWN_BACKLOG: u32 = 8;

pub fn start() -> Result<Server> {
    start_with(2)
}

pub fn start_with(workers: u16) -> Result<Server> {
    recipe("", workers).start(run_dir()?)
}

/// One whose application also counts in a slab.
pub fn start_with_slab(workers: u16) -> Result<Server> {
    recipe("slab/", workers).start(run_dir()?)
}

/// The same in a pid namespace of its own.
pub fn start_with_slab_in_container(workers: u16) -> Result<Server> {
    recipe("slab/", workers).start_in_container(run_dir()?)
}

fn recipe(directory: &str, workers: u16) -> Recipe {
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
        environment: vec![("WORKERS", workers.to_string().into())],
        tcp: ports.map(local).collect(),
        unix: vec!["unicorn.sock"],
        workers: workers.into(),
    }
}
