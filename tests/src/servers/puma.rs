//! puma: a cluster of two workers, TCP and unix, with its control socket.

use anyhow::Result;

use super::{Recipe, Server, local, run_dir};

/// Backlog of every listener, which is puma's default.
pub const BACKLOG: u32 = 1024;
/// The control socket, in the run directory.
pub const CONTROL: &str = "pumactl.sock";

pub fn start() -> Result<Server> {
    Recipe {
        kind: "puma",
        program: "puma",
        arguments: ["-C", "puma.rb", "config.ru"].map(str::to_owned).to_vec(),
        environment: Vec::new(),
        tcp: vec![local(18180)],
        unix: vec!["puma.sock"],
        workers: 2,
    }
    .start(run_dir()?)
}
