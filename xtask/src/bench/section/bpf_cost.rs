//! What the programs take, by the kernel's own statistics.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Section, rotated};
use crate::bench::{
    Setting,
    bpf::{Runs, map_bytes, noted},
    child::Answering,
    daemon::Daemon,
    isolated::isolated,
    load::{Load, churn},
    observer::{Observer, Tool},
    report::{Goal, Report, Table},
    statistics::Sample,
};

const LISTENERS: &str = "10";
const PORT: &str = "22000";
/// The listeners of the memory that has a target.
const MANY_LISTENERS: &str = "64";

const METHOD: &str = "\
`BPF_ENABLE_STATS` makes the kernel note the run time of every program. Short loopback connections \
(one client process, one server process, 10 listeners; the server closes first) run against one \
observer at a time. *Gross* is what the kernel noted. A program that returns at once is attached to \
`inet_sock_set_state` in the same run: what the kernel notes of it is the cost of noting, and *net* \
is gross less that cost for each run of a program. raindrops runs with its defaults; tcpstates \
(libbpf-tools) and the bpftrace script (waits by port, accepts by process) send or aggregate what \
they see of the same tracepoint. Noise: cold caches raise a single run, and the cost of noting \
varies with the clock of the machine.";

/// One observer in one round.
struct Round {
    /// What noting one run cost.
    empty: f64,
    /// By program, for one connection.
    programs: BTreeMap<String, PerConnection>,
}

#[derive(Clone, Copy, Default)]
struct PerConnection {
    runs: f64,
    nanoseconds: f64,
}

impl Round {
    fn runs(&self) -> f64 {
        self.programs.values().map(|program| program.runs).sum()
    }

    fn gross(&self) -> f64 {
        self.programs
            .values()
            .map(|program| program.nanoseconds)
            .sum()
    }

    fn net(&self) -> f64 {
        self.gross() - self.runs() * self.empty
    }
}

/// What was measured of each tool.
type Measured = BTreeMap<Tool, Vec<Round>>;

pub fn run(setting: &Setting) -> Result<Report> {
    let mut report = Report::new(Section::BpfCost.title(), METHOD);
    let tools = Tool::available(&mut report.notes);
    let tools: Vec<Tool> = tools
        .into_iter()
        .filter(|tool| *tool != Tool::Nothing)
        .collect();
    let rounds = setting.rounds(7, 2);
    let connections = setting.pick(30_000, 3000);
    let mut memory = BTreeMap::new();
    let measured = isolated(|| {
        let (mut load, _) = Load::start(&["churn", "--listeners", LISTENERS, "--port", PORT])?;
        let mut measured = Measured::new();
        for round in 0..rounds {
            for tool in rotated(&tools, round) {
                let observer = Observer::start(tool, &setting.raindrops, &mut load)?;
                let one = measure(&observer, &mut load, connections)?;
                memory.insert(tool, observer.map_bytes()?);
                observer.end()?;
                measured.entry(tool).or_default().push(one);
            }
        }
        Ok(measured)
    })?;
    let idle = idle_memory(setting)?;

    report.tables = vec![
        totals(&measured),
        by_program(&measured),
        memory_table(&memory, idle),
    ];
    if let Some(rounds) = measured.get(&Tool::Raindrops) {
        let microseconds =
            |value: fn(&Round) -> f64| sample(rounds, value).map(|sample| sample.median() / 1000.0);
        let what = "BPF time per connection";
        let goal = |which, value| Goal::at_most(format!("{what}, {which}"), value, 1.0, " µs");
        report
            .goals
            .extend(microseconds(Round::net).map(|net| goal("net", net)));
        report
            .goals
            .extend(microseconds(Round::gross).map(|gross| goal("gross", gross)));
    }
    report.goals.push(Goal::at_most(
        format!("map memory, idle, {MANY_LISTENERS} listeners"),
        idle as f64 / 1e6,
        4.0,
        " MB",
    ));
    let text = format!("{rounds} rounds of {connections} connections for each.");
    report.notes.insert(0, text);
    Ok(report)
}

