//! Several network namespaces: each one's figures are its own, they come and go, and none is kept
//! alive.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening,
    lookup::connections,
    netns::{self, Inhabited, ip},
    skip::{Need, can_run},
    wait,
};
use raindrops_user::{
    fact::Fact,
    view::{Connections, LimitFrom, Listener, SourceState, View},
};

const PORT: u16 = 18_080;
const ADDRESS: &str = "127.0.0.1:18080";
const ALL: [&str; 2] = ["--netns", "all"];
const HELD: usize = 12;

/// The only listener of the usual address in a namespace.
fn listener_in(view: &View, namespace: u32) -> Result<&Listener> {
    let mut there = view
        .listeners
        .iter()
        .filter(|listener| listener.netns.inode == namespace && listener.address == ADDRESS);
    let found = there.next();
    let found = found.with_context(|| format!("no {ADDRESS} in {namespace}"))?;
    anyhow::ensure!(there.next().is_none(), "two of {ADDRESS} in {namespace}");
    Ok(found)
}

fn connections_in(view: &View, namespace: u32) -> Option<&Connections> {
    connections(listener_in(view, namespace).ok()?).ok()
}

fn namespaces(view: &View) -> Vec<u32> {
    let mut inodes: Vec<u32> = view.listeners.iter().map(|it| it.netns.inode).collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

fn listen() -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?)
}

fn accept(listening: &TcpListener, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| Ok(listening.accept()?.0)).collect()
}

fn connect(count: usize) -> Result<Vec<TcpStream>> {
    (0..count)
        .map(|_| Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?))
        .collect()
}

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

fn own_inode() -> Result<u32> {
    let inode = fs::metadata("/proc/thread-self/ns/net")?.ino();
    Ok(u32::try_from(inode)?)
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

/// Check that with one namespace asked for, by each way, only its listeners are shown.
#[test]
fn only_what_is_asked_for_is_shown() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("ip")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let (nameless, named) = (Inhabited::unnamed()?, Inhabited::named()?);
        let own = own_inode()?;
        let _here = listen()?;
        let there = [
            (&nameless, nameless.enter(listen)?),
            (&named, named.enter(listen)?),
        ];
        let name = named.name().context("it has a name")?;
        let pid = nameless.pid().context("it has a process")?.to_string();
        for (asked, inode) in [
            ("own", own),
            (name, named.inode()),
            (&pid, nameless.inode()),
        ] {
            let place = Place::new()?;
            let daemon = place.start(User::Same, &["--netns", asked])?;
            let view = daemon.until("the listener", |view| listener_in(view, inode).is_ok())?;
            assert_eq!(namespaces(&view), [inode], "--netns {asked}");
            let state = daemon::source(&view, "netns")?.state;
            assert_ne!(state, SourceState::Off);
        }
        for (namespace, listening) in &there {
            let asked = namespace.name().unwrap_or(&pid);
            let place = Place::new()?;
            let daemon = place.start(User::Same, &["--netns", asked])?;
            let _served = (namespace.enter(|| connect(2))?, accept(listening, 2)?);
            daemon.until("its accepts", |view| {
                connections_in(view, namespace.inode()).is_some_and(|it| it.accepts == Some(2))
            })?;
        }
        Ok(())
    })
}

/// Check that a name that is not there, or a process, is an error that says what is there.
#[test]
fn what_is_not_there_is_an_error() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("ip")]) {
        return Ok(());
    }
    let named = Inhabited::named()?;
    let existing = named.name().context("it has a name")?;
    let place = Place::new()?;
    let socket = place.socket();
    let socket = socket.to_string_lossy();
    for (asked, complaint) in [
        ("no-such", "no network namespace is named \"no-such\""),
        ("4294967294", "the network namespace of process 4294967294"),
    ] {
        let output = daemon::raindrops(["serve", "--socket", &*socket, "--netns", asked])?;
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(
            error.contains(complaint) && error.contains(existing),
            "{error}"
        );
    }
    Ok(())
}

/// Check what is read by default: everything as root; without privilege the own namespace, with the
/// reason.
#[test]
fn the_default_is_what_is_allowed() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let other = Inhabited::unnamed()?;
        let own = own_inode()?;
        let (_here, _there) = (listen()?, other.enter(listen)?);
        let place = Place::with_default_namespaces()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        daemon.until("both namespaces", |view| {
            [own, other.inode()]
                .into_iter()
                .all(|it| listener_in(view, it).is_ok())
        })?;

        let place = Place::with_default_namespaces()?;
        let daemon = place.start(User::Nobody, &[])?;
        let view = daemon.until("the own namespace", |view| listener_in(view, own).is_ok())?;
        assert_eq!(namespaces(&view), [own]);
        let source = daemon::source(&view, "netns")?;
        assert_eq!(source.state, SourceState::Degraded);
        let reason = source.reason.as_deref().unwrap_or_default();
        assert!(reason.contains("CAP_SYS_ADMIN"), "{reason}");
        let doctor = doctor(&daemon)?;
        assert!(doctor.contains("CAP_SYS_ADMIN"), "{doctor}");
        Ok(())
    })
}

fn doctor(daemon: &Daemon) -> Result<String> {
    let socket = daemon.socket().to_string_lossy();
    let output = daemon::raindrops(["doctor", "--socket", &socket])?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Removes a file among the names when dropped.
struct Stray(String);

impl Stray {
    fn new() -> Result<Self> {
        let name = netns::new_name();
        fs::write(netns::named_path(&name), "")?;
        Ok(Self(name))
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        let _ = fs::remove_file(netns::named_path(&self.0));
    }
}

/// Check that a file among the names that is no namespace, and namespaces that may not be entered
/// (by root of a user namespace only), are counted and named, and that the rest is shown.
#[test]
fn what_cannot_be_entered_is_marked() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("ip"), Need::Program("unshare")]) {
        return Ok(());
    }
    let named = Inhabited::named()?;
    let _stray = Stray::new()?;
    netns::in_new(|| {
        let own = own_inode()?;
        let (_here, _there) = (listen()?, named.enter(listen)?);
        let place = Place::new()?;
        let in_user_namespace = "exec unshare --map-root-user \"$0\" \"$@\"";
        let daemon = place.start_after(in_user_namespace, &ALL)?;
        let view = daemon.until("the own namespace", |view| listener_in(view, own).is_ok())?;
        assert_eq!(namespaces(&view), [own]);
        let source = daemon::source(&view, "netns")?;
        assert_eq!(source.state, SourceState::Degraded, "{source:?}");
        let reason = source.reason.as_deref().unwrap_or_default();
        assert!(reason.contains("not read"), "{source:?}");
        assert!(source.detail.contains_key("refused"), "{source:?}");
        assert!(source.detail.contains_key("not_namespaces"), "{source:?}");
        Ok(())
    })
}
