//! What the programs alone know of a connection, held against what a real server and its clients did.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    client::{Address, Client},
    daemon::{self, Daemon, Place, User},
    listening, netns, processes,
    servers::{Server, puma},
    skip::{Need, can_run},
    wait::{self, Between},
};
use raindrops_user::{
    snapshot::connections::Phase,
    view::connections::{Connection, Listing, State},
};
use rustix::process::Signal;

use crate::list;

/// So that the age of one event is not taken for that of another.
const APART: Duration = Duration::from_millis(30);

/// A client of a puma that keeps its connection, and what the test knows of that.
struct Visitor {
    client: Client,
    /// Where the client is, for TCP.
    peer: Option<String>,
    /// Worker that says that it answers here.
    pid: u32,
    /// When it was connected and accepted.
    began: Between,
    /// When it was answered last.
    answered: Between,
    bytes: (u64, u64),
}

impl Visitor {
    /// Connects as the `nth`, and is answered twice.
    fn new(nth: usize, server: &Server, to: &Address, daemon: &Daemon) -> Result<Self> {
        let mut peer = None;
        let before = wait::monotonic_ns();
        let mut client = match to {
            Address::Tcp(address) => {
                let stream = listening::client(*address)?;
                peer = Some(stream.local_addr()?.to_string());
                Client::over(stream)
            }
            Address::Unix(_) => Client::connect(to)?,
        };
        let body = String::from_utf8(client.get("/")?)?;
        let began = Between::since(before);
        let pid = body.trim().strip_prefix("hi ").context("no pid")?.parse()?;
        ensure!(server.workers().contains(&pid), "{pid} is no worker");
        thread::sleep(APART);
        let before = wait::monotonic_ns();
        client.get("/")?;
        let bytes = (client.sent, client.received);
        // The server may see its last write return later than the client sees what was written.
        wait::until("idle clients", || {
            let listing = list(daemon, &format!("listener={to}"))?;
            let mut rows = listing.connections.iter();
            let are_idle = rows.all(|row| row.turns == Some(2) && row.phase == Some(Phase::Idle));
            Ok((are_idle && listing.matched == nth).then_some(()))
        })?;
        let answered = Between::since(before);
        thread::sleep(APART);
        Ok(Self {
            client,
            peer,
            pid,
            began,
            answered,
            bytes,
        })
    }

    /// What must be shown of it while it is in a phase: since when, turns, and bytes that the server
    /// has read. `taken`: when the list was made.
    fn is_shown(
        &self,
        row: &Connection,
        taken: Between,
        (since, turns, read): (Between, u64, u64),
    ) -> Result<()> {
        assert_eq!(row.worker, Some(self.pid), "{row:?}");
        assert_eq!(row.turns, Some(turns), "{row:?}");
        assert_eq!(row.bytes_in, Some(read), "{row:?}");
        assert_eq!(row.bytes_out, Some(self.bytes.1), "{row:?}");
        assert_eq!(row.blocked, Some(false), "{row:?}");
        taken.has_age_us("its age", row.age_us, self.began)?;
        taken.has_age_us("accepted", row.accepted_age_us, self.began)?;
        ensure!(row.age_us >= row.accepted_age_us, "{row:?}");
        taken.has_age_us("its phase", row.phase_age_us, since)?;
        let inode = row.inode.context("no inode")?;
        assert_eq!(processes::holders(inode), [self.pid], "{row:?}");
        for thread in [row.reader_thread, row.writer_thread] {
            let thread = thread.context("no thread")?;
            let is_its = fs::exists(format!("/proc/{}/task/{thread}", self.pid))?;
            ensure!(is_its, "{thread} is no thread of {}", self.pid);
        }
        assert_eq!(row.peer, self.peer, "{row:?}");
        assert_eq!(row.tcp.is_some(), self.peer.is_some(), "{row:?}");
        let state = self.peer.is_some().then_some(State::Established);
        assert_eq!(row.state, state, "{row:?}");
        Ok(())
    }
}

/// The rows of a list that has one connection in each of these phases.
fn in_phases<const N: usize>(listing: &Listing, phases: [Phase; N]) -> Option<[&Connection; N]> {
    let rows = &listing.connections;
    let of = |phase: Phase| {
        let mut rows = rows.iter().filter(|row| row.phase == Some(phase));
        rows.next().filter(|_| rows.next().is_none())
    };
    let found = phases.map(of);
    (rows.len() == N && found.iter().all(Option::is_some)).then(|| found.map(|row| row.unwrap()))
}

/// What is listed, and when it was.
fn listed(ask: impl FnOnce() -> Result<Listing>) -> Result<(Listing, Between)> {
    let before = wait::monotonic_ns();
    Ok((ask()?, Between::since(before)))
}

