//! What it takes to look over all connections, which turns are counted with.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::Section;
use crate::bench::{
    Setting,
    bpf::{Runs, Statistics, programs},
    child::{Answering, until},
    daemon::{Daemon, processor_time},
    isolated::isolated,
    load::{Load, keep_alive},
    needs,
    nginx::Nginx,
    report::{Report, Table},
    statistics::Sample,
    turns::Turns,
};

const PORT: &str = "26000";
/// Processes that hold connections, at each step.
const STEPS: [u8; 3] = [0, 1, 3];
const READ_EVERY: Duration = Duration::from_millis(100);
/// Looks are as many as while something happens until so long after it.
const SETTLES: Duration = Duration::from_millis(1500);

/// The program that looks.
const PROGRAM: &str = "count_turns";

const METHOD: &str = "\
One daemon at a time, first with turns off and then on, and nginx (`return 200`, two workers) with \
keep-alive connections that have had one answer each and are idle since. `GET /v1/view` is asked for \
ten times a second over one connection. Processor time is the scheduler's figure for the daemon's \
threads, in percent of one CPU. That of `sampler` includes the looks, which are runs of the program \
`count_turns` that it asks for; `raindrops-proc` reads the descriptors of processes, those of both ends \
of each connection here, whether turns are on or off. The looks' time is the kernel's (`BPF_ENABLE_STATS`; that it is noted adds less \
than 0.1 µs). The reader's own connection is always among those that are looked at: where there is no \
other, a look takes what going over an empty table takes, and where that is short the reader's requests \
bring more looks. The daemon keeps looks to one part in 200 of its time. Noise: a window has few looks; \
what interrupts one is in its time.";

/// Threads that are told apart.
const SAMPLER: &str = "sampler";
const PROCESSES: &str = "raindrops-proc";

/// At one number of connections.
#[derive(Default)]
struct Figures {
    /// Percent of a CPU: all threads, and two of them.
    processor: Vec<f64>,
    sampler: Vec<f64>,
    processes: Vec<f64>,
    looks_per_second: Vec<f64>,
    nanoseconds_per_look: Vec<f64>,
}

/// By the number of idle connections, for each way of following turns.
type Measured = BTreeMap<(u32, Turns), Figures>;

pub fn run(setting: &Setting) -> Result<Report> {
    let mut report = Report::new(Section::LookOver.title(), METHOD);
    if let Some(absent) = needs::absent("nginx") {
        report.notes.push(absent);
        return Ok(report);
    }
    let windows = setting.rounds(3, 2);
    let window = Duration::from_secs(2);
    let measured = isolated(|| {
        let _nginx = Nginx::answering_at_once(PORT)?;
        let mut measured = Measured::new();
        for turns in [Turns::Off, Turns::On] {
            match turns.daemon(setting, &[])? {
                Ok(daemon) => {
                    for (count, figures) in measure(setting, &daemon, windows, window)? {
                        measured.insert((count, turns), figures);
                    }
                    daemon.end()?;
                }
                Err(reason) => {
                    let text = format!("Not measured: turns {}: {reason}.", turns.name());
                    report.notes.push(text);
                }
            }
        }
        Ok(measured)
    })?;

    report.tables.push(table(&measured));
    let text = format!(
        "{windows} windows of {} s at each number of connections.",
        window.as_secs()
    );
    report.notes.insert(0, text);
    Ok(report)
}

/// Connections of one process.
fn connections(setting: &Setting) -> u32 {
    setting.pick(10_000, 1000)
}

