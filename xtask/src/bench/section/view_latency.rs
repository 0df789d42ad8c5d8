//! How long the view takes to fetch, and whether that depends on the workers.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::Section;
use crate::bench::{
    Setting,
    child::{Answering, until},
    daemon::Daemon,
    http::Client,
    isolated::isolated,
    load::Load,
    needs,
    nginx::Nginx,
    report::{Goal, Report, Table},
    statistics::Sample,
};

const LISTENERS: &str = "10";
const WORKERS: &str = "16";
const PORT: &str = "24000";

const METHOD: &str = "\
10 TCP listeners, each with a master and 16 forked workers that accept and keep connections. One \
client asks for `GET /v1/view` over the daemon's unix socket, one request at a time on one \
connection, and by turns, a batch each, for a static file of the size of the view from nginx (one \
process, `sendfile` and access log off) over a unix socket. Time is from the first byte of \
the request to the last one of the answer, which includes the client's own reading. *Hung* means \
that every worker has been stopped (SIGSTOP). Percentiles are of all requests of a case; brackets \
have the least and the greatest of any batch. The view is rendered for the first request after it \
was made, at most ten times a second, so requests in a row are mostly answered from what is rendered \
already. *Paced* requests come one every 120 ms, so that each waits for the rendering, and finds both \
servers asleep. Noise: an interrupted request is in the 99th percentile \
of both.";

/// Percentiles of one server in one case, in microseconds.
struct Latency {
    p50: Percentile,
    p99: Percentile,
}

struct Percentile {
    of_all: f64,
    of_batches: Sample,
}

impl Percentile {
    fn of(share: f64, batches: &[Sample], all: &Sample) -> Option<Self> {
        Some(Self {
            of_all: all.percentile(share),
            of_batches: Sample::new(batches.iter().map(|batch| batch.percentile(share)))?,
        })
    }

    fn text(&self) -> String {
        let (least, greatest) = (self.of_batches.least(), self.of_batches.greatest());
        format!("{:.0} ({least:.0}–{greatest:.0})", self.of_all)
    }
}

impl Latency {
    fn of(batches: &[Vec<f64>]) -> Option<Self> {
        let all = Sample::new(batches.iter().flatten().copied())?;
        let batches: Vec<Sample> = batches
            .iter()
            .filter_map(|batch| Sample::new(batch.iter().copied()))
            .collect();
        Some(Self {
            p50: Percentile::of(0.5, &batches, &all)?,
            p99: Percentile::of(0.99, &batches, &all)?,
        })
    }
}

/// Of both servers.
struct Pair {
    view: Latency,
    nginx: Option<Latency>,
}

impl Pair {
    fn of(view: &[Vec<f64>], nginx: &[Vec<f64>]) -> Result<Self> {
        Ok(Self {
            view: Latency::of(view).context("no requests")?,
            nginx: Latency::of(nginx),
        })
    }
}

struct Case {
    name: String,
    bytes: usize,
    in_a_row: Pair,
    paced: Pair,
}

pub fn run(setting: &Setting) -> Result<Report> {
    let mut report = Report::new(Section::ViewLatency.title(), METHOD);
    let absent = needs::absent("nginx");
    let has_nginx = absent.is_none();
    report.notes.extend(absent);
    let cases = isolated(|| cases(setting, has_nginx))?;

    let mut in_a_row = table("requests in a row");
    let mut paced = table("paced requests");
    for case in &cases {
        in_a_row.row(case.row(&case.in_a_row));
        paced.row(case.row(&case.paced));
        let Pair { view, nginx } = &case.in_a_row;
        let Some(nginx) = nginx else { continue };
        for (which, view, nginx) in [
            ("p50", &view.p50, &nginx.p50),
            ("p99", &view.p99, &nginx.p99),
        ] {
            let what = format!("view {which} against nginx, {}", case.name);
            let goal = Goal::at_most(what, view.of_all, nginx.of_all, " µs");
            report.goals.push(goal);
        }
    }
    report.tables = vec![in_a_row, paced];
    let (batches, size) = batches(setting);
    report.notes.push(format!(
        "{batches} batches of {size} requests in a row and {} paced requests to each in every case.",
        paced_requests(setting)
    ));
    Ok(report)
}

fn table(case: &str) -> Table {
    Table::new([
        case,
        "bytes",
        "view p50, µs",
        "nginx p50, µs",
        "view p99, µs",
        "nginx p99, µs",
    ])
}

impl Case {
    fn row(&self, pair: &Pair) -> [String; 6] {
        let nginx = |percentile: fn(&Latency) -> &Percentile| {
            let nginx = pair.nginx.as_ref().map(percentile);
            nginx.map_or_else(|| "not measured".to_owned(), Percentile::text)
        };
        [
            self.name.clone(),
            self.bytes.to_string(),
            pair.view.p50.text(),
            nginx(|latency| &latency.p50),
            pair.view.p99.text(),
            nginx(|latency| &latency.p99),
        ]
    }
}

