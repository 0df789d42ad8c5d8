//! Rainbows! with XEpollThreadPool: two workers, TCP and unix.
//!
//! Its epoll gem is not in Debian; the fixtures hold a stand-in of the few calls that it uses.

use anyhow::Result;

use super::{Recipe, Server, fixtures, local, run_dir};

pub const BACKLOG: u32 = 64;

pub fn start() -> Result<Server> {
    Recipe {
        kind: "rainbows",
        program: "rainbows",
        arguments: ["-c", "rainbows.conf.rb", "config.ru"]
            .map(str::to_owned)
            .to_vec(),
        environment: vec![("RUBYLIB", fixtures().join("shim").into())],
        tcp: vec![local(18280)],
        unix: vec!["rainbows.sock"],
        workers: 2,
    }
    .start(run_dir()?)
}
