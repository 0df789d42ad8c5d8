//! How much of a short stall the published peaks tell.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Section;
use crate::bench::{
    Setting,
    child::numbers,
    daemon::Daemon,
    isolated::isolated,
    load::{ARRIVALS, Load, STALL, STALL_EVERY},
    report::{Goal, Report, Table},
    statistics::Sample,
};

const PORT: u16 = 25_000;
/// A view of the time after the last stall is published within this: unix queues are read once a
/// second, and views are made twice a second.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(3);

struct Mode {
    name: &'static str,
    arguments: &'static [&'static str],
    is_exact: bool,
}

const MODES: [Mode; 3] = [
    Mode {
        name: "10 Hz, without BPF",
        arguments: &["--no-bpf", "--sample-hz", "10"],
        is_exact: false,
    },
    Mode {
        name: "100 Hz, without BPF",
        arguments: &["--no-bpf", "--sample-hz", "100"],
        is_exact: false,
    },
    Mode {
        name: "10 Hz, with BPF",
        arguments: &["--sample-hz", "10"],
        is_exact: true,
    },
];

/// What one mode published of each stall.
#[derive(Default)]
struct Seen {
    /// Peak as a part of the truth; nothing where no peak was published.
    parts: Vec<Option<f64>>,
}

impl Seen {
    fn percent(&self, counts: impl Fn(f64) -> bool) -> f64 {
        let seen = self.parts.iter().flatten().filter(|part| counts(**part));
        100.0 * seen.count() as f64 / self.parts.len() as f64
    }

    /// Anything of it.
    fn noticed(&self) -> f64 {
        self.percent(|part| part > 0.0)
    }

    /// All of it, and no more.
    fn exact(&self) -> f64 {
        self.percent(|part| part == 1.0)
    }
}

pub fn run(setting: &Setting) -> Result<Report> {
    let method = format!(
        "A server stops accepting for {} ms every {} ms, and {ARRIVALS} connections arrive evenly \
         meanwhile; the beginning walks through the sampling interval. Each stall is on a listener \
         of its own, TCP and unix at once, so that in the end each listener's `queue.peak` in \
         `GET /v1/view` tells what was seen of its stall. The truth is what the server finds queued \
         when it accepts again; of TCP, the kernel's TCP_INFO has to agree. All modes observe the \
         same stalls at the same time. *Noticed*: a peak of at least one. *Exact*: the true peak. \
         *Part*: the published peak as a part of the true one, over stalls that were noticed.",
        STALL.as_millis(),
        STALL_EVERY.as_millis(),
    );
    let mut report = Report::new(Section::Stalls.title(), method);
    let stalls = u16::try_from(setting.rounds(60, 10))?;
    let seen = isolated(|| observe(setting, stalls))?;

    let mut table = Table::new(["mode", "listeners", "noticed, %", "exact, %", "part"]);
    for (mode, [tcp, unix]) in MODES.iter().zip(&seen) {
        for (kind, seen) in [("TCP", tcp), ("unix", unix)] {
            let parts = seen
                .parts
                .iter()
                .flatten()
                .copied()
                .filter(|part| *part > 0.0);
            table.row([
                mode.name.to_owned(),
                kind.to_owned(),
                format!("{:.0}", seen.noticed()),
                format!("{:.0}", seen.exact()),
                Sample::new(parts).map_or_else(|| "–".to_owned(), |parts| parts.text(2)),
            ]);
            if mode.is_exact {
                let what = format!("exact peaks, {kind}, {}", mode.name);
                report
                    .goals
                    .push(Goal::at_least(what, seen.exact(), 100.0, " %"));
            }
        }
    }
    report.tables.push(table);
    report.notes.push(format!("{stalls} stalls."));
    Ok(report)
}

/// What each mode saw, of TCP and of unix listeners.
fn observe(setting: &Setting, stalls: u16) -> Result<Vec<[Seen; 2]>> {
    let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let path = directory
        .path()
        .to_str()
        .context("directory is not UTF-8")?;
    let (count, port) = (stalls.to_string(), PORT.to_string());
    let arguments = [
        "stalls",
        "--stalls",
        &count,
        "--port",
        &port,
        "--directory",
        path,
    ];
    let (mut load, _) = Load::start(&arguments)?;
    let daemons: Vec<Daemon> = MODES
        .iter()
        .map(|mode| Daemon::start(&setting.raindrops, mode.arguments))
        .collect::<Result<_>>()?;
    let truths: Vec<[u32; 2]> = (0..stalls)
        .map(|stall| numbers(&load.ask(&stall.to_string())?))
        .collect::<Result<_>>()?;
    ensure!(
        truths.iter().flatten().all(|truth| *truth != 0),
        "nothing was queued"
    );
    thread::sleep(PUBLISHED_WITHIN);

    let mut seen = Vec::new();
    for daemon in &daemons {
        let peaks = peaks(&daemon.view()?)?;
        let mut of_mode = [Seen::default(), Seen::default()];
        for (stall, truth) in (0..stalls).zip(&truths) {
            let addresses = [
                format!("127.0.0.1:{}", PORT + stall),
                format!("{path}/{stall}.sock"),
            ];
            for ((seen, address), truth) in of_mode.iter_mut().zip(&addresses).zip(truth) {
                let peak = peaks.get(address).copied().flatten();
                seen.parts
                    .push(peak.map(|peak| peak as f64 / f64::from(*truth)));
            }
        }
        seen.push(of_mode);
    }
    Ok(seen)
}

/// By address; nothing where no peak is published.
fn peaks(view: &Value) -> Result<BTreeMap<String, Option<u64>>> {
    let listeners = view["listeners"].as_array().context("no listeners")?;
    let peak = |listener: &Value| {
        let address = listener["address"].as_str()?.to_owned();
        Some((address, listener["queue"]["peak"].as_u64()))
    };
    Ok(listeners.iter().filter_map(peak).collect())
}
