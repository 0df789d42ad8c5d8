//! Several network namespaces: each one's figures are its own, they come and go, and none is kept
//! alive.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening,
    lookup::connections,
    netns::{self, Inhabited, ip},
    same_address::{accept, connect, connections_in, listen, listener_in, namespaces, own_inode},
    skip::{Need, can_run},
    wait,
};
use raindrops_user::{
    fact::Fact,
    view::{LimitFrom, View},
};

const ALL: [&str; 2] = ["--netns", "all"];
const HELD: usize = 12;

/// Check that one address in three namespaces, the daemon's among them, is three listeners with
/// figures, name and worker of their own.
#[test]
fn one_address_in_several_namespaces() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("ip")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let (nameless, named) = (Inhabited::unnamed()?, Inhabited::named()?);
        nameless.enter(|| Ok(fs::write("/proc/sys/net/core/somaxconn", "100")?))?;
        let here = listen()?;
        let there = [nameless.enter(listen)?, named.enter(listen)?];
        let place = Place::new()?;
        let daemon = place.start(User::Same, &ALL)?;
        daemon::expect_bpf(&daemon.view()?)?;

        let _waiting = nameless.enter(|| connect(2))?;
        let clients = named.enter(|| connect(3))?;
        let servers = accept(&there[1], 3)?;
        let _own = (connect(1)?, accept(&here, 1)?);
        let accepts = |view: &View, namespace| {
            let groups = connections_in(view, namespace)?;
            Some((groups.accepts?, groups.active?, groups.complete))
        };
        let own = own_inode()?;
        let view = daemon.until("each namespace's own figures", |view| {
            let queued = listener_in(view, nameless.inode()).map(|it| it.queue.queued);
            queued.is_ok_and(|it| it == Some(2))
                && accepts(view, nameless.inode()) == Some((0, 0, true))
                && accepts(view, named.inode()) == Some((3, 3, true))
                && accepts(view, own) == Some((1, 1, true))
        })?;
        let row = listener_in(&view, named.inode())?;
        let name = named.name().map(str::to_owned);
        assert_eq!(row.netns.name, Fact::known(name));
        assert_eq!(row.queue.queued, Some(0));
        assert!(row.queue.age_ms.is_some(), "{:?}", row.queue);
        // Three waited between two readings: the programs saw it where they see arrivals.
        if row.queue.peak_exact == Some(true) {
            assert_eq!(row.queue.peak, Some(3));
        }
        assert_eq!(row.workers, Some(vec![std::process::id()]));
        let row = listener_in(&view, nameless.inode())?;
        assert_eq!(row.netns.name, Fact::Nothing);
        let limit = (row.queue.limit, row.queue.limit_from);
        assert_eq!(limit, (Some(100), LimitFrom::AtSomaxconn));
        let row = listener_in(&view, own)?;
        let limit = (row.queue.limit, row.queue.limit_from);
        assert_eq!(limit, (Some(128), LimitFrom::App));
        assert_eq!(row.queue.age_ms, None);

        drop((clients, servers));
        daemon.until("three closes in the named one only", |view| {
            let closes = |namespace| connections_in(view, namespace).and_then(|it| it.closes);
            accepts(view, named.inode()) == Some((3, 0, true))
                && closes(named.inode()) == Some(3)
                && closes(nameless.inode()) == Some(0)
        })?;
        let text = String::from_utf8(daemon.get("/")?.body)?;
        let shown = named.name().context("it has a name")?;
        assert!(text.contains("NETNS") && text.contains(shown), "{text}");
        Ok(())
    })
}

/// Check that connections which were accepted in another namespace before the daemon started are
/// known, and later ones are counted with them.
#[test]
fn earlier_connections_of_another_namespace_are_seeded() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let other = Inhabited::unnamed()?;
        let listening = other.enter(listen)?;
        let held = (other.enter(|| connect(HELD))?, accept(&listening, HELD)?);
        let place = Place::new()?;
        let daemon = place.start(User::Same, &ALL)?;
        let first = daemon.view()?;
        daemon::expect_bpf(&first)?;
        let groups = connections(listener_in(&first, other.inode())?)?;
        let held_count = Some(HELD as u64);
        assert_eq!((groups.seeded, groups.active), (held_count, held_count));
        assert_eq!((groups.accepts, groups.complete), (Some(0), true));
        let later = (other.enter(|| connect(2))?, accept(&listening, 2)?);
        daemon.until("later connections as accepts", |view| {
            connections_in(view, other.inode()).is_some_and(|groups| {
                groups.accepts == Some(2) && groups.active == Some(HELD as u64 + 2)
            })
        })?;
        drop((held, later));
        daemon.until("all of them closed", |view| {
            connections_in(view, other.inode()).is_some_and(|groups| {
                groups.active == Some(0) && groups.closes == Some(HELD as u64 + 2)
            })
        })?;
        Ok(())
    })
}

