//! Rainbows! with XEpollThreadPool: two workers, TCP and unix.
//!
//! Its epoll gem is not in Debian; the fixtures hold a stand-in of the few calls that it uses.

use std::ffi::OsString;

use anyhow::Result;

use super::{Recipe, Server, fixtures, local, middleware::without_file, run_dir};

pub const BACKLOG: u32 = 64;

pub fn start() -> Result<Server> {
    start_from(Vec::new())
}

/// One whose Middleware counts where the library puts it: in memory without a name.
pub fn start_unmodified() -> Result<Server> {
    start_from(vec![without_file()])
}

fn start_from(mut environment: Vec<(&'static str, OsString)>) -> Result<Server> {
    environment.push(("RUBYLIB", fixtures().join("shim").into()));
    Recipe {
        kind: "rainbows",
        program: "rainbows",
        arguments: ["-c", "rainbows.conf.rb", "config.ru"]
            .map(str::to_owned)
            .to_vec(),
        environment,
        tcp: vec![local(18280)],
        unix: vec!["rainbows.sock"],
        workers: 2,
    }
    .start(run_dir()?)
}
