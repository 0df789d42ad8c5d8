//! `/_raindrops` and `/last_data_recv` against what raindrops for Ruby counts itself.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    client,
    daemon::{Place, User},
    listening, lookup, netns,
    servers::unicorn,
    skip::{Need, can_run},
    wait,
};
use serde_json::{Map, Value};

use crate::curl;

const NEEDS: [Need; 4] = [
    Need::Root,
    Need::Bpf,
    Need::Program("ruby"),
    Need::Program("curl"),
];
const LEVELS: usize = 50;
const BACKLOG: i32 = 64;

/// A Ruby that counts when it is asked.
struct Ruby {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What raindrops counted before, what it read at our socket, and what it counted after.
type Counts = [Map<String, Value>; 3];

impl Ruby {
    fn start(socket: &Path, tcp: &str, unix: &Path) -> Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compat/levels.rb");
        let mut child = Command::new("ruby")
            .arg(script)
            .arg(socket)
            .arg(tcp)
            .arg(unix)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting ruby")?;
        Ok(Self {
            orders: child.stdin.take().context("no stdin")?,
            answers: BufReader::new(child.stdout.take().context("no stdout")?),
            child,
        })
    }

    fn counts(&mut self) -> Result<Counts> {
        self.orders.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("{line:?}"))
    }

    /// The counts once ours are theirs.
    fn equal(&mut self, what: &str) -> Result<Map<String, Value>> {
        let mut last = None;
        let found = wait::until(what, || {
            let [before, ours, after] = self.counts()?;
            let are_equal = before == ours && ours == after;
            last = Some((before, ours.clone()));
            Ok(are_equal.then_some(ours))
        });
        found.with_context(|| format!("theirs and ours: {last:?}"))
    }
}

impl Drop for Ruby {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Check that Ruby reads at the socket what it counts itself, at 50 levels of accepted and of queued
/// connections of a TCP and of a unix listener.
#[test]
fn the_same_at_50_levels() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let tcp = listening::tcp(BACKLOG)?;
        let address = tcp.local_addr()?;
        let path = place.path().join("app.sock");
        let unix = UnixListener::bind(&path)?;
        let name = address.to_string();
        let mut ruby = Ruby::start(daemon.socket(), &name, &path)?;
        for level in 0..LEVELS {
            let (active, queued) = (level * 7 % 11, level * 5 % 9);
            let (unix_active, unix_queued) = (level * 3 % 8, level * 4 % 7);
            let _accepted = listening::accepted(&tcp, active)?;
            let waiting = clients(address, queued)?;
            let connect = |count: usize| -> Result<Vec<UnixStream>> {
                (0..count)
                    .map(|_| Ok(UnixStream::connect(&path)?))
                    .collect()
            };
            let _unix_clients = connect(unix_active)?;
            let taken: Result<Vec<_>> = (0..unix_active).map(|_| Ok(unix.accept()?.0)).collect();
            let _taken = taken?;
            let unix_waiting = connect(unix_queued)?;

            let counts = ruby.equal(&format!("level {level}"))?;
            let mut expected = Map::new();
            let shown = path.display().to_string();
            for (name, active, queued) in
                [(&name, active, queued), (&shown, unix_active, unix_queued)]
            {
                expected.insert(format!("{name} active"), active.into());
                expected.insert(format!("{name} queued"), queued.into());
            }
            assert_eq!(counts, expected, "level {level}");

            for _ in &waiting {
                tcp.accept()?;
            }
            for _ in &unix_waiting {
                unix.accept()?;
            }
        }
        Ok(())
    })
}

fn clients(address: SocketAddr, count: usize) -> Result<Vec<std::net::TcpStream>> {
    (0..count).map(|_| listening::client(address)).collect()
}

/// Check that a connection whose client has closed is in neither number of raindrops, as in ours, and
/// that the view has it all the same.
#[test]
fn half_closed_connections_are_shown_beside() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let tcp = listening::tcp(BACKLOG)?;
        let name = tcp.local_addr()?.to_string();
        let mut ruby = Ruby::start(daemon.socket(), &name, &place.path().join("none"))?;
        let connections = listening::accepted(&tcp, 2)?;
        connections[0].0.shutdown(Shutdown::Write)?;
        let _other_way = &connections[1];
        daemon.until("the half-closed one", |view| {
            let listener = lookup::listener(view, &name).ok();
            let connections = listener.and_then(|it| it.connections.as_ref());
            connections.is_some_and(|it| (it.active, it.half_closed) == (Some(1), Some(1)))
        })?;
        let [theirs, ours, _] = ruby.counts()?;
        let active = format!("{name} active");
        assert_eq!((&theirs[&active], &ours[&active]), (&1.into(), &1.into()));
        Ok(())
    })
}

/// Check that ours is the sum of a group, of which raindrops shows one member.
#[test]
fn groups_are_summed() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let members = listening::group(2, BACKLOG)?;
        let address = members[0].local_addr()?;
        let mut ruby = Ruby::start(
            daemon.socket(),
            &address.to_string(),
            &place.path().join("n"),
        )?;
        let _clients = clients(address, 40)?;
        let queued = format!("{address} queued");
        let (theirs, ours) = wait::until("all of them", || {
            let [theirs, ours, _] = ruby.counts()?;
            let is_all = ours.get(&queued).is_some_and(|it| *it == 40);
            Ok(is_all.then_some((theirs, ours)))
        })?;
        let theirs = theirs[&queued].as_u64().context("no number")?;
        assert!(theirs < 40, "{theirs} of {ours:?}");
        Ok(())
    })
}

/// Check `calling` of a real unicorn against its Middleware's own count, and the form of the text.
#[test]
fn calling_is_what_the_application_counts() -> Result<()> {
    if !can_run(&[NEEDS[0], NEEDS[1], NEEDS[3], Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let hold = server.hold("level")?;
        let mut held = client::asking(&server.listeners()[0], 2, "/park/level")?;
        let text = |path: &str| -> Result<String> { Ok(daemon.get(path)?.text()?.to_owned()) };
        let of_unicorn = "/_raindrops?listener=127.0.0.1:18080";
        let shown = wait::until("two calls", || {
            let text = text(of_unicorn)?;
            Ok(text.starts_with("calling: 2\nwriting: 0\n").then_some(text))
        })?;
        assert_eq!(
            shown,
            "calling: 2\nwriting: 0\n127.0.0.1:18080 active: 2\n127.0.0.1:18080 queued: 0\n"
        );
        let whole = curl(daemon.socket(), &[], "/_raindrops")?;
        assert!(whole.contains("Content-Type: text/plain\r\n"), "{whole}");
        assert!(
            whole.contains("\r\n\r\ncalling: 2\nwriting: 0\n127.0.0.1:"),
            "{whole}"
        );
        let unix = server.unix[0].display().to_string();
        let place_of = |name: &str| whole.find(name).with_context(|| format!("{name}: {whole}"));
        assert!(place_of("127.0.0.1:18091 queued")? < place_of(&format!("{unix} active: 0"))?);
        drop(hold);
        client::answered(&mut held)?;

        let waits = curl(daemon.socket(), &[], "/last_data_recv")?;
        let (head, body) = waits.split_once("\r\n\r\n").context("no head")?;
        assert!(
            head.contains("X-Count: ") && head.contains("X-Mean: "),
            "{head}"
        );
        assert!(
            body == "Empty histogram" || body.contains("Total |"),
            "{body}"
        );
        Ok(())
    })
}
