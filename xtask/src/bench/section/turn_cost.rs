//! What the programs that follow turns take, by the kernel's own statistics.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::Result;

use super::{Section, rotated};
use crate::bench::{
    Setting,
    bpf::{noted, programs},
    child::Answering,
    daemon::Daemon,
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
/// A view is made at least so often while somebody reads.
const PUBLISHED_WITHIN: Duration = Duration::from_millis(250);

const METHOD: &str = "\
nginx (`return 200`, two workers) answers one client process over 64 keep-alive connections, one \
request at a time on each, and the kernel notes the run time of every program (`BPF_ENABLE_STATS`). \
What the kernel notes of a program that returns at once, on `sock_send_length` in the same run, is \
taken off for each run: the figures are *net* where nothing else is said. The programs are those that \
turns are followed with; one of them runs with turns off too, and what it takes then is taken off of \
the others' figures in the same round. Both ends are on this host, and the programs run for the \
client's reads, writes, arrivals and waits as well, only to find that they are none of a followed \
connection. How many those are the client counts itself (of arrivals, one for each answer); the rest \
is the server's. What a run takes that finds nothing is measured in a run of its own, by a daemon that \
follows another network namespace, to which both ends are nothing. *The server's end* is all without \
the client's runs at that price: what a server pays whose clients are elsewhere. Noise: what else runs \
on the machine is counted as the server's, cold caches raise a single run, and the cost of noting \
varies with the clock of the machine.";

/// What follows turns; the kernel keeps 15 bytes of the names.
const PROGRAMS: [&str; 6] = [
    "data_ready",
    "data_read",
    "data_written",
    "poll_enter",
    "epoll_ctl_enter",
    "epoll_wait_enter",
];
const NAME_LENGTH: usize = 15;

/// Where the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    /// Following the connections, and their turns in this way.
    Following(Turns),
    /// Following turns in another network namespace.
    Elsewhere,
}

const ALL: [Run; 4] = [
    Run::Following(Turns::Off),
    Run::Following(Turns::Light),
    Run::Following(Turns::On),
    Run::Elsewhere,
];

/// One program, for one turn.
#[derive(Clone, Copy, Debug, Default)]
struct PerTurn {
    runs: f64,
    /// Runs that the client made.
    client: f64,
    gross: f64,
    net: f64,
}

impl PerTurn {
    /// Nothing where it did not run.
    fn net_per_run(self) -> f64 {
        if self.runs == 0.0 {
            0.0
        } else {
            self.net / self.runs
        }
    }
}

/// One run of the load.
#[derive(Clone, Debug)]
struct Figures {
    /// What noting one run cost.
    empty: f64,
    programs: [PerTurn; PROGRAMS.len()],
    /// Turns in the view, as a part of the requests that were made.
    counted: f64,
}

impl Figures {
    fn sum(&self, value: impl Fn(PerTurn) -> f64) -> f64 {
        self.programs.iter().copied().map(value).sum()
    }
}

/// One round, of what could be measured.
type Round = BTreeMap<Run, Figures>;

/// A way of following turns in one round, next to what it is compared with.
struct Compared<'a> {
    with: &'a Figures,
    off: &'a Figures,
    elsewhere: &'a Figures,
}

impl<'a> Compared<'a> {
    fn of(round: &'a Round, turns: Turns) -> Option<Self> {
        Some(Self {
            with: round.get(&Run::Following(turns))?,
            off: round.get(&Run::Following(Turns::Off))?,
            elsewhere: round.get(&Run::Elsewhere)?,
        })
    }

    /// More than with turns off.
    fn more(&self, value: impl Fn(PerTurn) -> f64) -> f64 {
        self.with.sum(&value) - self.off.sum(&value)
    }

    /// What the runs of the server's end take more of one program than they do with turns off.
    fn server(&self, program: usize) -> f64 {
        let with = self.with.programs[program];
        let of_client = with.client * self.elsewhere.programs[program].net_per_run();
        let off = (with.runs - with.client) * self.off.programs[program].net_per_run();
        with.net - of_client - off
    }

    fn server_in_all(&self) -> f64 {
        (0..PROGRAMS.len())
            .map(|program| self.server(program))
            .sum()
    }
}

