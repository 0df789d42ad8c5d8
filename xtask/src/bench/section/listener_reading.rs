//! Reading all listeners, with many connections in the same tables.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{Section, rotated};
use crate::bench::{
    Setting,
    child::{Answering, numbers},
    isolated::isolated,
    load::Load,
    needs,
    report::{Goal, Report, Table},
    statistics::Sample,
};
use crate::{process, workspace};

const LISTENERS: u16 = 16;
const PORT: u16 = 21_000;
const RUBY: &str = include_str!("../tcp_listener_stats.rb");

const METHOD: &str = "\
16 TCP listeners in a network namespace of their own, with 0 to 60,000 connections established and \
accepted, both ends on this host. What is timed: raindrops' LISTEN dumps (IPv4 and IPv6, parsed) and \
`Raindrops::Linux.tcp_listener_stats` within a process that runs already, with the 16 addresses named \
and without; for `ss`, which has no other form, the whole program, and `true` next to it as the price \
of starting one. They do not answer the same question: raindrops' dump has queue, limit and drops of \
each listener (its daemon reads active connections from memory that it shares with BPF, without a \
system call); tcp_listener_stats has queue and active connections; ss has queue and limit, with `-p` \
also processes. Readers take turns, so each finds the caches full of what the others read: the kernel walks its whole table of listeners for any of them. *Alone* is raindrops ten times a second with nobody else reading, as its daemon does it. Noise: single readings that were interrupted; medians leave \
them out.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reader {
    Raindrops,
    /// Ten times a second, while nobody else reads.
    Alone,
    RubyNamed,
    RubyAll,
    Ss,
    SsProcesses,
    True,
}

const PAUSE_ALONE: Duration = Duration::from_millis(100);

impl Reader {
    const ALL: [Self; 7] = [
        Self::Raindrops,
        Self::Alone,
        Self::RubyNamed,
        Self::RubyAll,
        Self::Ss,
        Self::SsProcesses,
        Self::True,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Raindrops => "raindrops, LISTEN dumps",
            Self::Alone => "raindrops, alone",
            Self::RubyNamed => "tcp_listener_stats, 16 named",
            Self::RubyAll => "tcp_listener_stats, all",
            Self::Ss => "ss -tlnH",
            Self::SsProcesses => "ss -tlnHp",
            Self::True => "true",
        }
    }
}

/// Readers that are processes already.
struct Readers {
    raindrops: Answering,
    ruby: Option<[Answering; 2]>,
}

impl Readers {
    fn start(setting: &Setting) -> Result<Self> {
        let ready = |command: &mut Command| -> Result<Answering> {
            let mut reader = Answering::start(command)?;
            let line = reader.line()?;
            ensure!(line.starts_with("READY"), "a reader said {line:?}");
            Ok(reader)
        };
        let ruby = |addresses: &[String]| {
            ready(
                Command::new("ruby")
                    .args(["-e", RUBY, "--"])
                    .args(addresses),
            )
        };
        let has_ruby = process::output(Command::new("ruby").args(["-e", "require 'raindrops'"]));
        let named: Vec<String> = (PORT..PORT + LISTENERS)
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        Ok(Self {
            raindrops: ready(&mut Command::new(&setting.reader))?,
            ruby: match has_ruby {
                Ok(_) => Some([ruby(&named)?, ruby(&[])?]),
                Err(_) => None,
            },
        })
    }

    /// Those that take turns.
    fn available(&self) -> Vec<Reader> {
        let has_ss = needs::absent("ss").is_none();
        let is_available = |reader: &Reader| match reader {
            Reader::Raindrops => true,
            Reader::Alone => false,
            Reader::RubyNamed | Reader::RubyAll => self.ruby.is_some(),
            Reader::Ss | Reader::SsProcesses => has_ss,
            Reader::True => workspace::program("true").is_some(),
        };
        Reader::ALL.into_iter().filter(is_available).collect()
    }

