//! `raindrops tail`: active and queued connections of some listeners, again and again, in the form of
//! raindrops' `linux-listener-stats.rb`.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use raindrops_user::{
    compat::{
        rows::{self, Row, Titles},
        tail::{Thresholds, header, line, width},
    },
    diagnose,
    sampler::{Look, Looks},
    select,
    view::View,
};

use super::{
    client::{self, Daemon, Way},
    show::typed,
    terminal,
};

/// Print active and queued connections of listeners, again and again.
///
/// Asks the daemon where there is one, else looks itself. The header is on standard error. Goes on when
/// the daemon comes back after a restart.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Socket of the daemon [default: where `raindrops serve` puts it]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// No lines with fewer accepted connections
    #[arg(long, value_name = "N", default_value_t)]
    active_min: u64,
    /// No lines with fewer queued connections
    #[arg(long, value_name = "N", default_value_t)]
    queued_min: u64,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Looks to take [default: until it is interrupted]
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// :8080, 127.0.0.1:8080, [::]:80, /run/app.sock, @name, or an id
    #[arg(value_name = "LISTENER", required = true)]
    listeners: Vec<OsString>,
}

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < SHORTEST {
        return Err("10ms is the shortest".to_owned());
    }
    if interval > LONGEST {
        return Err("1day is the longest".to_owned());
    }
    Ok(interval)
}

/// Where figures come from.
enum Source {
    Daemon(Daemon),
    Own(Box<Looks>),
}

impl Source {
    fn look(&mut self) -> anyhow::Result<Look> {
        match self {
            Self::Daemon(daemon) => {
                let answer = daemon.get("/v1/view")?;
                if let Some(age) = answer.stale() {
                    terminal::note(&diagnose::stale(age));
                }
                let view: View = serde_json::from_slice(&answer.body)
                    .with_context(|| format!("{daemon}: its view is of another version"))?;
                let rows = rows::rows(&view);
                Ok(Look { view, rows })
            }
            Self::Own(looks) => Ok(looks.look()),
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut source = match client::way(args.socket.as_deref())? {
        Way::Daemon(daemon) => Source::Daemon(daemon),
        Way::OneReading(why) => {
            terminal::note(&why);
            let looks = Looks::open().context("cannot read the listeners of this host")?;
            Source::Own(Box::new(looks))
        }
    };
    let typed: Vec<String> = args.listeners.iter().map(typed).collect();
    let thresholds = Thresholds {
        active: args.active_min,
        queued: args.queued_min,
    };
    let mut widest = None;
    let mut left = args.count;
    let mut next = Instant::now();
    let mut fails = false;
    while left != Some(0) {
        let look = source.look();
        let failed = std::mem::replace(&mut fails, look.is_err());
        let Look { view, rows } = match look {
            Ok(look) => look,
            Err(error) if widest.is_none() => return Err(error),
            Err(error) => {
                if !failed {
                    terminal::note(&format!("{error:#}; trying again"));
                }
                left = left.map(|left| left - 1);
                if left != Some(0) && !wait(&mut next, args.interval) {
                    break;
                }
                continue;
            }
        };
        let shown = match chosen(&view, &rows, &typed) {
            // All must be there at first. One that is gone later may come back, as at a restart.
            Err(error) if widest.is_none() => return Err(error),
            _ => there(&view, &rows, &typed),
        };
        let titles = Titles::of(&rows);
        let width = *widest.get_or_insert_with(|| {
            let names = shown.iter().map(|row| titles.title(row));
            let width = width(names.chain(["address"]));
            let _ = std::io::stderr().write_all(header(width).as_bytes());
            width
        });
        let lines: String = shown
            .into_iter()
            .filter(|row| thresholds.pass(row))
            .map(|row| line(view.taken_at, titles.title(row), width, row))
            .collect();
        if !terminal::print(lines.as_bytes())? {
            break;
        }
        left = left.map(|left| left - 1);
        if left != Some(0) && !wait(&mut next, args.interval) {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A beat, unless the reader leaves. After a pause of the whole machine not all looks are made up for.
fn wait(next: &mut Instant, interval: Duration) -> bool {
    let now = Instant::now();
    *next = (*next + interval).max(now);
    terminal::is_read_for(next.saturating_duration_since(now))
}

/// The same of those that are there.
fn there<'r>(view: &View, rows: &'r [Row], typed: &[String]) -> Vec<&'r Row> {
    let is_there = |typed: &&String| select::listeners(view, typed).is_ok();
    let there: Vec<String> = typed.iter().filter(is_there).cloned().collect();
    chosen(view, rows, &there).unwrap_or_default()
}

/// Rows of the listeners that are meant, in their order and each once.
fn chosen<'r>(view: &View, rows: &'r [Row], typed: &[String]) -> anyhow::Result<Vec<&'r Row>> {
    let mut ids = BTreeSet::new();
    for typed in typed {
        let found = select::listeners(view, typed)?;
        ids.extend(found.into_iter().map(|listener| listener.id.as_str()));
    }
    let is_meant = |row: &&Row| row.ids.iter().any(|id| ids.contains(id.as_str()));
    Ok(rows.iter().filter(is_meant).collect())
}