pub fn run(setting: &Setting) -> Result<Report> {
    let mut report = Report::new(Section::TurnCost.title(), METHOD);
    if let Some(absent) = needs::absent("nginx") {
        report.notes.push(absent);
        return Ok(report);
    }
    let count = setting.rounds(15, 2);
    let requests = setting.pick(60_000, 10_000);
    let mut refused: BTreeMap<Run, String> = BTreeMap::new();
    let rounds: Vec<Round> = isolated(|| {
        let _nginx = Nginx::answering_at_once(PORT)?;
        let mut rounds = Vec::new();
        for round in 0..count {
            let mut figures = Round::new();
            for run in rotated(&ALL, round) {
                if refused.contains_key(&run) {
                    continue;
                }
                match measure(setting, run, requests)? {
                    Ok(measured) => drop(figures.insert(run, measured)),
                    Err(reason) => drop(refused.insert(run, reason)),
                }
            }
            rounds.push(figures);
        }
        Ok(rounds)
    })?;

    report.tables = vec![totals(&rounds), by_program(&rounds)];
    for (turns, target) in [(Turns::Light, 0.15), (Turns::On, 0.5)] {
        let goal = |end, sample: Option<Sample>| {
            let what = format!("BPF time per turn, turns {}, {end}", turns.name());
            sample.map(|sample| Goal::at_most(what, sample.median() / 1000.0, target, " µs"))
        };
        let server = compared(&rounds, turns, |it| it.server_in_all());
        let both = compared(&rounds, turns, |it| it.more(|program| program.net));
        report.goals.extend(goal("the server's end", server));
        report.goals.extend(goal("both ends", both));
    }
    report
        .notes
        .push(format!("{count} rounds of {requests} requests for each."));
    for (run, reason) in refused {
        let text = format!("Not measured: {}: {reason}.", name(run));
        report.notes.push(text);
    }
    Ok(report)
}

fn measure(setting: &Setting, run: Run, requests: u32) -> Result<Result<Figures, String>> {
    // The host may have older connections, for which the programs would go on looking.
    let only_its_own = ["--netns", "own"];
    match run {
        Run::Following(turns) => match turns.daemon(setting, &only_its_own)? {
            Ok(daemon) => figures(daemon, &mut client()?, requests).map(Ok),
            Err(reason) => Ok(Err(reason)),
        },
        Run::Elsewhere => {
            let mut load = client()?;
            isolated(|| match Turns::On.daemon(setting, &only_its_own)? {
                Ok(daemon) => figures(daemon, &mut load, requests).map(Ok),
                Err(reason) => Ok(Err(reason)),
            })
        }
    }
}

fn client() -> Result<Answering> {
    let arguments = ["keep-alive", "--connections", CONNECTIONS, "--port", PORT];
    Ok(Load::start(&arguments)?.0)
}

fn figures(daemon: Daemon, load: &mut Answering, requests: u32) -> Result<Figures> {
    thread::sleep(LOOKS_FOR_OLDER);
    keep_alive(load, WARM_UP)?;
    let of_daemon = || programs(daemon.pid());
    let (noted, kept) = noted(c"sock_send_length", of_daemon, || {
        keep_alive(load, requests)
    })?;
    thread::sleep(PUBLISHED_WITHIN);
    let turns = daemon.turns()?;
    daemon.end()?;
    let per_turn = |number: u64| number as f64 / f64::from(requests);
    Ok(Figures {
        empty: noted.empty,
        programs: PROGRAMS.map(|program| {
            let name = &program[..program.len().min(NAME_LENGTH)];
            let runs = noted.programs.get(name).copied().unwrap_or_default();
            let gross = per_turn(runs.nanoseconds);
            // Programs that are not attached do not run for anybody.
            let client = u64::from(of_client(program, &kept)).min(runs.count);
            PerTurn {
                runs: per_turn(runs.count),
                client: per_turn(client),
                gross,
                net: gross - per_turn(runs.count) * noted.empty,
            }
        }),
        // The client's first request tells it how long an answer is.
        counted: turns as f64 / f64::from(1 + WARM_UP + requests),
    })
}

/// Runs of a program that the client has made.
fn of_client(program: &str, kept: &KeptAlive) -> u32 {
    match program {
        "data_ready" => kept.requests,
        "data_read" => kept.reads,
        "data_written" => kept.writes,
        "epoll_wait_enter" => kept.waits,
        _ => 0,
    }
}

fn name(run: Run) -> String {
    match run {
        Run::Following(turns) => format!("turns {}", turns.name()),
        Run::Elsewhere => "following another network namespace".to_owned(),
    }
}

/// Of one run in all rounds.
fn each(rounds: &[Round], run: Run, value: impl Fn(&Figures) -> f64) -> Option<Sample> {
    super::each(rounds, &run, value)
}