    /// Microseconds of one reading, which must have found all listeners.
    fn read(&mut self, reader: Reader) -> Result<f64> {
        let asked = match (reader, &mut self.ruby) {
            (Reader::Raindrops | Reader::Alone, _) => &mut self.raindrops,
            (Reader::RubyNamed, Some([named, _])) => named,
            (Reader::RubyAll, Some([_, all])) => all,
            (Reader::SsProcesses, _) => return whole_program("ss", &["-tlnHp"], LISTENERS),
            (Reader::Ss, _) => return whole_program("ss", &["-tlnH"], LISTENERS),
            _ => return whole_program("true", &[], 0),
        };
        let [found, nanoseconds]: [u64; 2] = numbers(&asked.ask("")?)?;
        ensure!(
            found == u64::from(LISTENERS),
            "{} found {found} listeners of {LISTENERS}",
            reader.name()
        );
        Ok(nanoseconds as f64 / 1000.0)
    }
}

fn whole_program(program: &str, arguments: &[&str], lines: u16) -> Result<f64> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let began = Instant::now();
    let output = command.output()?;
    let microseconds = began.elapsed().as_secs_f64() * 1e6;
    let found = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    ensure!(
        found == usize::from(lines),
        "{program} {arguments:?} found {found} listeners of {lines}"
    );
    Ok(microseconds)
}

pub fn run(setting: &Setting) -> Result<Report> {
    let mut report = Report::new(Section::ListenerReading.title(), METHOD);
    let counts = setting.pick([0, 1000, 10_000, 60_000], [0, 1000, 10_000, 30_000]);
    let rounds = setting.rounds(51, 5);
    let mut columns: BTreeMap<u32, BTreeMap<Reader, Sample>> = BTreeMap::new();
    for connections in counts {
        columns.insert(connections, at(setting, connections, rounds)?);
    }

    let heading = |count: &u32| format!("µs at {count} connections");
    let mut table = Table::new(
        [String::new()]
            .into_iter()
            .chain(counts.iter().map(heading)),
    );
    for reader in Reader::ALL {
        let cell = |column: &BTreeMap<Reader, Sample>| {
            let sample = column.get(&reader);
            sample.map_or_else(|| "not measured".to_owned(), |sample| sample.text(0))
        };
        table.row(
            [reader.name().to_owned()]
                .into_iter()
                .chain(columns.values().map(cell)),
        );
    }
    report.tables.push(table);
    let most = counts[counts.len() - 1];
    for (reader, how) in [(Reader::Alone, "alone"), (Reader::Raindrops, "in turn")] {
        let median = |count: u32| Some(columns.get(&count)?.get(&reader)?.median());
        if let (Some(none), Some(many)) = (median(0), median(most)) {
            let what = format!("reading 16 listeners, {how}");
            report.goals.extend([
                Goal::at_most(format!("{what}, no connections"), none, 40.0, " µs"),
                Goal::at_most(format!("{what}, {most} connections"), many, 40.0, " µs"),
                Goal::at_most("the same, against none, ratio", many / none, 1.2, ""),
            ]);
        }
    }
    report.notes.push(format!(
        "{rounds} readings by each at each number of connections."
    ));
    Ok(report)
}

fn at(setting: &Setting, connections: u32, rounds: u32) -> Result<BTreeMap<Reader, Sample>> {
    isolated(|| {
        let (listeners, port) = (LISTENERS.to_string(), PORT.to_string());
        let place = ["--listeners", &listeners, "--port", &port];
        let (_servers, _) = Load::start(&[&["serve", "--workers", "1"], &place[..]].concat())?;
        let held = connections.to_string();
        let _clients = match connections {
            0 => None,
            _ => Some(Load::start(
                &[&["hold", "--connections", &held], &place[..]].concat(),
            )?),
        };
        let mut readers = Readers::start(setting)?;
        let available = readers.available();
        let mut measured: BTreeMap<Reader, Vec<f64>> = BTreeMap::new();
        // The first reading of each warms it up.
        for reader in &available {
            readers.read(*reader)?;
        }
        for round in 0..rounds {
            for reader in rotated(&available, round) {
                let microseconds = readers.read(reader)?;
                measured.entry(reader).or_default().push(microseconds);
            }
        }
        for _ in 0..rounds {
            thread::sleep(PAUSE_ALONE);
            let microseconds = readers.read(Reader::Alone)?;
            measured
                .entry(Reader::Alone)
                .or_default()
                .push(microseconds);
        }
        let samples = measured.into_iter();
        Ok(samples
            .filter_map(|(reader, values)| Some((reader, Sample::new(values)?)))
            .collect())
    })
}
