//! What a good client of the socket notices of a crowd of bad ones.

use std::{
    io::Write as _,
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::Section;
use crate::bench::{
    Setting,
    daemon::{Daemon, memory_kib},
    isolated::isolated,
    load::Load,
    report::{Goal, Report, Table},
    statistics::Sample,
};

/// With the good one, and those that send nonsense, all that may be there.
const IDLE: usize = 980;
const DEAF: usize = 10;
const NONSENSE: &[u8] = b"\x16\x03\x01 / HTTP/9.9\r\n\r\n";
/// Between two of those who send nonsense.
const PAUSE: Duration = Duration::from_millis(1);
const LISTENERS: &str = "10";
const PORT: &str = "27000";

const METHOD: &str = "\
10 listeners. One client asks for `GET /v1/view` over the daemon's unix socket, one request at a time on \
one connection, by turns alone and in a crowd: 980 connections that send nothing, 10 that ask for \
`/v1/stream?interval=100ms` as often as the socket takes the request and never read, and one client \
after another, about a thousand a second, that connects, sends what is no HTTP, and leaves. The crowd \
comes and goes for each round. Time is from the first byte of the request to the last one of the answer. \
The nonsense is sent by the measuring process, on the same two processors as all else. Noise: what \
interrupts a request is in the 99th percentile of both.";

#[derive(Default)]
struct Requests {
    /// Microseconds of each request, by round.
    rounds: Vec<Vec<f64>>,
}

impl Requests {
    fn all(&self) -> Option<Sample> {
        Sample::new(self.rounds.iter().flatten().copied())
    }

    /// Of all, with the least and the greatest of any round.
    fn text(&self, share: f64) -> String {
        let rounds = self
            .rounds
            .iter()
            .filter_map(|it| Sample::new(it.iter().copied()));
        let of_rounds = Sample::new(rounds.map(|round| round.percentile(share)));
        match self.all().zip(of_rounds) {
            Some((all, rounds)) => format!(
                "{:.0} ({:.0}–{:.0})",
                all.percentile(share),
                rounds.least(),
                rounds.greatest()
            ),
            None => "not measured".to_owned(),
        }
    }
}

pub fn run(setting: &Setting) -> Result<Report> {
    let mut report = Report::new(Section::Crowd.title(), METHOD);
    let rounds = setting.rounds(15, 4);
    let size = setting.pick(500, 200);
    let (mut alone, mut crowded) = (Requests::default(), Requests::default());
    let (mut sent, mut memory) = (0, (0, 0));
    isolated(|| {
        let place = ["--listeners", LISTENERS, "--port", PORT];
        let (_servers, _) = Load::start(&[&["serve", "--workers", "2"], &place[..]].concat())?;
        let daemon = Daemon::start(&setting.raindrops, &[])?;
        let mut client = daemon.client("/v1/view")?;
        let mut batch = || -> Result<Vec<f64>> {
            let times = (0..size).map(|_| client.timed());
            times.map(|time| Ok(time?.as_secs_f64() * 1e6)).collect()
        };
        batch()?;
        memory.0 = memory_kib(daemon.pid(), "VmRSS")?;
        for round in 0..rounds {
            let is_first = round % 2 == 0;
            if is_first {
                alone.rounds.push(batch()?);
            }
            let crowd = Crowd::gather(&daemon)?;
            let (times, nonsense) = crowd.during(&daemon, &mut batch)?;
            crowded.rounds.push(times);
            sent += nonsense;
            memory.1 = memory.1.max(memory_kib(daemon.pid(), "VmRSS")?);
            drop(crowd);
            if !is_first {
                alone.rounds.push(batch()?);
            }
        }
        daemon.end()
    })?;
    let mut table = Table::new(["client", "p50, µs", "p99, µs", "the daemon's VmRSS, MiB"]);
    for (name, requests, memory) in [
        ("alone", &alone, memory.0),
        ("in the crowd", &crowded, memory.1),
    ] {
        table.row([
            name.to_owned(),
            requests.text(0.5),
            requests.text(0.99),
            format!("{:.1}", memory as f64 / 1024.0),
        ]);
    }
    report.tables.push(table);
    let p99 = |requests: &Requests| Some(requests.all()?.percentile(0.99));
    let (alone, crowded) = p99(&alone).zip(p99(&crowded)).context("no requests")?;
    let what = "p99 of a view in a crowd, against alone";
    report
        .goals
        .push(Goal::at_most(what, crowded / alone, 2.0, " times"));
    report.notes.push(format!(
        "{rounds} rounds of {size} requests each way; {sent} clients sent nonsense meanwhile."
    ));
    Ok(report)
}

/// Clients that do nothing, and clients that do not read.
struct Crowd {
    _idle: Vec<UnixStream>,
    _deaf: Vec<UnixStream>,
}

impl Crowd {
    fn gather(daemon: &Daemon) -> Result<Self> {
        let connect = || UnixStream::connect(daemon.socket());
        let idle = (0..IDLE).map(|_| connect()).collect::<Result<_, _>>()?;
        let ask = b"GET /v1/stream?interval=100ms HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut deaf = Vec::new();
        for _ in 0..DEAF {
            let mut client = connect()?;
            client.set_nonblocking(true)?;
            while client.write(ask).is_ok_and(|sent| sent == ask.len()) {}
            deaf.push(client);
        }
        Ok(Self {
            _idle: idle,
            _deaf: deaf,
        })
    }

    /// What `batch` measures while others send nonsense, and how many did.
    fn during(
        &self,
        daemon: &Daemon,
        batch: impl FnOnce() -> Result<Vec<f64>>,
    ) -> Result<(Vec<f64>, u32)> {
        let (is_over, sent) = (AtomicBool::new(false), AtomicU32::new(0));
        let times = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let stream = UnixStream::connect(daemon.socket());
                    if stream.is_ok_and(|mut stream| stream.write_all(NONSENSE).is_ok()) {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    thread::sleep(PAUSE);
                }
            });
            let times = batch();
            is_over.store(true, Ordering::Relaxed);
            times
        })?;
        Ok((times, sent.into_inner()))
    }
}
