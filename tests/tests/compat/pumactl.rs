//! The real pumactl at the daemon's socket.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    daemon::{Daemon, Place, User},
    http, load, netns,
    servers::{
        puma::{self, TOKEN},
        unicorn,
    },
    skip::{Need, can_run},
    wait,
};
use rustix::process::Signal;
use serde_json::{Value, json};

const TOKENS: &str = "# who may ask for what\nof-unicorn unicorn\nof-puma 127.0.0.1:18180\n\
                      of-none unicorn:1\n";

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn pumactl(daemon: &Daemon, token: &str, command: &str) -> Result<Output> {
    let url = format!("unix://{}", daemon.socket().display());
    let directory = daemon.socket().parent().context("no directory")?;
    Command::new("pumactl")
        .args(["-C", &url, "-T", token, command])
        .current_dir(directory)
        .output()
        .context("running pumactl")
}

/// What is printed behind the line of success.
fn printed(daemon: &Daemon, token: &str) -> Result<String> {
    let output = pumactl(daemon, token, "stats")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text}");
    let json = text.strip_prefix("Command stats sent success\n");
    Ok(json.with_context(|| text.clone())?.trim_end().to_owned())
}

fn stats(daemon: &Daemon, token: &str) -> Result<Value> {
    Ok(serde_json::from_str(&printed(daemon, token)?)?)
}

/// What a puma's own control server answers.
fn said(control: &Path) -> Result<String> {
    let answer = http::get(control, &format!("/stats?token={TOKEN}"))?;
    Ok(String::from_utf8(answer.body)?)
}

fn time(of: &Value) -> Result<SystemTime> {
    let text = of.as_str().context("no time")?;
    Ok(humantime::parse_rfc3339(text)?)
}

/// Puma looks at its clock once it is loaded, and the kernel tells the time of its boot in whole
/// seconds.
fn began_alike(ours: &Value, said: &Value) -> Result<()> {
    let later = time(said)?.duration_since(time(ours)?);
    let later = later.with_context(|| format!("began at {said}, not at {ours}"))?;
    ensure!(later <= wait::ceiling() / 5, "began at {said}, not {ours}");
    Ok(())
}

/// Whether all that we tell is what puma says, which may be more.
fn tells_the_same(ours: &Value, said: &Value) -> Result<()> {
    match (ours, said) {
        (Value::Object(ours), Value::Object(said)) => {
            for (name, figure) in ours {
                let said = said.get(name).with_context(|| format!("no {name}"))?;
                if name == "started_at" {
                    began_alike(figure, said)?;
                } else {
                    tells_the_same(figure, said).with_context(|| name.clone())?;
                }
            }
        }
        (Value::Array(ours), Value::Array(said)) => {
            ensure!(ours.len() == said.len(), "{ours:?}, not {said:?}");
            let pairs = ours.iter().zip(said);
            pairs
                .into_iter()
                .try_for_each(|(ours, said)| tells_the_same(ours, said))?;
        }
        _ => ensure!(ours == said, "{ours}, not {said}"),
    }
    Ok(())
}

/// Waits until all that we tell is so. A cluster's workers tell their master every five seconds.
fn until_the_same(daemon: &Daemon, token: &str, control: &Path) -> Result<Value> {
    let mut differs = None;
    let same = wait::within(wait::ceiling() * 3, "the same of puma", || {
        let ours = stats(daemon, token)?;
        let said = serde_json::from_str(&said(control)?)?;
        differs = tells_the_same(&ours, &said).err();
        Ok(differs.is_none().then_some(ours))
    });
    same.with_context(|| format!("{differs:#?}"))
}

fn names(of: &Value) -> Vec<&str> {
    let fields = of.as_object().into_iter().flatten();
    fields.map(|(name, _)| name.as_str()).collect()
}

