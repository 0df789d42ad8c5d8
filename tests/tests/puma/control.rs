//! Figures that the control server was asked for.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{Daemon, Place, User, source},
    http, load,
    lookup::server,
    netns,
    servers::{
        Server,
        puma::{self, TOKEN},
    },
    skip::{Need, can_run},
    wait::{self, CEILING, monotonic_ns},
};
use raindrops_user::view::{
    SourceState, View,
    puma::{Puma, PumaSource, PumaWorker},
};
use rustix::process::Signal;
use serde_json::Value;

use crate::{path, puma as figures, stats};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("puma")];
const REQUESTS: usize = 40;
/// How long a question waits for its answer.
const QUESTION: Duration = Duration::from_secs(3);

/// A configuration file with what it says of puma, readable by its owner only.
fn configuration(place: &Place, text: &str) -> Result<PathBuf> {
    let path = place.path().join("raindrops.toml");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

fn table(url: &str, token: &str) -> String {
    format!("[[puma]]\ncontrol_url = '{url}'\ntoken = '{token}'\n")
}

fn start(place: &Place, text: &str) -> Result<Daemon> {
    let config = configuration(place, text)?;
    place.start(User::Same, &["--config", &config.to_string_lossy()])
}

/// What puma writes of one process, as the view has it.
fn written(worker: &Value, pid: u32) -> PumaWorker {
    let status = worker.get("last_status").unwrap_or(worker);
    let figure = |name: &str| status[name].as_u64();
    let busy = || Some(figure("max_threads")? - figure("pool_capacity")? + figure("backlog")?);
    PumaWorker {
        pid: Some(pid),
        index: worker["index"].as_u64().map(|index| index as u32),
        phase: worker["phase"].as_u64(),
        booted: worker["booted"].as_bool(),
        // That of a process alone is of all of it.
        started_at: worker.get("last_status").and_then(|_| began(worker)),
        last_checkin: worker["last_checkin"].as_str().map(str::to_owned),
        backlog: figure("backlog"),
        running: figure("running"),
        busy_threads: figure("busy_threads").or_else(busy),
        pool_capacity: figure("pool_capacity"),
        max_threads: figure("max_threads"),
        requests_count: figure("requests_count"),
    }
}

fn began(of: &Value) -> Option<SystemTime> {
    humantime::parse_rfc3339(of["started_at"].as_str()?).ok()
}

/// The same of all of it.
fn expected(stats: &Value, started: &Server, age_ms: Option<u64>) -> Puma {
    let figure = |name: &str| stats[name].as_u64();
    let workers = match stats["worker_status"].as_array() {
        Some(workers) => {
            let pid = |worker: &Value| worker["pid"].as_u64().unwrap_or_default() as u32;
            workers.iter().map(|it| written(it, pid(it))).collect()
        }
        None => vec![written(stats, started.master())],
    };
    Puma {
        source: PumaSource::Control,
        age_ms,
        started_at: began(stats),
        phase: figure("phase"),
        booted_workers: figure("booted_workers"),
        old_workers: figure("old_workers"),
        workers,
    }
}

/// What the control server said is younger than a question that is not answered.
fn is_young(view: &View) -> bool {
    let age = figures(view).and_then(|puma| puma.age_ms);
    age.is_some_and(|age| Duration::from_millis(age) < QUESTION)
}

fn is_said(view: &View) -> bool {
    figures(view).is_some_and(|puma| puma.source == PumaSource::Control)
}

/// Asks directly, waits for figures that the daemon asked for later, asks directly again; where
/// nothing has changed meanwhile, the daemon's have to be the same.
fn agree(daemon: &Daemon, started: &Server, ask: impl Fn() -> Result<Value>) -> Result<Puma> {
    wait::until("puma not to report for a second", || {
        let before = ask()?;
        let asked = monotonic_ns();
        let view = daemon.until("figures that are asked for now", |view| {
            let age = figures(view).and_then(|puma| puma.age_ms);
            age.is_some_and(|age| wait::before_ns(view.monotonic_ns, age) > asked)
        })?;
        if ask()? != before {
            return Ok(None);
        }
        let shown = figures(&view).context("no figures")?;
        assert_eq!(*shown, expected(&before, started, shown.age_ms));
        let id = &server(&view, "puma")?.id;
        let source = source(&view, "puma")?;
        assert_eq!((source.state, &source.reason), (SourceState::On, &None));
        assert_eq!(source.detail.values().collect::<Vec<_>>(), [id]);
        Ok(Some(shown.clone()))
    })
}

/// Check that the figures of a cluster are those of its control server, worker by worker.
#[test]
fn a_cluster_says_the_same_to_everybody() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    netns::in_new(|| {
        let started = puma::start()?;
        let control = started.path(puma::CONTROL);
        let place = Place::new()?;
        let daemon = start(
            &place,
            &table(&format!("unix://{}", control.display()), TOKEN),
        )?;
        load::tcp(started.tcp[0], REQUESTS)?;
        let ask = || stats(|| http::get(&control, &path()));
        let counted = |figures: &Value| {
            let workers = figures["worker_status"].as_array();
            let workers = workers.into_iter().flatten();
            workers
                .filter_map(|worker| worker["last_status"]["requests_count"].as_u64())
                .sum::<u64>()
        };
        wait::until("the workers to report the requests", || {
            Ok((counted(&ask()?) > REQUESTS as u64).then_some(()))
        })?;

        let shown = agree(&daemon, &started, ask)?;
        let pids: Vec<Option<u32>> = shown.workers.iter().map(|worker| worker.pid).collect();
        let workers = started.workers();
        assert_eq!(pids, workers.iter().copied().map(Some).collect::<Vec<_>>());
        assert_eq!((shown.phase, shown.old_workers), (Some(0), Some(0)));
        assert!(shown.workers.iter().all(|it| it.max_threads == Some(4)));
        Ok(())
    })
}

