//! Starting, stopping and signals; what stays behind when the daemon is killed.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening,
    lookup::{connections, listener},
    netns,
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::View;
use rustix::process::Signal;

/// Ids of a kind (`prog_id`, `link_id`) that the daemon holds open.
fn held(daemon: &Daemon, kind: &str) -> Result<BTreeSet<u32>> {
    let directory = format!("/proc/{}/fdinfo", daemon.pid());
    let entries = fs::read_dir(&directory).with_context(|| format!("reading {directory}"))?;
    let texts = entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let ids = texts.filter_map(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(kind)?.strip_prefix(':'));
        line?.trim().parse().ok()
    });
    Ok(ids.collect())
}

/// Ids that the kernel knows, of `prog` or `link`.
fn known(kind: &str) -> Result<BTreeSet<u32>> {
    let output = Command::new("bpftool")
        .args(["--json", kind, "show"])
        .output();
    let output = output.context("running bpftool")?;
    let list: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("decoding what bpftool {kind} show prints"))?;
    let ids = list.as_array().into_iter().flatten();
    Ok(ids
        .filter_map(|entry| u32::try_from(entry["id"].as_u64()?).ok())
        .collect())
}

/// Check that nothing stays in the kernel after `kill -9`, and that a restart works at once.
#[test]
fn kill_leaves_nothing_attached() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("bpftool")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let mut daemon = place.start(User::Same, &[])?;
        daemon::expect_bpf(&daemon.view()?)?;
        let (programs, links) = (held(&daemon, "prog_id")?, held(&daemon, "link_id")?);
        assert!(!programs.is_empty(), "the daemon holds its programs");
        assert!(programs.is_subset(&known("prog")?));
        assert!(!links.is_empty(), "the daemon holds its links");
        assert!(links.is_subset(&known("link")?));

        daemon.signal(Signal::KILL)?;
        daemon.wait_for_end()?;
        assert!(
            place.socket().exists(),
            "a killed daemon leaves its socket file"
        );
        let restarted = place.start(User::Same, &[])?;
        daemon::expect_bpf(&restarted.view()?)?;
        // The kernel frees programs a grace period after their last holder.
        wait::until("the killed daemon's programs and links to go", || {
            let gone = programs.is_disjoint(&known("prog")?) && links.is_disjoint(&known("link")?);
            Ok(gone.then_some(()))
        })
    })
}

/// Check that TERM, INT and QUIT end the daemon with code 0 and remove its socket, also where they
/// are inherited as ignored: a script's `&` leaves INT and QUIT so, nohup HUP.
#[test]
fn stopping_removes_the_socket() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    for inherited in ["", "trap '' INT QUIT HUP TERM"] {
        for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
            let place = Place::new()?;
            let mut daemon = place.start_after(inherited, &["--no-bpf"])?;
            daemon.signal(signal)?;
            let status = daemon.wait_for_end()?;
            assert_eq!(status.code(), Some(0), "{signal:?}: {status}");
            assert!(daemon.log().contains("stopped"), "{}", daemon.log());
            let left: Vec<_> = fs::read_dir(place.path())?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<Result<_, _>>()?;
            assert_eq!(left, ["log"], "{signal:?} leaves something");
        }
    }
    Ok(())
}

/// Check that signals which operators send to servers are logged and do not stop the daemon.
#[test]
fn other_signals_are_ignored() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let place = Place::new()?;
    let mut daemon = place.start(User::Same, &["--no-bpf"])?;
    for (signal, logged) in [
        (Signal::TTIN, "TTIN: ignored"),
        (Signal::TTOU, "TTOU: ignored"),
        (Signal::WINCH, "WINCH: ignored"),
        (Signal::USR1, "USR1: "),
        (Signal::USR2, "USR2: ignored"),
        (Signal::PIPE, "PIPE: ignored"),
    ] {
        daemon.signal(signal)?;
        daemon.until_logged(logged)?;
        // A stopped or dead daemon gives no newer view.
        let before = daemon.view()?.monotonic_ns;
        daemon.until("a newer view", |view| view.monotonic_ns > before)?;
        assert!(!daemon.has_ended()?, "{signal:?} ends the daemon");
    }
    Ok(())
}

