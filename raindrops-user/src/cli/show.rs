//! `raindrops show`: the listeners, once.

mod connections;

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use raindrops_user::{
    diagnose,
    escape::escaped,
    publish::Audience,
    render::{
        json::{self, Buckets},
        openmetrics::{self, Bounds, Continuity, Dialect},
        text,
    },
    sampler, select,
    view::{View, connections::SCANNED},
};

use super::{
    ShowFormat,
    client::{self, Way},
    terminal,
};

/// Show the listeners of this host, their queues and workers.
///
/// Asks the daemon where there is one, else takes one reading itself.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Socket of the daemon [default: where `raindrops serve` puts it]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: ShowFormat,
    /// Show accepted connections instead, the oldest turn first
    #[arg(long)]
    connections: bool,
    /// Connections to show, 1 to 4096 [default: 100]
    #[arg(long, value_name = "COUNT", requires = "connections", value_parser = limit())]
    limit: Option<u16>,
    /// Only these: :8080, 127.0.0.1:8080, [::]:80, /run/app.sock, @name, or an id
    #[arg(value_name = "LISTENER")]
    listeners: Vec<OsString>,
}

fn limit() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=SCANNED as i64)
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.connections {
        connections::run(args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = Vec::new();
    let view = match client::way(args.socket.as_deref())? {
        Way::Daemon(daemon) => {
            // Verdicts on turns look at how long all answers have taken.
            let path = match args.format {
                // As Prometheus gets it, with what is kept of earlier views.
                ShowFormat::Openmetrics if args.listeners.is_empty() => "/metrics",
                ShowFormat::Text | ShowFormat::Openmetrics => "/v1/view?buckets=1",
                ShowFormat::Json => "/v1/view",
            };
            let answer = daemon.get(path)?;
            if let Some(age) = answer.stale() {
                terminal::note(&diagnose::stale(age));
                if args.format == ShowFormat::Text {
                    text::stale(age, terminal::style(), &mut out)?;
                }
            }
            if args.format != ShowFormat::Text && args.listeners.is_empty() {
                terminal::print(&answer.body)?;
                return Ok(ExitCode::SUCCESS);
            }
            serde_json::from_slice(&answer.body)
                .with_context(|| format!("{daemon}: its view is of another version"))?
        }
        Way::OneReading(why) => {
            terminal::note(&why);
            sampler::one_tick().context("cannot read the listeners of this host")?
        }
    };
    write(view, args, &mut out)?;
    terminal::print(&out)?;
    Ok(ExitCode::SUCCESS)
}

/// A path that is not UTF-8 as the view prints it.
pub(super) fn typed(argument: &OsString) -> String {
    match argument.to_str() {
        Some(text) => text.to_owned(),
        None => escaped(argument.as_bytes()),
    }
}

fn write(view: View, args: &Args, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let view = if args.listeners.is_empty() {
        view
    } else {
        let typed: Vec<String> = args.listeners.iter().map(typed).collect();
        select::narrow(&view, &typed)?
    };
    match args.format {
        ShowFormat::Text => text::view(&view, terminal::style(), out)?,
        ShowFormat::Json => json::view(&view, Buckets::Hidden, Audience::Trusted, out)?,
        ShowFormat::Openmetrics => {
            let continuity = Continuity::of(&view, Bounds::default());
            openmetrics::view(&view, &continuity, Dialect::OpenMetrics, out)?;
        }
    }
    Ok(())
}