fn measure(
    setting: &Setting,
    daemon: &Daemon,
    windows: u32,
    window: Duration,
) -> Result<BTreeMap<u32, Figures>> {
    let _statistics = Statistics::on()?;
    let each = connections(setting);
    let mut clients: Vec<Answering> = Vec::new();
    let mut measured = BTreeMap::new();
    for step in STEPS {
        while let held = clients.len()
            && held < usize::from(step)
        {
            clients.push(idle_connections(each, &held.to_string())?);
        }
        let count = u32::from(step) * each;
        until("all connections in the view", || {
            Ok((daemon.active_connections()? == u64::from(count)).then_some(()))
        })?;
        pass(daemon, SETTLES)?;
        let mut figures = Figures::default();
        for _ in 0..windows {
            figures.add(daemon, window)?;
        }
        measured.insert(count, figures);
    }
    Ok(measured)
}

/// Each has had one answer.
fn idle_connections(count: u32, source: &str) -> Result<Answering> {
    let connections = count.to_string();
    let arguments = [
        "keep-alive",
        "--connections",
        &connections,
        "--port",
        PORT,
        "--source",
        source,
    ];
    let (mut client, _) = Load::start(&arguments)?;
    keep_alive(&mut client, count)?;
    Ok(client)
}

impl Figures {
    fn add(&mut self, daemon: &Daemon, window: Duration) -> Result<()> {
        let (before, looks) = (processor_time(daemon.pid())?, looks(daemon)?);
        let began = Instant::now();
        pass(daemon, window)?;
        let after = processor_time(daemon.pid())?;
        let seconds = began.elapsed().as_secs_f64();
        let mut all = 0.0;
        for (thread, time) in after {
            let used = time.saturating_sub(before.get(&thread).copied().unwrap_or_default());
            let percent = 100.0 * used.as_secs_f64() / seconds;
            all += percent;
            match thread.as_str() {
                SAMPLER => self.sampler.push(percent),
                PROCESSES => self.processes.push(percent),
                _ => {}
            }
        }
        self.processor.push(all);
        if let (Some(before), Some(after)) = (looks, self::looks(daemon)?) {
            let count = after.count - before.count;
            self.looks_per_second.push(count as f64 / seconds);
            if count != 0 {
                let nanoseconds = after.nanoseconds - before.nanoseconds;
                self.nanoseconds_per_look
                    .push(nanoseconds as f64 / count as f64);
            }
        }
        Ok(())
    }
}

/// `None` with turns off.
fn looks(daemon: &Daemon) -> Result<Option<Runs>> {
    let programs = programs(daemon.pid())?;
    let mut found = programs
        .into_iter()
        .filter(|(program, _)| program.name == PROGRAM);
    Ok(found.next().map(|(_, runs)| runs))
}

/// Lets time pass while the view is read.
fn pass(daemon: &Daemon, window: Duration) -> Result<()> {
    let mut client = daemon.client("/v1/view")?;
    let began = Instant::now();
    let mut next = began;
    while began.elapsed() < window {
        client.get().context("reading the view")?;
        next += READ_EVERY;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn table(measured: &Measured) -> Table {
    let mut table = Table::new([
        "idle connections",
        "turns",
        "daemon, % of a CPU",
        SAMPLER,
        PROCESSES,
        "looks per second",
        "ns per look",
        "ns per look and connection, more than with none",
    ]);
    let sample = |values: &[f64]| Sample::new(values.iter().copied());
    let text = |values: &[f64], decimals| {
        sample(values).map_or_else(|| "–".to_owned(), |sample| sample.text(decimals))
    };
    for ((count, turns), figures) in measured {
        let none = measured.get(&(0, *turns));
        let look = |figures: &Figures| Some(sample(&figures.nanoseconds_per_look)?.median());
        let each = match (count, look(figures), none.and_then(look)) {
            (1.., Some(all), Some(none)) => format!("{:.0}", (all - none) / f64::from(*count)),
            _ => "–".to_owned(),
        };
        table.row([
            count.to_string(),
            turns.name().to_owned(),
            text(&figures.processor, 2),
            text(&figures.sampler, 2),
            text(&figures.processes, 2),
            text(&figures.looks_per_second, 1),
            text(&figures.nanoseconds_per_look, 0),
            each,
        ]);
    }
    table
}
