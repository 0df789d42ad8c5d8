//! What the daemon itself takes of the machine.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::Section;
use crate::bench::{
    Setting,
    child::numbers,
    daemon::{Daemon, memory_kib, processor_time},
    isolated::isolated,
    load::{Load, churn},
    report::{Goal, Report, Table},
    statistics::Sample,
};

const LISTENERS: &str = "20";
const PORT: &str = "23000";
/// The daemon publishes less ten seconds after it was read last.
const UNREAD_AFTER: Duration = Duration::from_secs(12);
const READ_EVERY: Duration = Duration::from_secs(1);

const METHOD: &str = "\
One daemon at a time with 20 TCP listeners in its network namespace. Processor time is the \
scheduler's own figure for each thread (`/proc/PID/task/*/schedstat`), in percent of one CPU; it \
includes system calls. Unread means that nobody has asked for 12 s; read means `GET /v1/view` once a \
second; under load, short connections run to all listeners as fast as one client makes them. \
BPF that runs in the context of others is not in these figures: it is in the first two sections. \
Memory is VmRSS at the end of each window, and VmHWM, the most there was, at the end of all. Looking \
at the processes of the host costs more with more of them. Noise: time of interrupts that hit the \
daemon is charged to it.";

struct Case {
    name: &'static str,
    sample_hz: &'static str,
    read: bool,
    load: bool,
    /// Percent of a CPU.
    target: Option<f64>,
}

const CASES: [Case; 6] = [
    Case {
        name: "10 Hz, unread",
        sample_hz: "10",
        read: false,
        load: false,
        target: Some(0.2),
    },
    Case {
        name: "100 Hz, unread",
        sample_hz: "100",
        read: false,
        load: false,
        target: Some(0.5),
    },
    Case {
        name: "10 Hz, read",
        sample_hz: "10",
        read: true,
        load: false,
        target: None,
    },
    Case {
        name: "100 Hz, read",
        sample_hz: "100",
        read: true,
        load: false,
        target: None,
    },
    Case {
        name: "10 Hz, unread, under load",
        sample_hz: "10",
        read: false,
        load: true,
        target: None,
    },
    Case {
        name: "10 Hz, read, under load",
        sample_hz: "10",
        read: true,
        load: true,
        target: None,
    },
];

/// The most VmRSS that there may be, in MB.
const MEMORY_TARGET: f64 = 12.0;

struct Outcome {
    /// Percent of a CPU in each window, by thread.
    threads: BTreeMap<String, Vec<f64>>,
    total: Sample,
    /// Connections per second, under load.
    rate: Option<Sample>,
    resident_kib: Sample,
    most_kib: u64,
}

pub fn run(setting: &Setting) -> Result<Report> {
    let mut report = Report::new(Section::DaemonCost.title(), METHOD);
    let windows = setting.rounds(5, 2);
    let window = setting.pick(Duration::from_secs(8), Duration::from_secs(3));
    let mut totals = Table::new([
        "daemon",
        "% of a CPU",
        "connections/s",
        "VmRSS, MiB",
        "VmHWM, MiB",
    ]);
    let mut by_thread = Table::new(["daemon", "thread", "% of a CPU"]);
    let mut most_resident: f64 = 0.0;
    for case in &CASES {
        let outcome = isolated(|| measure(setting, case, windows, window))?;
        totals.row([
            case.name.to_owned(),
            outcome.total.text(3),
            outcome
                .rate
                .map_or_else(|| "–".to_owned(), |rate| rate.text(0)),
            mib(outcome.resident_kib.median()),
            mib(outcome.most_kib as f64),
        ]);
        for (thread, percents) in outcome.threads {
            let percents = Sample::new(percents).map_or_else(String::new, |sample| sample.text(3));
            by_thread.row([case.name.to_owned(), thread, percents]);
        }
        let what = format!("daemon, {}, CPU", case.name);
        let goal = |target| Goal::at_most(what, outcome.total.median(), target, " %");
        report.goals.extend(case.target.map(goal));
        most_resident = most_resident.max(outcome.resident_kib.greatest());
    }
    report.goals.push(Goal::at_most(
        "daemon, steady VmRSS, the greatest",
        most_resident * 1024.0 / 1e6,
        MEMORY_TARGET,
        " MB",
    ));
    report.tables = vec![totals, by_thread];
    report.notes.push(format!(
        "{windows} windows of {} s each; {} processes on the host.",
        window.as_secs(),
        processes()?
    ));
    Ok(report)
}

fn mib(kib: f64) -> String {
    format!("{:.1}", kib / 1024.0)
}

fn processes() -> Result<usize> {
    let entries = fs::read_dir("/proc")?.flatten();
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    Ok(entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_process))
        .count())
}

fn measure(setting: &Setting, case: &Case, windows: u32, window: Duration) -> Result<Outcome> {
    let (mut load, _) = Load::start(&["churn", "--listeners", LISTENERS, "--port", PORT])?;
    let connections = match case.load {
        true => churn(&mut load, 5000)?.per_second() * window.as_secs_f64(),
        false => 0.0,
    } as u32;
    let daemon = Daemon::start(&setting.raindrops, &["--sample-hz", case.sample_hz])?;
    thread::sleep(UNREAD_AFTER);
    let mut threads: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let (mut totals, mut rates, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..windows {
        let before = processor_time(daemon.pid())?;
        let began = Instant::now();
        if case.load {
            load.send(&connections.to_string())?;
        }
        pass(window, case.read.then_some(&daemon))?;
        if case.load {
            let [seconds, _]: [f64; 2] = numbers(&load.line()?)?;
            rates.push(f64::from(connections) / seconds);
        }
        let after = processor_time(daemon.pid())?;
        let elapsed = began.elapsed();
        let mut total = 0.0;
        for (thread, time) in after {
            let used = time.saturating_sub(before.get(&thread).copied().unwrap_or_default());
            let percent = 100.0 * used.as_secs_f64() / elapsed.as_secs_f64();
            total += percent;
            threads.entry(thread).or_default().push(percent);
        }
        totals.push(total);
        resident.push(memory_kib(daemon.pid(), "VmRSS")? as f64);
    }
    let most_kib = memory_kib(daemon.pid(), "VmHWM")?;
    daemon.end()?;
    Ok(Outcome {
        threads,
        total: Sample::new(totals).context("no windows")?,
        rate: Sample::new(rates),
        resident_kib: Sample::new(resident).context("no windows")?,
        most_kib,
    })
}

/// Lets time pass; somebody may read the view meanwhile.
fn pass(window: Duration, reader: Option<&Daemon>) -> Result<()> {
    let began = Instant::now();
    let mut next = began;
    while began.elapsed() < window {
        if let Some(daemon) = reader {
            daemon.client("/v1/view")?.get()?;
        }
        next += READ_EVERY;
        thread::sleep(
            next.min(began + window)
                .saturating_duration_since(Instant::now()),
        );
    }
    Ok(())
}
