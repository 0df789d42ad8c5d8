//! `raindrops doctor`: what is wrong right now, and what this host can and cannot show.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use raindrops_user::{
    diagnose::{Diagnosis, Severity, diagnose},
    render::{diagnosis, json},
    sampler,
};

use super::{
    Format,
    client::{self, Way},
    terminal,
};

/// A verdict is warning or worse.
const TROUBLE: u8 = 3;

/// Say what is wrong right now, and what this host cannot show and why.
///
/// Exits with 3 when something is wrong.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Socket of the daemon [default: where `raindrops serve` puts it]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let diagnosis: Diagnosis = match client::way(args.socket.as_deref())? {
        Way::Daemon(daemon) => serde_json::from_slice(&daemon.get("/v1/diagnosis")?.body)
            .with_context(|| format!("{daemon}: its diagnosis is of another version"))?,
        Way::OneReading(why) => {
            terminal::note(&why);
            diagnose(&sampler::one_tick().context("cannot read the listeners of this host")?)
        }
    };
    let mut out = Vec::new();
    match args.format {
        Format::Text => diagnosis::text(&diagnosis, terminal::style(), &mut out)?,
        Format::Json => json::write(&diagnosis, &mut out)?,
    }
    terminal::print(&out)?;
    Ok(match diagnosis.worst() {
        Some(Severity::Warning | Severity::Critical) => ExitCode::from(TROUBLE),
        Some(Severity::Info) | None => ExitCode::SUCCESS,
    })
}
