//! What a service manager does with the daemon: it is told how far that is, and takes rights away.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening, netns,
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::{SourceState, View};
use rustix::process::Signal;

/// Between two signs of life: half of what the manager says that it waits.
const BEAT: Duration = Duration::from_millis(50);

/// The next note to the manager that has come.
fn note(manager: &UnixDatagram) -> Option<String> {
    let mut text = [0; 128];
    let length = manager.recv(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text[..length]).into_owned())
}

fn until_note(manager: &UnixDatagram, expected: &str) -> Result<()> {
    let note = wait::until(expected, || Ok(note(manager)))?;
    ensure!(note == expected, "{note:?} instead of {expected:?}");
    Ok(())
}

fn is_stopped(pid: u32) -> Result<bool> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let state = stat.rsplit_once(") ").context("no state")?.1;
    Ok(state.starts_with('T'))
}

fn started_by(manager: &str, place: &Place) -> Result<Daemon> {
    let watchdog = 2 * BEAT.as_micros();
    let path = place.path().join(manager);
    let shell = format!(
        "export NOTIFY_SOCKET={} WATCHDOG_USEC={watchdog} WATCHDOG_PID=$$",
        path.display()
    );
    place.start_after(&shell, &["--no-bpf"])
}

/// Check that a service manager hears that the daemon is ready, that it lives, nothing while it is
/// stopped, and that it ends.
#[test]
fn a_service_manager_hears_whether_it_lives() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let place = Place::new()?;
    let manager = UnixDatagram::bind(place.path().join("manager"))?;
    manager.set_nonblocking(true)?;
    let mut daemon = started_by("manager", &place)?;
    until_note(&manager, "READY=1")?;
    until_note(&manager, "WATCHDOG=1")?;
    until_note(&manager, "WATCHDOG=1")?;

    daemon.signal(Signal::STOP)?;
    wait::until("the daemon to be stopped", || {
        Ok(is_stopped(daemon.pid())?.then_some(()))
    })?;
    while note(&manager).is_some() {}
    let until = Instant::now() + 10 * BEAT;
    while Instant::now() < until {
        assert_eq!(note(&manager), None);
        thread::sleep(BEAT);
    }
    daemon.signal(Signal::CONT)?;
    until_note(&manager, "WATCHDOG=1")?;

    daemon.signal(Signal::TERM)?;
    daemon.wait_for_end()?;
    let rest: Vec<String> = std::iter::from_fn(|| note(&manager)).collect();
    assert_eq!(rest.last().map(String::as_str), Some("STOPPING=1"));
    Ok(())
}

/// Check that one whom the manager does not ask for signs of life gives none.
#[test]
fn nobody_hears_what_he_did_not_ask_for() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let place = Place::new()?;
    let manager = UnixDatagram::bind(place.path().join("manager"))?;
    manager.set_nonblocking(true)?;
    let path = place.path().join("manager");
    let shell = format!(
        "export NOTIFY_SOCKET={} WATCHDOG_USEC=100000 WATCHDOG_PID=1",
        path.display()
    );
    let mut daemon = place.start_after(&shell, &["--no-bpf"])?;
    daemon.signal(Signal::TERM)?;
    daemon.wait_for_end()?;
    let notes: Vec<String> = std::iter::from_fn(|| note(&manager)).collect();
    assert_eq!(notes, ["READY=1", "STOPPING=1"]);
    Ok(())
}

/// The capabilities that the packaged unit leaves the daemon, as setpriv(1) wants them.
fn bounding_set() -> Result<String> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/raindrops.service");
    let unit = fs::read_to_string(unit)?;
    let set = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .context("the unit bounds no capabilities")?;
    let kept: Vec<String> = set
        .split_whitespace()
        .map(|name| name.replacen("CAP_", "+", 1).to_lowercase())
        .collect();
    Ok(format!("-all,{}", kept.join(",")))
}

/// The states of the sources that depend on rights; none while one of them has no figures yet.
fn states(view: &View) -> Option<BTreeMap<&'static str, SourceState>> {
    let state = |name| {
        let source = view.sources.iter().find(|source| source.name == name)?;
        source.age_ms.map(|_| (name, source.state))
    };
    ["bpf", "netns", "proc", "sock_diag"]
        .into_iter()
        .map(state)
        .collect()
}

/// Check that the rights that the packaged unit leaves the daemon give what all of root's give.
#[test]
fn the_units_rights_are_enough() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("setpriv")]) {
        return Ok(());
    }
    let bounding = bounding_set()?;
    netns::in_new(move || {
        let _listening = listening::tcp(16)?;
        let place = Place::with_default_namespaces()?;
        let daemon = place.start(User::Same, &[])?;
        let view = daemon.until("all sources", |view| states(view).is_some())?;
        daemon::expect_bpf(&view)?;
        let expected = states(&view);
        drop(daemon);

        let place = Place::with_default_namespaces()?;
        let shell =
            format!("exec setpriv --bounding-set {bounding} --no-new-privs -- \"$0\" \"$@\"");
        let daemon = place.start_after(&shell, &[])?;
        daemon.until("the same sources", |view| states(view) == expected)?;
        Ok(())
    })
}
