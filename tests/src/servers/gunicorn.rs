//! gunicorn: two workers, TCP and unix; master and workers have the same command line.

use std::ffi::OsString;

use anyhow::{Context as _, Result};

use super::{Recipe, Server, local, run_dir};
use crate::slab;

pub const BACKLOG: u32 = 32;

pub fn start() -> Result<Server> {
    start_with(&[], "wsgi:app", Vec::new())
}

/// One whose hooks count in a slab, with more arguments.
pub fn start_with_slab(arguments: &[&str]) -> Result<Server> {
    let sources = slab::sources();
    let hooks = sources.join("examples/gunicorn_slab.py");
    let hooks = hooks.to_str().context("the path of the hooks")?;
    let arguments = [&["-c", hooks], arguments].concat();
    let environment = vec![(
        "PYTHONPATH",
        sources.join("bindings/python").into_os_string(),
    )];
    start_with(&arguments, "slab.wsgi:app", environment)
}

fn start_with(
    more: &[&str],
    application: &str,
    environment: Vec<(&'static str, OsString)>,
) -> Result<Server> {
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
            .chain(more.iter().copied())
            .chain([application])
            .map(str::to_owned)
            .collect(),
        environment: environment
            .into_iter()
            .chain([("PYTHONDONTWRITEBYTECODE", "1".into())])
            .collect(),
        tcp: vec![local(18580)],
        unix: vec!["gunicorn.sock"],
        workers: 2,
    }
    .start(run_dir)
}
