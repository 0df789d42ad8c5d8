//! `raindrops slab show`: one slab file, or all slabs that the daemon sees.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use raindrops_user::{
    render::{json, text},
    sampler,
    view::{View, slabs::Slab},
};

use crate::cli::{
    Format,
    client::{self, Way},
    terminal,
};

/// Show what is counted in a slab.
///
/// Without PATH, in all slabs that the daemon sees.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Socket of the daemon [default: where `raindrops serve` puts it]
    #[arg(long, value_name = "SOCKET", conflicts_with = "path")]
    socket: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Slab file to read, without the daemon
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let slabs = match &args.path {
        Some(path) => vec![of_file(path)?],
        None => of_daemon(args.socket.as_deref())?.slabs,
    };
    let mut out = Vec::new();
    match args.format {
        Format::Json => json::write(&slabs, &mut out)?,
        Format::Text if slabs.is_empty() => out.extend_from_slice(b"No slab can be seen.\n"),
        Format::Text => {
            for slab in &slabs {
                text::slab(slab, None, terminal::style(), &mut out)?;
            }
        }
    }
    terminal::print(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn of_file(path: &Path) -> anyhow::Result<Slab> {
    super::read(&mut super::looker(path)).with_context(|| format!("cannot show {}", path.display()))
}

fn of_daemon(socket: Option<&Path>) -> anyhow::Result<View> {
    match client::way(socket)? {
        Way::Daemon(daemon) => {
            let client::Answer { body, .. } = daemon.get("/v1/view")?;
            serde_json::from_slice(&body)
                .with_context(|| format!("{daemon}: its view is of another version"))
        }
        Way::OneReading(why) => {
            terminal::note(&why);
            sampler::one_tick().context("cannot read the slabs of this host")
        }
    }
}
