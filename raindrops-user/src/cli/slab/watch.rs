//! `raindrops slab watch`: a slab file again and again.

use std::{
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use raindrops_user::{render::text, view::slabs::Slab};

use crate::cli::terminal;

/// Show what is counted in a slab file, again and again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Time between two readings
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Readings to take [default: until it is interrupted]
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// Slab file to read
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

const SHORTEST: Duration = Duration::from_millis(10);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < SHORTEST {
        return Err("10ms is the shortest".to_owned());
    }
    Ok(interval)
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut looker = super::looker(&args.path);
    let mut before: Option<(Slab, Instant)> = None;
    let mut left = args.count;
    while left != Some(0) {
        if before.is_some() {
            thread::sleep(args.interval);
        }
        let slab = super::read(&mut looker)
            .with_context(|| format!("cannot watch {}", args.path.display()))?;
        let now = Instant::now();
        let since = before.as_ref().map(|(slab, at)| (slab, now - *at));
        let mut out = Vec::new();
        text::slab(&slab, since, terminal::style(), &mut out)?;
        if !terminal::print(&out)? {
            break;
        }
        before = Some((slab, now));
        left = left.map(|left| left - 1);
    }
    Ok(ExitCode::SUCCESS)
}