/// Check the same of a server without workers, asked on a unix socket and over TCP.
#[test]
fn a_single_server_says_the_same_to_everybody() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    netns::in_new(|| {
        let started = puma::start_single()?;
        let control = started.path(puma::SINGLE_CONTROL);
        let place = Place::new()?;
        let daemon = start(
            &place,
            &table(&format!("unix://{}", control.display()), TOKEN),
        )?;
        load::tcp(started.tcp[0], REQUESTS)?;
        let shown = agree(&daemon, &started, || stats(|| http::get(&control, &path())))?;
        let [worker] = &shown.workers[..] else {
            panic!("one process: {shown:?}");
        };
        assert_eq!(worker.pid, Some(started.master()));
        assert!(worker.requests_count > Some(REQUESTS as u64));
        Ok(())
    })?;
    netns::in_new(|| {
        let control = SocketAddr::from(([127, 0, 0, 1], 9293));
        let started = puma::start_controlled_by(control)?;
        let place = Place::new()?;
        let daemon = start(&place, &table(&format!("tcp://{control}"), TOKEN))?;
        let ask = || {
            stats(|| {
                let mut stream = TcpStream::connect_timeout(&control, CEILING)?;
                stream.set_read_timeout(Some(CEILING))?;
                http::request(&mut stream, &path())
            })
        };
        let shown = agree(&daemon, &started, ask)?;
        assert_eq!(shown.workers[0].max_threads, Some(5));
        Ok(())
    })
}

/// Check that a wrong token is told and never shown, that a file which any user may read is told
/// of once, and that both heal by HUP.
#[test]
fn a_wrong_token_is_told_and_not_shown() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    netns::in_new(|| {
        let started = puma::start()?;
        let url = format!("unix://{}", started.path(puma::CONTROL).display());
        let place = Place::new()?;
        let config = configuration(&place, &table(&url, "wr0ng"))?;
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644))?;
        let daemon = place.start(User::Same, &["-v", "--config", &config.to_string_lossy()])?;
        let view = daemon.until("the source to say so", |view| {
            let source = source(view, "puma").ok();
            let reason = source.and_then(|source| source.reason.clone());
            reason.is_some_and(|reason| reason.ends_with("it refuses the token (403)"))
        })?;
        let told = source(&view, "puma")?;
        assert_eq!((told.state, told.age_ms), (SourceState::Off, None));
        let grant = told.grant.as_deref().context("no grant")?;
        assert!(grant.contains("set token in [puma]"), "{grant}");
        assert!(!is_said(&view));
        let warnings = || daemon.log().matches("any user may read it").count();
        assert_eq!(warnings(), 1);

        configuration(&place, &table(&url, TOKEN))?;
        daemon.signal(Signal::HUP)?;
        daemon.until_logged("puma changed")?;
        daemon.until("figures", is_said)?;
        assert_eq!(warnings(), 1);

        fs::write(&config, "")?;
        daemon.signal(Signal::HUP)?;
        daemon.until("no source", |view| source(view, "puma").is_err())?;
        for shown in ["/", "/v1/view", "/v1/diagnosis"] {
            let answer = daemon.get(shown)?;
            assert!(!answer.text()?.contains("wr0ng"), "{shown}");
        }
        let log = daemon.log();
        assert!(!log.contains("wr0ng") && !log.contains(TOKEN), "{log}");
        Ok(())
    })
}

/// Check that a control server that accepts and never answers, and one that answers without end,
/// delay neither views nor another control server.
#[test]
fn a_control_server_that_never_answers_delays_nobody() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    netns::in_new(|| {
        let started = puma::start()?;
        let place = Place::new()?;
        let (mute, endless) = (place.path().join("mute"), place.path().join("endless"));
        let _mute = UnixListener::bind(&mute)?;
        let drips = UnixListener::bind(&endless)?;
        let asked = Arc::new(AtomicUsize::new(0));
        let questions = Arc::clone(&asked);
        thread::spawn(move || {
            for mut stream in drips.incoming().flatten() {
                questions.fetch_add(1, Ordering::Relaxed);
                while stream.write_all(b" ").is_ok() {
                    thread::sleep(Duration::from_millis(10));
                }
            }
        });
        let control = started.path(puma::CONTROL);
        let text: String = [&control, &mute, &endless]
            .map(|path| table(&format!("unix://{}", path.display()), TOKEN))
            .concat();
        let daemon = start(&place, &text)?;
        // While nobody reads, the figures are older.
        daemon.until("figures of the other one", is_young)?;
        for _ in 0..2 {
            let before = asked.load(Ordering::Relaxed);
            daemon.until("the endless one to be asked again", |view| {
                let age = monotonic_ns().saturating_sub(view.monotonic_ns);
                assert!(age < QUESTION.as_nanos() as u64, "a view is {age} ns old");
                assert!(is_young(view), "{:?}", figures(view));
                asked.load(Ordering::Relaxed) > before
            })?;
        }
        let view = daemon.view()?;
        let told = source(&view, "puma")?;
        assert_eq!(told.state, SourceState::Degraded);
        let reason = told.reason.as_deref().unwrap_or_default();
        for path in [&mute, &endless] {
            let expected = format!("{}: no answer within 3 s", path.display());
            assert!(reason.contains(&expected), "{reason}");
        }
        Ok(())
    })
}
