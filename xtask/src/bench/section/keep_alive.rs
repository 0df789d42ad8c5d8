//! What keep-alive requests lose to turns being followed.

use std::{collections::BTreeMap, thread};

use anyhow::Result;

use super::{Section, each, ratio, rotated};
use crate::bench::{
    Setting,
    daemon::{Daemon, processor_time},
    isolated::isolated,
    load::{KeptAlive, Load, keep_alive},
    needs,
    nginx::Nginx,
    report::{Goal, Report, Table},
    statistics::Sample,
    turns::{LOOKS_FOR_OLDER, Turns},
};

const PORT: &str = "26000";
const CONNECTIONS: &str = "64";
/// Before each measurement: threads are learnt by then.
const WARM_UP: u32 = 6400;

const METHOD: &str = "\
nginx (`return 200`, two workers) answers one client process over 64 keep-alive connections, one \
request at a time on each, as many as the two make. In each round every way of following turns runs \
once, in an order that rotates, and is compared with no daemon in the same round. Each has a client of \
its own that connects when the daemon runs, which makes ten views a second as while somebody reads \
them. The kernel's statistics of BPF are off. *CPU* is processor time, which includes the programs that \
run in that process's context. Both ends are on this host, so the client's reads, writes and waits are \
looked at and passed over too, which it pays for; a client elsewhere would not. What the server's \
socket receives is dealt with in the context of the client, which sent it. Noise: the range of \
`nothing` is that of the machine, and how the kernel spreads the connections over the workers.";

/// What is attached; nothing when there is no daemon.
type Attached = Option<Turns>;

const ALL: [Attached; 4] = [None, Some(Turns::Off), Some(Turns::Light), Some(Turns::On)];

/// Of the keep-alive requests without a daemon.
const TARGET: f64 = 0.95;

/// One of what is compared, in one round.
#[derive(Clone, Copy, Debug)]
struct Turn {
    kept: KeptAlive,
    server_seconds: f64,
}

impl Turn {
    fn per_second(&self) -> f64 {
        f64::from(self.kept.requests) / self.kept.seconds
    }

    fn server_us(&self) -> f64 {
        self.server_seconds * 1e6 / f64::from(self.kept.requests)
    }

    fn client_us(&self) -> f64 {
        self.kept.cpu_seconds * 1e6 / f64::from(self.kept.requests)
    }
}

type Round = BTreeMap<Attached, Turn>;

pub fn run(setting: &Setting) -> Result<Report> {
    let mut report = Report::new(Section::KeepAlive.title(), METHOD);
    if let Some(absent) = needs::absent("nginx") {
        report.notes.push(absent);
        return Ok(report);
    }
    let count = setting.rounds(15, 3);
    let requests = setting.pick(60_000, 10_000);
    let mut refused: BTreeMap<Attached, String> = BTreeMap::new();
    let rounds: Vec<Round> = isolated(|| {
        let nginx = Nginx::answering_at_once(PORT)?;
        let mut rounds = Vec::new();
        for round in 0..count {
            let mut turns = Round::new();
            for attached in rotated(&ALL, round) {
                if refused.contains_key(&attached) {
                    continue;
                }
                let daemon = match attached.map(|turns| turns.daemon(setting, &[])) {
                    None => None,
                    Some(started) => match started? {
                        Ok(daemon) => {
                            thread::sleep(LOOKS_FOR_OLDER);
                            Some(daemon)
                        }
                        Err(reason) => {
                            refused.insert(attached, reason);
                            continue;
                        }
                    },
                };
                turns.insert(attached, measure(&nginx, requests)?);
                daemon.map_or(Ok(()), Daemon::end)?;
            }
            rounds.push(turns);
        }
        Ok(rounds)
    })?;

    report.tables.push(table(&rounds));
    for turns in [Turns::Light, Turns::On] {
        let ratio = ratio(&rounds, &Some(turns), &None, Turn::per_second);
        let what = format!(
            "keep-alive requests/s, turns {} against nothing, median ratio",
            turns.name()
        );
        report
            .goals
            .extend(ratio.map(|ratio| Goal::at_least(what, ratio.median(), TARGET, "")));
    }
    report
        .notes
        .push(format!("{count} rounds of {requests} requests for each."));
    for (attached, reason) in refused {
        let text = format!("Not measured: {}: {reason}.", name(attached));
        report.notes.push(text);
    }
    Ok(report)
}

fn measure(nginx: &Nginx, requests: u32) -> Result<Turn> {
    let arguments = ["keep-alive", "--connections", CONNECTIONS, "--port", PORT];
    let (mut load, _) = Load::start(&arguments)?;
    keep_alive(&mut load, WARM_UP)?;
    let before = server_seconds(nginx)?;
    let kept = keep_alive(&mut load, requests)?;
    Ok(Turn {
        kept,
        server_seconds: server_seconds(nginx)? - before,
    })
}

/// Processor time of the workers.
fn server_seconds(nginx: &Nginx) -> Result<f64> {
    let mut seconds = 0.0;
    for worker in nginx.workers()? {
        let threads = processor_time(worker)?;
        seconds += threads.values().map(|time| time.as_secs_f64()).sum::<f64>();
    }
    Ok(seconds)
}

fn name(attached: Attached) -> String {
    attached.map_or_else(
        || "nothing".to_owned(),
        |turns| format!("raindrops, turns {}", turns.name()),
    )
}

fn table(rounds: &[Round]) -> Table {
    let mut table = Table::new([
        "attached",
        "requests/s",
        "ratio to nothing",
        "CPU of nginx, µs per request",
        "ratio to nothing",
        "CPU of the client, µs per request",
        "ratio to nothing",
    ]);
    let text = |sample: Option<Sample>, decimals| {
        sample.map_or_else(|| "not measured".to_owned(), |sample| sample.text(decimals))
    };
    for attached in &ALL {
        let pair = |value: fn(&Turn) -> f64, decimals| {
            [
                text(each(rounds, attached, value), decimals),
                text(ratio(rounds, attached, &None, value), 3),
            ]
        };
        let cells = [
            pair(Turn::per_second, 0),
            pair(Turn::server_us, 2),
            pair(Turn::client_us, 2),
        ];
        table.row(
            [name(*attached)]
                .into_iter()
                .chain(cells.into_iter().flatten()),
        );
    }
    table
}
