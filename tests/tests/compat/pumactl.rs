//! The real pumactl at the daemon's socket.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::Duration,
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
fn stats(daemon: &Daemon, token: &str) -> Result<Value> {
    let output = pumactl(daemon, token, "stats")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text}");
    let json = text.strip_prefix("Command stats sent success\n");
    Ok(serde_json::from_str(json.with_context(|| text.clone())?)?)
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
        let unicorn = unicorn::start()?;
        load::tcp(unicorn.tcp[0], 20)?;
        load::tcp(puma.tcp[0], 20)?;

        // Puma's clocks for when something started are its own, and seconds.
        let plain = |mut stats: Value| {
            let workers = stats["worker_status"].as_array_mut();
            for status in workers.into_iter().flatten() {
                status.as_object_mut().map(|it| it.remove("started_at"));
            }
            stats.as_object_mut().map(|it| it.remove("started_at"));
            stats
        };
        let asked = || -> Result<Value> {
            let answer = http::get(&control, &format!("/stats?token={TOKEN}"))?;
            Ok(plain(serde_json::from_slice(&answer.body)?))
        };
        wait::within(wait::ceiling() * 3, "the same of puma", || {
            let before = asked()?;
            let ours = plain(stats(&daemon, "of-puma")?);
            let is_same = before == ours && before == asked()?;
            let counted = before["worker_status"][0]["last_status"]["requests_count"].as_u64();
            Ok((is_same && counted > Some(0)).then_some(()))
        })?;

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

/// Check the same of a puma without workers, whose figures nobody has said.
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
        let tokens = place.path().join("tokens");
        write(&tokens, "t puma\n")?;
        let given = arguments(&[("--puma-token-file", &tokens)]);
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let daemon = place.start(User::Same, &given)?;
        load::tcp(puma.tcp[0], 20)?;
        let control = puma.path(puma::SINGLE_CONTROL);
        wait::until("as many threads as puma says", || {
            let answer = http::get(&control, &format!("/stats?token={TOKEN}"))?;
            let said: Value = serde_json::from_slice(&answer.body)?;
            let ours = stats(&daemon, "t")?;
            assert!(ours["worker_status"].is_null(), "{ours}");
            let is_same = ours["running"] == said["running"] && ours["backlog"] == said["backlog"];
            Ok(is_same.then_some(()))
        })
    })
}