fn measure(observer: &Observer, load: &mut Answering, connections: u32) -> Result<Round> {
    let programs = || observer.programs();
    let (noted, _) = noted(c"inet_sock_set_state", programs, || {
        churn(load, connections)
    })?;
    let per_connection = |runs: Runs| PerConnection {
        runs: runs.count as f64 / f64::from(connections),
        nanoseconds: runs.nanoseconds as f64 / f64::from(connections),
    };
    let programs = noted.programs.into_iter();
    Ok(Round {
        empty: noted.empty,
        programs: programs
            .map(|(name, runs)| (name, per_connection(runs)))
            .collect(),
    })
}

/// Bytes of the daemon's maps while nothing happens.
fn idle_memory(setting: &Setting) -> Result<u64> {
    isolated(|| {
        let listen = ["listen", "--listeners", MANY_LISTENERS, "--port", PORT];
        let (_load, _) = Load::start(&listen)?;
        let daemon = Daemon::start(&setting.raindrops, &[])?;
        let bytes = map_bytes(daemon.pid())?;
        daemon.end()?;
        Ok(bytes)
    })
}

fn sample(rounds: &[Round], value: impl Fn(&Round) -> f64) -> Option<Sample> {
    Sample::new(rounds.iter().map(value))
}

fn text(rounds: &[Round], decimals: usize, value: impl Fn(&Round) -> f64) -> String {
    sample(rounds, value).map_or_else(String::new, |sample| sample.text(decimals))
}

fn totals(measured: &Measured) -> Table {
    let mut table = Table::new([
        "observer",
        "runs per connection",
        "ns per connection, gross",
        "ns per connection, net",
        "ns per run, gross",
        "ns per run, net",
        "ns per run of the empty program",
    ]);
    for (tool, rounds) in measured {
        table.row([
            tool.name().to_owned(),
            text(rounds, 1, Round::runs),
            text(rounds, 0, Round::gross),
            text(rounds, 0, Round::net),
            text(rounds, 0, |round| round.gross() / round.runs()),
            text(rounds, 0, |round| round.net() / round.runs()),
            text(rounds, 1, |round| round.empty),
        ]);
    }
    table
}

fn by_program(measured: &Measured) -> Table {
    let mut table = Table::new([
        "raindrops' program",
        "runs per connection",
        "ns per run, gross",
        "ns per run, net",
        "ns per connection, net",
    ]);
    let rounds = measured
        .get(&Tool::Raindrops)
        .map_or(&[][..], Vec::as_slice);
    let names = rounds
        .first()
        .into_iter()
        .flat_map(|round| round.programs.keys());
    for name in names {
        let of = |round: &Round| round.programs.get(name).copied().unwrap_or_default();
        if rounds.iter().all(|round| of(round).runs == 0.0) {
            continue;
        }
        let net = |round: &Round| of(round).nanoseconds - of(round).runs * round.empty;
        table.row([
            name.clone(),
            text(rounds, 2, |round| of(round).runs),
            text(rounds, 0, |round| of(round).nanoseconds / of(round).runs),
            text(rounds, 0, |round| net(round) / of(round).runs),
            text(rounds, 0, net),
        ]);
    }
    table
}

fn memory_table(after_load: &BTreeMap<Tool, u64>, idle: u64) -> Table {
    let mut table = Table::new(["memory of maps, as the kernel accounts for it", "KiB"]);
    let kib = |bytes: u64| (bytes / 1024).to_string();
    table.row([
        format!("raindrops, idle, {MANY_LISTENERS} listeners"),
        kib(idle),
    ]);
    for (tool, bytes) in after_load {
        let what = format!("{}, {LISTENERS} listeners, after the load", tool.name());
        table.row([what, kib(*bytes)]);
    }
    table
}
