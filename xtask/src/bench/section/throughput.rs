//! What is left of the connections per second while something observes them.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Section, each, ratio, rotated};
use crate::bench::{
    Setting,
    isolated::isolated,
    load::{Churned, Load, churn},
    observer::{Observer, Tool},
    report::{Goal, Report, Table},
    statistics::Sample,
};

const METHOD: &str = "\
Short loopback connections (one client process, one server process, 10 listeners; nothing is sent, \
the server closes first), as many as the two make. In each round every observer runs once, in an \
order that rotates, and is compared with nothing attached in the same round. The kernel's statistics \
of BPF are off. tcpstates and bpftrace write to /dev/null. *CPU of the load* is the processor time of \
client and server, which includes the programs that run in their context; *CPU of the observer* is \
that of its own process during the same time. Noise: the range of `nothing` is that of the machine.";

const PORT: &str = "22000";

/// One observer in one round.
#[derive(Clone, Copy, Debug)]
struct Turn {
    churned: Churned,
    observer_us: f64,
}

type Round = BTreeMap<Tool, Turn>;

pub fn run(setting: &Setting) -> Result<Report> {
    let mut report = Report::new(Section::Throughput.title(), METHOD);
    let tools = Tool::available(&mut report.notes);
    let count = setting.rounds(21, 3);
    let connections = setting.pick(40_000, 4000);
    let rounds: Vec<Round> = isolated(|| {
        let (mut load, _) = Load::start(&["churn", "--listeners", "10", "--port", PORT])?;
        // Ends that wait then are as many in the first round as in the last.
        churn(&mut load, setting.pick(200_000, connections))?;
        let mut rounds = Vec::new();
        for round in 0..count {
            let mut turns = Round::new();
            for tool in rotated(&tools, round) {
                let observer = Observer::start(tool, &setting.raindrops, &mut load)?;
                let before = observer.processor_seconds()?;
                let churned = churn(&mut load, connections)?;
                let observer_seconds = observer.processor_seconds()? - before;
                observer.end()?;
                let observer_us = observer_seconds * 1e6 / f64::from(connections);
                turns.insert(
                    tool,
                    Turn {
                        churned,
                        observer_us,
                    },
                );
            }
            rounds.push(turns);
        }
        Ok(rounds)
    })?;

    let mut table = Table::new([
        "observer",
        "connections/s",
        "ratio to nothing",
        "CPU of the load, µs per connection",
        "ratio to nothing",
        "CPU of the observer, µs per connection",
    ]);
    for tool in &tools {
        let rate = |turn: &Turn| turn.churned.per_second();
        let cpu = |turn: &Turn| turn.churned.cpu_us_per_connection();
        let text = |sample: Option<Sample>, decimals| {
            sample.map_or_else(String::new, |sample| sample.text(decimals))
        };
        table.row([
            tool.name().to_owned(),
            text(each(&rounds, tool, rate), 0),
            text(ratio(&rounds, tool, &Tool::Nothing, rate), 3),
            text(each(&rounds, tool, cpu), 1),
            text(ratio(&rounds, tool, &Tool::Nothing, cpu), 3),
            text(each(&rounds, tool, |turn| turn.observer_us), 2),
        ]);
    }
    report.tables.push(table);
    let rate = ratio(&rounds, &Tool::Raindrops, &Tool::Nothing, |turn| {
        turn.churned.per_second()
    });
    report.goals.extend(rate.map(|ratio| {
        let what = "connections/s with raindrops against nothing, median ratio";
        Goal::at_least(what, ratio.median(), 0.97, "")
    }));
    report.notes.insert(
        0,
        format!("{count} rounds of {connections} connections for each."),
    );
    Ok(report)
}
