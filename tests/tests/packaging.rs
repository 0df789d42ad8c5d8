//! What a service manager does with the daemon: it is told how far that is, and takes rights away.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixDatagram,
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

/// A daemon of a service manager, which asks the process `asked` for signs of life.
fn managed(place: &Place, asked: &str) -> Result<(UnixDatagram, Daemon)> {
    let path = place.path().join("manager");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_nonblocking(true)?;
    let (path, watchdog) = (path.display(), 2 * BEAT.as_micros());
    let shell =
        format!("export NOTIFY_SOCKET={path} WATCHDOG_USEC={watchdog} WATCHDOG_PID={asked}");
    let daemon = place.start_after(&shell, &["--no-bpf"])?;
    Ok((manager, daemon))
}

/// Check that a service manager hears that the daemon is ready, that it lives, nothing while it is
/// stopped, and that it ends.
#[test]
fn a_service_manager_hears_whether_it_lives() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let place = Place::new()?;
    // What the shell becomes.
    let (manager, mut daemon) = managed(&place, "$$")?;
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
    let (manager, mut daemon) = managed(&place, "1")?;
    daemon.signal(Signal::TERM)?;
    daemon.wait_for_end()?;
    let notes: Vec<String> = std::iter::from_fn(|| note(&manager)).collect();
    assert_eq!(notes, ["READY=1", "STOPPING=1"]);
    Ok(())
}

/// Numbers of capabilities, of linux/capability.h.
const CAPABILITIES: [(&str, u32); 7] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

/// The capabilities that the packaged unit leaves the daemon, as a mask.
fn left_by_the_unit() -> Result<u64> {
    let unit = include_str!("../../packaging/raindrops.service");
    let names = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .context("the unit bounds no capabilities")?;
    names.split(' ').try_fold(0, |mask, name| {
        let known = CAPABILITIES.iter().find(|(known, _)| *known == name);
        let (_, number) = known.with_context(|| format!("{name} has no number here"))?;
        Ok(mask | 1 << number)
    })
}

/// Leaves what this thread starts only these capabilities, as systemd does.
fn bound(mask: u64) -> Result<()> {
    for dropped in (0..u64::BITS).filter(|number| mask & 1 << number == 0) {
        let dropped = libc::c_ulong::from(dropped);
        // SAFETY: it takes a number, and concerns only the calling thread. What the kernel does
        // not know it refuses.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, dropped, 0, 0, 0) };
    }
    rustix::thread::set_no_new_privs(true).context("giving up new privileges")
}

/// What a process may still do.
fn effective(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = line.context("no capabilities")?.trim();
    u64::from_str_radix(mask, 16).with_context(|| format!("{mask:?} is no mask"))
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
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let _listening = listening::tcp(16)?;
        let place = Place::with_default_namespaces()?;
        let daemon = place.start(User::Same, &[])?;
        let view = daemon.until("all sources", |view| states(view).is_some())?;
        daemon::expect_bpf(&view)?;
        let expected = states(&view);
        drop(daemon);

        let place = Place::with_default_namespaces()?;
        let left = left_by_the_unit()?;
        bound(left)?;
        let daemon = place.start(User::Same, &[])?;
        assert_eq!(effective(daemon.pid())?, left);
        daemon.until("the same sources", |view| states(view) == expected)?;
        Ok(())
    })
}
