//! unicorn: two workers, TCP and unix, and a listener of each worker's own.

use anyhow::Result;

use super::{Recipe, Server, local, run_dir};

/// Backlog of the shared listeners, and of each worker's own.
pub const BACKLOG: u32 = 64;
pub const OWN_BACKLOG: u32 = 8;

pub fn start() -> Result<Server> {
    Recipe {
        kind: "unicorn",
        program: "unicorn",
        arguments: ["-c", "unicorn.conf.rb", "config.ru"]
            .map(str::to_owned)
            .to_vec(),
        environment: Vec::new(),
        // The workers' own come last: 18090 and 18091.
        tcp: [18080, 18090, 18091].map(local).to_vec(),
        unix: vec!["unicorn.sock"],
        workers: 2,
    }
    .start(run_dir()?)
}
