//! gunicorn: two workers, TCP and unix; master and workers have the same command line.

use anyhow::Result;

use super::{Recipe, Server, local, run_dir};

pub const BACKLOG: u32 = 32;

pub fn start() -> Result<Server> {
    let run_dir = run_dir()?;
    let socket = format!("unix:{}", run_dir.path().join("gunicorn.sock").display());
    let backlog = BACKLOG.to_string();
    let arguments = [
        "-w",
        "2",
        "--backlog",
        &backlog,
        "-b",
        "127.0.0.1:18580",
        "-b",
        &socket,
    ];
    Recipe {
        kind: "gunicorn",
        program: "gunicorn",
        arguments: arguments
            .into_iter()
            .chain(["wsgi:app"])
            .map(str::to_owned)
            .collect(),
        environment: vec![("PYTHONDONTWRITEBYTECODE", "1".into())],
        tcp: vec![local(18580)],
        unix: vec!["gunicorn.sock"],
        workers: 2,
    }
    .start(run_dir)
}
