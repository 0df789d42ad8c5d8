//! What the hooks on system calls cost those that have nothing to do with them.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Section, rotated};
use crate::bench::{
    Setting,
    child::{Answering, numbers},
    daemon::Daemon,
    isolated::isolated,
    load::Load,
    report::{Report, Table},
    statistics::Sample,
    turns::Turns,
};

const METHOD: &str = "\
One process calls getppid in a loop, which no program is attached to. On the kernel's side a program \
on any system call's tracepoint puts every process on the slow way into and out of the kernel; this \
is its price. In each round each accept hook is attached once with turns off, and each way of \
following turns with the accept hook that the daemon chooses, in an order that rotates; *without BPF* \
is the daemon with `--no-bpf`. Noise: the loop shares its processor with the daemon's samples, which \
*without BPF* has too.";

/// What is attached while getppid is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Attached {
    Nothing,
    WithoutBpf,
    /// With turns off.
    Hook(&'static str),
    /// With the accept hook that is chosen then.
    Turns(Turns),
}

const ALL: [Attached; 6] = [
    Attached::Nothing,
    Attached::WithoutBpf,
    Attached::Hook("syscall"),
    Attached::Hook("fexit"),
    Attached::Turns(Turns::Light),
    Attached::Turns(Turns::On),
];

impl Attached {
    fn name(self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::WithoutBpf => "raindrops without BPF".to_owned(),
            Self::Hook(hook) => format!("raindrops, accept hook {hook}, turns off"),
            Self::Turns(turns) => format!("raindrops, turns {}", turns.name()),
        }
    }

    /// `Err` with the reason where the hook cannot be attached.
    fn start(self, setting: &Setting) -> Result<Result<Option<Daemon>, String>> {
        let arguments = match self {
            Self::Nothing => return Ok(Ok(None)),
            Self::WithoutBpf => vec!["--no-bpf"],
            Self::Hook(hook) => vec!["--accept-hook", hook, "--turns", "off"],
            Self::Turns(turns) => return Ok(turns.daemon(setting, &[])?.map(Some)),
        };
        let daemon = Daemon::start(&setting.raindrops, &arguments)?;
        if let Self::Hook(hook) = self {
            let bpf = daemon.source("bpf")?;
            if bpf["detail"]["accept"] != hook {
                daemon.end()?;
                let reason = bpf["reason"].as_str().unwrap_or("another hook was taken");
                return Ok(Err(reason.to_owned()));
            }
        }
        Ok(Ok(Some(daemon)))
    }
}

pub fn run(setting: &Setting) -> Result<Report> {
    let mut report = Report::new(Section::SyscallTax.title(), METHOD);
    let rounds = setting.rounds(15, 3);
    let calls = setting.pick(2_000_000, 200_000);
    let mut measured: BTreeMap<Attached, Vec<f64>> = BTreeMap::new();
    let mut refused: BTreeMap<Attached, String> = BTreeMap::new();
    isolated(|| {
        let (mut load, _) = Load::start(&["getppid"])?;
        for round in 0..rounds {
            for attached in rotated(&ALL, round) {
                if refused.contains_key(&attached) {
                    continue;
                }
                match attached.start(setting)? {
                    Ok(daemon) => {
                        let nanoseconds = getppid(&mut load, calls)?;
                        measured.entry(attached).or_default().push(nanoseconds);
                        daemon.map_or(Ok(()), Daemon::end)?;
                    }
                    Err(reason) => {
                        refused.insert(attached, reason);
                    }
                }
            }
        }
        Ok(())
    })?;

    let mut table = Table::new(["attached", "ns per getppid", "more than with nothing, ns"]);
    let nothing = measured
        .get(&Attached::Nothing)
        .cloned()
        .unwrap_or_default();
    for attached in ALL {
        let (nanoseconds, more) = match measured.get(&attached) {
            Some(values) => {
                let more = values
                    .iter()
                    .zip(&nothing)
                    .map(|(with, without)| with - without);
                (Sample::new(values.iter().copied()), Sample::new(more))
            }
            None => (None, None),
        };
        let text = |sample: Option<Sample>| {
            sample.map_or_else(|| "not measured".to_owned(), |sample| sample.text(1))
        };
        table.row([attached.name(), text(nanoseconds), text(more)]);
    }
    report.tables.push(table);
    report
        .notes
        .push(format!("{rounds} rounds of {calls} calls for each."));
    for (attached, reason) in refused {
        report
            .notes
            .push(format!("Not measured: {}: {reason}.", attached.name()));
    }
    Ok(report)
}

fn getppid(load: &mut Answering, calls: u32) -> Result<f64> {
    let [nanoseconds] = numbers(&load.ask(&calls.to_string())?)?;
    Ok(nanoseconds)
}