/// Of one way of following turns, against others of the same round.
fn compared(
    rounds: &[Round],
    turns: Turns,
    value: impl Fn(&Compared<'_>) -> f64,
) -> Option<Sample> {
    let compared = rounds.iter().filter_map(|round| Compared::of(round, turns));
    Sample::new(compared.map(|it| value(&it)))
}

fn text(sample: Option<Sample>, decimals: usize) -> String {
    sample.map_or_else(|| "–".to_owned(), |sample| sample.text(decimals))
}

fn totals(rounds: &[Round]) -> Table {
    let mut table = Table::new([
        "raindrops",
        "runs per turn",
        "of these the client's",
        "ns per turn, gross",
        "ns per turn, net",
        "more than with turns off, gross",
        "more than with turns off, net",
        "of this the server's end",
        "ns per run of the empty program",
        "turns in the view for each request",
    ]);
    for run in ALL {
        let sum = |value: fn(PerTurn) -> f64, decimals| {
            text(each(rounds, run, |figures| figures.sum(value)), decimals)
        };
        let against_off = |value: &dyn Fn(&Compared<'_>) -> f64| match run {
            Run::Following(turns) if turns != Turns::Off => text(compared(rounds, turns, value), 0),
            _ => "–".to_owned(),
        };
        table.row([
            name(run),
            sum(|program| program.runs, 2),
            sum(|program| program.client, 2),
            sum(|program| program.gross, 0),
            sum(|program| program.net, 0),
            against_off(&|it| it.more(|program| program.gross)),
            against_off(&|it| it.more(|program| program.net)),
            against_off(&|it| it.server_in_all()),
            text(each(rounds, run, |figures| figures.empty), 1),
            match run {
                Run::Following(turns) if turns != Turns::Off => {
                    text(each(rounds, run, |figures| figures.counted), 3)
                }
                _ => "–".to_owned(),
            },
        ]);
    }
    table
}

fn by_program(rounds: &[Round]) -> Table {
    let mut table = Table::new([
        "turns",
        "program",
        "runs per turn, server's end",
        "runs per turn, client's end",
        "ns per run, both ends",
        "ns per run that finds nothing",
        "ns per turn, both ends",
        "ns per turn, server's end, more than with turns off",
    ]);
    for turns in Turns::ALL {
        let run = Run::Following(turns);
        for (index, program) in PROGRAMS.into_iter().enumerate() {
            let of = |value: fn(PerTurn) -> f64| {
                each(rounds, run, |figures| value(figures.programs[index]))
            };
            let has_run = of(|it| it.runs).is_some_and(|runs| runs.greatest() >= 0.005);
            if !has_run {
                continue;
            }
            let in_vain = each(rounds, Run::Elsewhere, |figures| {
                figures.programs[index].net_per_run()
            });
            let server = compared(rounds, turns, |it| it.server(index));
            table.row([
                turns.name().to_owned(),
                program.to_owned(),
                text(of(|it| it.runs - it.client), 2),
                text(of(|it| it.client), 2),
                text(of(PerTurn::net_per_run), 0),
                text(in_vain.filter(|_| turns != Turns::Off), 0),
                text(of(|it| it.net), 0),
                text(server.filter(|_| turns != Turns::Off), 0),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{Compared, Figures, PROGRAMS, PerTurn};

    /// `data_ready` and `data_read`, as runs, runs of the client, and nanoseconds.
    fn figures(ready: (f64, f64, f64), read: (f64, f64, f64)) -> Figures {
        let per_turn = |(runs, client, net)| PerTurn {
            runs,
            client,
            gross: net,
            net,
        };
        let mut programs = [PerTurn::default(); PROGRAMS.len()];
        programs[0] = per_turn(ready);
        programs[1] = per_turn(read);
        Figures {
            empty: 0.0,
            programs,
            counted: 1.0,
        }
    }

    /// Check that the client's runs are taken off at the price of a run that finds nothing, and the
    /// server's at that of turns off.
    #[test]
    fn the_servers_part_of_what_both_ends_take() {
        let with = figures((2.0, 1.0, 150.0), (2.0, 1.0, 200.0));
        let off = figures((2.0, 1.0, 20.0), (0.0, 0.0, 0.0));
        let elsewhere = figures((2.0, 1.0, 80.0), (2.0, 1.0, 60.0));
        let compared = Compared {
            with: &with,
            off: &off,
            elsewhere: &elsewhere,
        };
        assert_eq!(compared.more(|program| program.net), 330.0);
        assert_eq!(compared.server(0), 150.0 - 40.0 - 10.0);
        assert_eq!(compared.server(1), 200.0 - 30.0);
        assert_eq!(compared.server_in_all(), 270.0);
    }
}