/// Between two requests to one server when they are paced.
const PACE: Duration = Duration::from_millis(120);

fn paced_requests(setting: &Setting) -> u32 {
    setting.pick(100, 20)
}

fn batches(setting: &Setting) -> (u32, u32) {
    (setting.rounds(20, 4), setting.pick(500, 250))
}

fn cases(setting: &Setting, has_nginx: bool) -> Result<Vec<Case>> {
    let place = ["--listeners", LISTENERS, "--port", PORT];
    let (_servers, pids) = Load::start(&[&["serve", "--workers", WORKERS], &place[..]].concat())?;
    let workers: Vec<Pid> = pids
        .split_whitespace()
        .map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect::<Option<_>>()
        .context("pids of the workers")?;
    let daemon = Daemon::start(&setting.raindrops, &[])?;
    let nginx = if has_nginx {
        Some(FileServer::start()?)
    } else {
        None
    };
    let measured = |name: String| measure(setting, name, &daemon, nginx.as_ref());
    until("the workers in the view", || {
        let view = daemon.view()?;
        let seen = view["workers"].as_array().map_or(0, Vec::len);
        Ok((seen >= workers.len()).then_some(()))
    })?;

    let mut cases = vec![measured("no connections".to_owned())?];
    let count: u64 = setting.pick(60_000, 20_000);
    let _clients = hold(count, &place)?;
    until("all connections in the view", || {
        Ok((daemon.active_connections()? == count).then_some(()))
    })?;
    cases.push(measured(format!("{count} connections"))?);
    for worker in &workers {
        kill_process(*worker, Signal::STOP).context("stopping a worker")?;
    }
    let queued: u64 = 1000;
    let _queued = hold(queued, &place)?;
    let name = format!("{count} connections, {queued} queued, all workers hung");
    cases.push(measured(name)?);
    let shown = daemon.active_connections()?;
    ensure!(
        shown == count,
        "{shown} connections are shown as accepted, not {count}"
    );
    Ok(cases)
}

fn hold(connections: u64, place: &[&str]) -> Result<(Answering, String)> {
    let connections = connections.to_string();
    Load::start(&[&["hold", "--connections", &connections], place].concat())
}

fn measure(
    setting: &Setting,
    name: String,
    daemon: &Daemon,
    nginx: Option<&FileServer>,
) -> Result<Case> {
    let mut view = daemon.client("/v1/view")?;
    let body = view.get()?;
    let bytes = body.len();
    let mut file = match nginx {
        Some(nginx) => Some(nginx.client(body)?),
        None => None,
    };
    Ok(Case {
        name,
        bytes,
        in_a_row: in_a_row(setting, &mut view, file.as_mut())?,
        paced: paced(setting, &mut view, file.as_mut())?,
    })
}

fn in_a_row(setting: &Setting, view: &mut Client, mut file: Option<&mut Client>) -> Result<Pair> {
    let (count, size) = batches(setting);
    let (mut of_view, mut of_file) = (Vec::new(), Vec::new());
    for round in 0..count {
        // Each is first by turns.
        if round % 2 == 0 {
            of_view.push(batch(view, size)?);
        }
        if let Some(file) = &mut file {
            of_file.push(batch(file, size)?);
        }
        if round % 2 == 1 {
            of_view.push(batch(view, size)?);
        }
    }
    Pair::of(&of_view, &of_file)
}

fn paced(setting: &Setting, view: &mut Client, mut file: Option<&mut Client>) -> Result<Pair> {
    let (mut of_view, mut of_file) = (Vec::new(), Vec::new());
    for _ in 0..paced_requests(setting) {
        thread::sleep(PACE / 2);
        of_view.extend(batch(view, 1)?);
        thread::sleep(PACE / 2);
        if let Some(file) = &mut file {
            of_file.extend(batch(file, 1)?);
        }
    }
    Pair::of(&[of_view], &[of_file])
}

fn batch(client: &mut Client, size: u32) -> Result<Vec<f64>> {
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
    (0..size)
        .map(|_| client.timed().map(microseconds))
        .collect()
}

/// A web server with one file.
struct FileServer(Nginx);

impl FileServer {
    fn start() -> Result<Self> {
        let main = "master_process off; events { worker_connections 64; }";
        let nginx = Nginx::start(main, |place| {
            format!("listen unix:{place}/nginx.sock; root {place}/www;")
        })?;
        let server = Self(nginx);
        until("nginx to listen", || {
            Ok(server.socket().exists().then_some(()))
        })?;
        Ok(server)
    }

    fn socket(&self) -> PathBuf {
        self.0.directory().join("nginx.sock")
    }

    /// Will ask for a file with these contents.
    fn client(&self, contents: &[u8]) -> Result<Client> {
        let root = self.0.directory().join("www");
        fs::create_dir_all(&root)?;
        fs::write(root.join("view"), contents)?;
        Client::connect(&self.socket(), "/view")
    }
}
