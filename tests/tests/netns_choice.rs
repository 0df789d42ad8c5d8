//! Which network namespaces are read: what is asked for, what is allowed, what is there.

use std::fs;

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    netns::{self, Inhabited},
    same_address::{accept, connect, connections_in, listen, listener_in, namespaces, own_inode},
    skip::{Need, can_run},
};
use raindrops_user::view::SourceState;

const ALL: [&str; 2] = ["--netns", "all"];

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