/// Whether the daemon has a descriptor, a thread or a sock_diag socket in a namespace.
fn holds(daemon: &Daemon, namespace: &Inhabited) -> Result<bool> {
    let link = PathBuf::from(format!("net:[{}]", namespace.inode()));
    let process = PathBuf::from(format!("/proc/{}", daemon.pid()));
    let mut links: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(process.join("fd"))? {
        links.push(entry?.path());
    }
    for entry in fs::read_dir(process.join("task"))? {
        links.push(entry?.path().join("ns/net"));
    }
    let leads_there = |path: &PathBuf| fs::read_link(path).is_ok_and(|it| it == link);
    let netlink = namespace.enter(|| Ok(fs::read_to_string("/proc/thread-self/net/netlink")?))?;
    // Columns: sk, protocol (4 is sock_diag), port id (0 is the kernel's).
    let sock_diag = netlink.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some("4") && words.next() != Some("0")
    });
    Ok(sock_diag || links.iter().any(leads_there))
}

/// Check that a namespace which is made under the running daemon is seen with complete figures, that
/// its listeners leave with it, and that it really ends: its end of a pair of devices takes the other
/// end, which is here, along.
#[test]
fn namespaces_come_and_go_and_are_not_kept() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("ip")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &ALL)?;
        for (round, other) in [Inhabited::unnamed()?, Inhabited::named()?]
            .into_iter()
            .enumerate()
        {
            let (near, far) = (format!("near{round}"), format!("far{round}"));
            let anchor = match (other.name(), other.pid()) {
                (Some(name), _) => name.to_owned(),
                (None, pid) => pid.context("a process or a name")?.to_string(),
            };
            let pair = ["link", "add", &near, "type", "veth", "peer", "name", &far];
            ip(&[&pair[..], &["netns", &anchor]].concat())?;
            let listening = other.enter(listen)?;
            let served = (other.enter(|| connect(1))?, accept(&listening, 1)?);
            daemon.until("the new namespace", |view| {
                connections_in(view, other.inode())
                    .is_some_and(|groups| groups.accepts == Some(1) && groups.complete)
            })?;
            wait::until("a moment at which nothing of it is held", || {
                Ok((!holds(&daemon, &other)?).then_some(()))
            })?;
            drop((served, listening));
            let inode = other.inode();
            drop(other);
            wait::until("the kernel to destroy the namespace", || {
                Ok(ip(&["link", "show", &near]).is_err().then_some(()))
            })?;
            daemon.until("its listeners to leave", |view| {
                !namespaces(view).contains(&inode)
            })?;
        }
        Ok(())
    })
}

/// Check that namespaces which end while they are looked at do no harm.
#[test]
fn short_lived_namespaces_do_no_harm() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("unshare")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let other = Inhabited::unnamed()?;
        let _listening = other.enter(listen)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--netns", "all", "--no-bpf"])?;
        for _ in 0..60 {
            let mut shell = Command::new("unshare");
            shell.args(["-n", "sleep", "0.02"]).stdin(Stdio::null());
            assert!(shell.status()?.success());
        }
        let now = wait::monotonic_ns();
        let view = daemon.until("a reading after them", |view| {
            daemon::read_at_ns(view, "netns").is_ok_and(|read| read > now)
        })?;
        listener_in(&view, other.inode())?;
        Ok(())
    })
}

/// Check that a full queue is told by the counter of its own namespace: in two of them at once.
#[test]
fn overflows_are_told_by_their_namespace() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let namespaces = [Inhabited::unnamed()?, Inhabited::unnamed()?];
        let mut full = Vec::new();
        for (namespace, connects) in namespaces.iter().zip([30, 60]) {
            full.push(namespace.enter(|| {
                let listening = listening::tcp(8)?;
                Ok((listening, connects))
            })?);
        }
        let place = Place::new()?;
        let daemon = place.start(User::Same, &ALL)?;
        let mut clients = Vec::new();
        for (namespace, (listening, connects)) in namespaces.iter().zip(&full) {
            let address = listening.local_addr()?;
            clients.push(namespace.enter(|| listening::begin_connections(address, *connects))?);
        }
        for (namespace, (listening, _)) in namespaces.iter().zip(&full) {
            let address = listening.local_addr()?.to_string();
            let queue = |view: &View| {
                let mut listeners = view.listeners.iter();
                let row = listeners
                    .find(|it| it.netns.inode == namespace.inode() && it.address == address)?;
                let read = wait::before_ns(view.monotonic_ns, row.queue.age_ms?);
                Some((row.queue.clone(), read))
            };
            daemon.until("overflows", |view| {
                queue(view).is_some_and(|(queue, _)| queue.overflows > Some(0))
            })?;
            let low = namespace.enter(netns::listen_overflows)?;
            let at = wait::monotonic_ns();
            let shown = wait::until("a reading after the counter's", || {
                let view = daemon.view()?;
                Ok(queue(&view).filter(|(_, read)| *read > at))
            });
            let (queue, _) = shown?;
            let high = namespace.enter(netns::listen_overflows)?;
            let overflows = queue.overflows.context("overflows are known")?;
            assert!(
                low <= overflows && overflows <= high,
                "{low} {queue:?} {high}"
            );
            assert_eq!(queue.overflows_exact, Some(true), "{queue:?}");
            assert_eq!((queue.queued, queue.limit), (Some(9), Some(8)));
        }
        Ok(())
    })
}