fn refused(daemon: &Daemon, token: &str, command: &str) -> Result<String> {
    let output = pumactl(daemon, token, command)?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn arguments(files: &[(&'static str, &PathBuf)]) -> Vec<String> {
    let pairs = files.iter();
    pairs
        .flat_map(|(flag, path)| [(*flag).to_owned(), path.display().to_string()])
        .collect()
}

/// Check that pumactl prints what a unicorn and a puma know of themselves, and what it is told when it
/// may not or cannot.
#[test]
fn stats_of_the_server_that_the_token_names() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("pumactl"),
        Need::Program("puma"),
        Need::Program("unicorn"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let puma = puma::start()?;
        let control = puma.path(puma::CONTROL);
        let place = Place::new()?;
        let (tokens, config) = (place.path().join("tokens"), place.path().join("r.toml"));
        write(&tokens, TOKENS)?;
        let table = format!("[puma]\ncontrol_url = 'unix://{}'\n", control.display());
        write(&config, &format!("{table}token = '{TOKEN}'\n"))?;
        let given = arguments(&[("--puma-token-file", &tokens), ("--config", &config)]);
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let daemon = place.start(User::Same, &given)?;
        // The kernel tells the time of its boot in whole seconds, so a process may seem older than it
        // is, and by so much older than the daemon.
        thread::sleep(Duration::from_secs(1));
        let began = SystemTime::now();
        let unicorn = unicorn::start()?;
        load::tcp(unicorn.tcp[0], 20)?;
        load::tcp(puma.tcp[0], 20)?;

        // Letter by letter: its times and the order of its fields, too.
        let mut last = (String::new(), String::new());
        let same = wait::within(wait::ceiling() * 3, "the same of puma", || {
            last = (said(&control)?, printed(&daemon, "of-puma")?);
            let is_same = last.0 == last.1 && last.0 == said(&control)?;
            let stats: Value = serde_json::from_str(&last.0)?;
            let counted = stats["worker_status"][0]["last_status"]["requests_count"].as_u64();
            Ok((is_same && counted > Some(0)).then_some(()))
        });
        same.with_context(|| format!("{}\n{}", last.0, last.1))?;

        let expected: Vec<u64> = unicorn.workers().into_iter().map(u64::from).collect();
        let mut last = Value::Null;
        let shown = wait::until("all requests of unicorn", || {
            last = stats(&daemon, "of-unicorn")?;
            let workers = last["worker_status"].as_array().into_iter().flatten();
            let counts = workers.map(|it| it["last_status"]["requests_count"].as_u64());
            let sum = counts.sum::<Option<u64>>();
            // The start of a server asks each of its listeners once, too.
            Ok((sum > Some(20)).then(|| last.clone()))
        });
        let shown = shown.with_context(|| last.to_string())?;
        let workers = shown["worker_status"].as_array().context("no workers")?;
        let pids: Vec<u64> = workers.iter().filter_map(|it| it["pid"].as_u64()).collect();
        assert_eq!(pids, expected);
        assert_eq!(
            (&shown["workers"], &shown["booted_workers"]),
            (&json!(2), &json!(2))
        );
        let starts = workers.iter().map(|it| &it["started_at"]);
        for start in starts.chain([&shown["started_at"]]) {
            let start = time(start)?;
            let earliest = began - Duration::from_secs(2);
            assert!(earliest <= start && start <= SystemTime::now(), "{shown}");
        }
        for (index, worker) in workers.iter().enumerate() {
            assert_eq!(
                (&worker["index"], &worker["booted"]),
                (&json!(index), &json!(true))
            );
            let status = &worker["last_status"];
            assert_eq!(
                (&status["running"], &status["max_threads"]),
                (&json!(1), &json!(1))
            );
        }

        let wrong = refused(&daemon, "of-unicor", "stats")?;
        assert_eq!(wrong, "Unauthorized access to server (wrong auth token)\n");
        let none = refused(&daemon, "of-none", "stats")?;
        assert!(
            none.contains("\"unicorn:1\", which is no server that runs now"),
            "{none}"
        );
        for command in [
            "stop",
            "halt",
            "restart",
            "phased-restart",
            "gc",
            "gc-stats",
        ] {
            let told = refused(&daemon, "of-puma", command)?;
            assert_eq!(told, "Command error: Unsupported action\n", "{command}");
            refused(&daemon, "wrong", command)?;
        }
        let status = pumactl(&daemon, "of-puma", "status")?;
        assert_eq!(String::from_utf8(status.stdout)?, "Puma is started\n");
        assert_eq!(puma.workers().len(), 2);

        write(&tokens, "next unicorn\n")?;
        daemon.signal(Signal::HUP)?;
        daemon.until_logged("1 tokens")?;
        refused(&daemon, "of-unicorn", "stats")?;
        stats(&daemon, "next")?;
        write(&tokens, "next\n")?;
        daemon.signal(Signal::HUP)?;
        daemon.until_logged("line 1: write a token")?;
        stats(&daemon, "next")?;
        let log = daemon.log();
        for token in ["of-unicorn", "of-puma", "next "] {
            assert!(!log.contains(token), "{log}");
        }
        Ok(())
    })
}

/// A daemon of which the token `t` gets what it knows of the only puma.
fn asking_no_puma(place: &Place) -> Result<Daemon> {
    let tokens = place.path().join("tokens");
    write(&tokens, "t puma\n")?;
    let given = arguments(&[("--puma-token-file", &tokens)]);
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    place.start(User::Same, &given)
}

/// Check that of a puma without workers, whose figures nobody has said, all that is told is what its
/// control server would say. Its pool may grow, how far nobody knows.
#[test]
fn a_puma_without_workers() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("pumactl"),
        Need::Program("puma"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let puma = puma::start_single()?;
        let place = Place::new()?;
        let daemon = asking_no_puma(&place)?;
        load::tcp(puma.tcp[0], 20)?;
        let control = puma.path(puma::SINGLE_CONTROL);
        let ours = until_the_same(&daemon, "t", &control)?;
        assert_eq!(names(&ours), ["backlog", "running", "started_at"]);
        Ok(())
    })
}

/// Check the same of a cluster.
#[test]
fn a_cluster_that_is_not_asked() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("pumactl"),
        Need::Program("puma"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let puma = puma::start_with(2, "1:5")?;
        let place = Place::new()?;
        let daemon = asking_no_puma(&place)?;
        load::tcp(puma.tcp[0], 40)?;
        let ours = until_the_same(&daemon, "t", &puma.path(puma::CONTROL))?;
        assert_eq!(names(&ours), ["started_at", "worker_status", "workers"]);
        let workers = ours["worker_status"].as_array().context("no workers")?;
        for worker in workers {
            let expected = ["index", "last_status", "pid", "started_at"];
            assert_eq!(names(worker), expected);
            assert_eq!(names(&worker["last_status"]), ["backlog", "running"]);
        }
        Ok(())
    })
}