/// Three clients: one parked inside a request, one idle, one whose request a stopped worker does not
/// read.
fn three_clients(server: &Server, to: &Address) -> Result<()> {
    let place = Place::new()?;
    let daemon = place.start(User::Same, &[])?;
    let [mut parked, idle, mut unread] = [
        Visitor::new(1, server, to, &daemon)?,
        Visitor::new(2, server, to, &daemon)?,
        Visitor::new(3, server, to, &daemon)?,
    ];
    let query = format!("listener={to}");
    let hold = server.hold("three")?;
    let asked = wait::monotonic_ns();
    parked.client.ask("/park/three")?;
    wait::until("a busy thread", || {
        Ok((server.middleware()?.calling == 1).then_some(()))
    })?;
    let called = Between::since(asked);
    thread::sleep(APART);

    processes::stop(unread.pid)?;
    let asked = wait::monotonic_ns();
    unread.client.ask("/")?;
    wait::until("a request that waits", || {
        let listing = list(&daemon, &query)?;
        let all = [Phase::Calling, Phase::Idle, Phase::Waiting];
        Ok(in_phases(&listing, all).map(drop))
    })?;
    let arrived = Between::since(asked);
    thread::sleep(APART);

    let socket = daemon.socket().to_string_lossy().into_owned();
    let show = |more: &[&str]| {
        let arguments = ["show", "--socket", &socket, "--connections"];
        let shown = daemon::raindrops(arguments.iter().chain(more))?;
        ensure!(shown.status.success(), "{shown:?}");
        Ok(shown.stdout)
    };
    let address = to.to_string();
    let as_json = || {
        Ok(serde_json::from_slice(&show(&[
            "--format", "json", &address,
        ])?)?)
    };
    for (listing, taken) in [listed(|| list(&daemon, &query))?, listed(as_json)?] {
        let phases = [Phase::Calling, Phase::Waiting, Phase::Idle];
        let rows = in_phases(&listing, phases).with_context(|| format!("{listing:?}"))?;
        let expected = [
            (&parked, (called, 3, parked.client.sent)),
            (&unread, (arrived, 2, unread.bytes.0)),
            (&idle, (idle.answered, 2, idle.client.sent)),
        ];
        for (row, (visitor, figures)) in rows.into_iter().zip(expected) {
            visitor.is_shown(row, taken, figures)?;
        }
        // The oldest turn first.
        let order: Vec<_> = listing.connections.iter().map(|row| row.phase).collect();
        assert_eq!(order, phases.map(Some));
        if let Some(tcp) = &rows[1].tcp {
            let left = unread.client.sent - unread.bytes.0;
            assert_eq!(u64::from(tcp.unread_bytes), left, "{tcp:?}");
        }
        assert!(!listing.truncated && listing.scan_complete && listing.notes.is_empty());
    }

    let visitors = [&parked, &unread, &idle];
    for pid in server.workers() {
        let of_worker = list(&daemon, &format!("{query}&worker={pid}"))?;
        let its = visitors.iter().filter(|it| it.pid == pid).count();
        assert_eq!((of_worker.matched, of_worker.scanned), (its, 3));
        let mut rows = of_worker.connections.iter();
        assert!(rows.all(|row| row.worker == Some(pid)));
    }
    let text = String::from_utf8(show(&[&address])?)?;
    let heading = format!("3 accepted connections of {address}, at ");
    assert!(text.starts_with(&heading), "{text}");
    for (visitor, phase) in visitors.into_iter().zip(["calling", "waiting", "idle"]) {
        let pid = visitor.pid.to_string();
        let is_of = |line: &str| {
            let mut words = line.split_whitespace();
            line.contains(phase) && words.any(|word| word == pid)
        };
        assert!(text.lines().any(is_of), "{phase} {pid}: {text}");
    }

    processes::signal(unread.pid, Signal::CONT)?;
    drop(hold);
    parked.client.answered()?;
    unread.client.answered()?;
    wait::until("three idle clients", || {
        let listing = list(&daemon, &query)?;
        let mut rows = listing.connections.iter();
        let are_idle = rows.all(|row| row.phase == Some(Phase::Idle));
        Ok((are_idle && listing.matched == 3).then_some(()))
    })
}

/// Check worker, phase, ages, bytes and threads of connections to puma's TCP listener.
#[test]
fn what_only_the_programs_know_of_tcp() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start()?;
        three_clients(&server, &Address::Tcp(server.tcp[0]))
    })
}

/// Check the same of its unix listener.
#[test]
fn what_only_the_programs_know_of_unix() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start()?;
        three_clients(&server, &Address::Unix(server.unix[0].clone()))
    })
}