/// Check that HUP reads the configuration again and keeps totals, and that a broken file changes
/// nothing.
#[test]
fn hup_keeps_counts() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?.to_string();
        let place = Place::new()?;
        let config = place.path().join("raindrops.toml");
        fs::write(&config, "sample_hz = 10\n")?;
        let daemon = place.start(User::Same, &["--config", &config.to_string_lossy()])?;
        daemon::expect_bpf(&daemon.view()?)?;
        let figures = |view: &View| {
            let groups = connections(listener(view, &address).ok()?).ok()?;
            Some((groups.accepts?, groups.active?))
        };
        drop(listening::accepted(&listening, 5)?);
        let held = listening::accepted(&listening, 3)?;
        let before = daemon.until("8 accepts", |view| figures(view) == Some((8, 3)))?;
        for (text, logged) in [
            ("sample_hz = 20\n", "sample_hz 10 -> 20"),
            ("sample_hz =\n", "the old configuration stays"),
            // It was 20 that stayed.
            ("sample_hz = 20\n", "nothing changed"),
        ] {
            fs::write(&config, text)?;
            daemon.signal(Signal::HUP)?;
            daemon.until_logged(logged)?;
            let at = wait::monotonic_ns();
            let view = daemon.until("a view after HUP", |view| view.monotonic_ns > at)?;
            assert_eq!(view.since, before.since, "after {text:?}");
            assert_eq!(figures(&view), Some((8, 3)), "after {text:?}");
        }
        drop(listening::accepted(&listening, 2)?);
        drop(held);
        daemon.until("10 accepts", |view| figures(view) == Some((10, 0)))?;
        Ok(())
    })
}

/// Check that a second daemon on the same socket refuses, saying whose the socket is.
#[test]
fn second_daemon_refuses() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let place = Place::new()?;
    let first = place.start(User::Same, &["--no-bpf"])?;
    let socket = place.socket();
    let socket = socket.to_string_lossy();
    let output = daemon::raindrops(["serve", "--socket", &socket, "--no-bpf"])?;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    let owner = format!("process {} (raindrops)", first.pid());
    assert!(error.contains(&owner), "no word of the first: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(
        first.get("/healthz")?.status,
        200,
        "the first still answers"
    );
    Ok(())
}

/// Check that a socket file that nobody listens on is replaced, and any other file is not.
#[test]
fn stale_socket_is_replaced() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let place = Place::new()?;
    drop(UnixListener::bind(place.socket())?);
    assert!(place.socket().exists());
    // Removes its socket file only when it ends, not when it is killed.
    let mut killed = place.start(User::Same, &["--no-bpf"])?;
    killed.signal(Signal::KILL)?;
    killed.wait_for_end()?;
    assert!(place.socket().exists());
    place.start(User::Same, &["--no-bpf"])?;

    let place = Place::new()?;
    fs::write(place.socket(), "precious")?;
    let mut refused = place.spawn(User::Same, &["--no-bpf"])?;
    assert_eq!(refused.wait_for_end()?.code(), Some(1));
    assert_eq!(fs::read_to_string(place.socket())?, "precious");
    Ok(())
}

/// Check that only owner and group may connect, and that a directory made for the socket lets
/// others look.
#[test]
fn socket_is_for_owner_and_group() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let place = Place::with_socket_in("made")?;
    let daemon = place.start(User::Same, &["--no-bpf"])?;
    let mode = |path: &Path| Ok::<_, io::Error>(fs::metadata(path)?.permissions().mode() & 0o7777);
    assert_eq!(mode(daemon.socket())?, 0o660);
    let directory = daemon.socket().parent().context("no directory")?;
    assert_eq!(mode(directory)?, 0o755);
    Ok(())
}
