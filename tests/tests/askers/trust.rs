//! What a user is told who is neither root nor the one who runs the daemon.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{Daemon, NOBODY, Place, User},
    http::{self, Response},
    listening, lookup, netns,
    other_user::as_user,
    servers::acceptor::Acceptor,
    skip::{Need, can_run},
};
use raindrops_user::view::{View, Worker, connections::Listing};

/// A daemon whose socket nobody may open.
fn start(place: &Place, arguments: &[&str]) -> Result<Daemon> {
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))?;
    place.start(User::Same, arguments)
}

fn as_nobody(daemon: &Daemon, path: &str) -> Result<Response> {
    as_user(NOBODY, || http::get(daemon.socket(), path))
}

/// Check that the command line of a worker is told to root, and to nobody else by any path.
#[test]
fn command_lines() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(8)?;
        let mut acceptor = Acceptor::start(&listening)?;
        acceptor.become_nobody()?;
        let pid = acceptor.pid();
        drop(listening);
        let place = Place::new()?;
        let daemon = start(&place, &["--no-bpf"])?;
        let view = daemon.until("the worker", |view| lookup::worker(view, pid).is_ok())?;
        let worker = lookup::worker(&view, pid)?;
        let line = fs::read(format!("/proc/{pid}/cmdline"))?;
        let line = String::from_utf8(line)?.trim_end_matches('\0').to_owned();
        assert!(line.ends_with("/acceptor"), "{line}");
        assert_eq!(worker.command_line.as_deref(), Some(&*line));
        assert_eq!((worker.uid, &*worker.title), (Some(NOBODY), "acceptor"));
        let told: View = serde_json::from_slice(&as_nobody(&daemon, "/v1/view")?.body)?;
        let worker = lookup::worker(&told, pid)?;
        assert_eq!((&worker.command_line, worker.uid), (&None, Some(NOBODY)));
        for path in [
            "/".to_owned(),
            "/v1/view?buckets=1".to_owned(),
            "/v1/workers".to_owned(),
            format!("/v1/workers/{pid}"),
            "/v1/diagnosis".to_owned(),
            "/metrics".to_owned(),
        ] {
            let answer = as_nobody(&daemon, &path)?;
            assert_eq!(answer.status, 200, "{path}");
            assert!(!answer.text()?.contains(&line), "{path}");
        }
        let one: Vec<Worker> =
            serde_json::from_slice(&daemon.get(&format!("/v1/workers/{pid}"))?.body)?;
        assert_eq!(one[0].command_line.as_deref(), Some(&*line));
        Ok(())
    })
}

/// Check that a user sees the connections of his own processes, root all.
#[test]
fn connections() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = start(&place, &[])?;
        let mut clients = Vec::new();
        let mut acceptors = Vec::new();
        let mut path = "/v1/connections?".to_owned();
        for is_nobodys in [true, false] {
            let listening = listening::tcp(8)?;
            let mut acceptor = Acceptor::start(&listening)?;
            if is_nobodys {
                acceptor.become_nobody()?;
            }
            clients.extend(listening::begin_connections(listening.local_addr()?, 2)?);
            acceptor.accept()?;
            acceptor.accept()?;
            path += &format!("listener={}&", listening.local_addr()?);
            acceptors.push(acceptor);
        }
        let pids: Vec<u32> = acceptors.iter().map(Acceptor::pid).collect();
        daemon.until("both workers and their users", |view| {
            pids.iter().all(|pid| {
                let worker = lookup::worker(view, *pid);
                worker.is_ok_and(|it| it.uid.is_some() && it.accepts == Some(2))
            })
        })?;
        let workers = |answer: Response| -> Result<Vec<Option<u32>>> {
            let listing: Listing = serde_json::from_slice(&answer.body)?;
            assert_eq!(listing.matched, listing.connections.len());
            let mut workers: Vec<_> = listing.connections.iter().map(|it| it.worker).collect();
            workers.sort_unstable();
            Ok(workers)
        };
        let own = as_nobody(&daemon, &path)?;
        assert!(
            own.text()?.contains("your own processes"),
            "{}",
            own.text()?
        );
        assert_eq!(workers(own)?, [Some(pids[0]); 2]);
        let others = as_nobody(&daemon, &format!("{path}worker={}", pids[1]))?;
        assert_eq!(workers(others)?, []);
        let mut all = [Some(pids[0]), Some(pids[0]), Some(pids[1]), Some(pids[1])];
        all.sort_unstable();
        assert_eq!(workers(daemon.get(&path)?)?, all);
        Ok(())
    })
}

/// Check that only root has peaks forgotten, that totals stay, and that the answer comes after a view
/// that shows it.
#[test]
fn reset() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(4)?;
        let address = listening.local_addr()?.to_string();
        let place = Place::new()?;
        let daemon = start(&place, &["--no-bpf"])?;
        let queued = listening::begin_connections(listening.local_addr()?, 20)?;
        let full = daemon.until("a full queue that has overflowed", |view| {
            let queue = lookup::listener(view, &address).map(|it| &it.queue);
            queue.is_ok_and(|it| it.peak == Some(5) && it.overflows > Some(0))
        })?;
        (0..4).try_for_each(|_| listening.accept().map(drop))?;
        drop(queued);
        daemon.until("a queue that has room", |view| {
            let queue = lookup::listener(view, &address).map(|it| &it.queue);
            queue.is_ok_and(|it| it.queued < Some(5) && it.peak == Some(5))
        })?;
        let refused = as_user(NOBODY, || http::post(daemon.socket(), "/v1/reset"))?;
        assert_eq!(refused.status, 403);
        assert!(
            refused.text()?.contains("user 65534"),
            "{}",
            refused.text()?
        );
        let peak = |view: &View| -> Result<Option<u32>> {
            Ok(lookup::listener(view, &address)?.queue.peak)
        };
        assert_eq!(peak(&daemon.view()?)?, Some(5));
        // Until no retransmitted handshake comes any more, it may be filled again.
        listening.set_nonblocking(true)?;
        while listening.accept().is_ok() {}
        assert_eq!(daemon.post("/v1/reset")?.status, 200);
        let after = daemon.view()?;
        let queue = &lookup::listener(&after, &address)?.queue;
        assert!(queue.peak < Some(5), "{queue:?}");
        let before = lookup::listener(&full, &address)?.queue.overflows;
        assert!(queue.overflows >= before, "{queue:?}, before {before:?}");
        Ok(())
    })
}

/// Check that members of the group get the socket where there is such a group, and nobody else does.
#[test]
fn socket_group() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    use std::os::unix::fs::MetadataExt as _;
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = start(&place, &["--no-bpf"])?;
        let groups = fs::read_to_string("/etc/group")?;
        let of_raindrops = groups
            .lines()
            .find_map(|line| line.strip_prefix("raindrops:"));
        let gid = match of_raindrops {
            Some(line) => line
                .split(':')
                .nth(1)
                .context("a group without id")?
                .parse()?,
            None => 0,
        };
        let socket = fs::metadata(daemon.socket())?;
        assert_eq!(
            (socket.mode() & 0o777, socket.uid(), socket.gid()),
            (0o660, 0, gid)
        );
        Ok(())
    })
}
