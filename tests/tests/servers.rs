//! Rows of the real servers: every listener with its limit, kind, master and workers.

use std::{fs, os::unix::net::UnixStream};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Place, User},
    http, load,
    lookup::{listener, listeners, server},
    netns,
    servers::{Server, gunicorn, nginx, puma, rainbows, unicorn},
    skip::{Need, can_run},
    sockets,
    wait::CEILING,
};
use raindrops_user::view::{LimitFrom, Listener, View};

/// Connections made to each listener, so that every worker has surely accepted.
const CONNECTIONS: usize = 40;

/// What the server's configuration and its processes say about one of its listeners.
struct Row {
    address: String,
    limit: u32,
    workers: Vec<u32>,
}

fn row(address: impl ToString, limit: u32, workers: &[u32]) -> Row {
    Row {
        address: address.to_string(),
        limit,
        workers: workers.to_vec(),
    }
}

fn check(started: &Server, rows: &[Row]) -> Result<()> {
    let place = Place::new()?;
    let daemon = place.start(User::Same, &[])?;
    daemon::expect_bpf(&daemon.view()?)?;
    for address in &started.tcp {
        load::tcp(*address, CONNECTIONS)?;
    }
    for path in &started.unix {
        load::unix(path, CONNECTIONS)?;
    }
    let is_right = |view: &View, row: &Row| {
        let listeners = listeners(view, &row.address);
        let is_right = |listener: &&Listener| {
            listener.queue.queued == Some(0) && listener.workers.as_ref() == Some(&row.workers)
        };
        !listeners.is_empty() && listeners.iter().all(is_right)
    };
    let view = daemon.until("the workers of every listener", |view| {
        rows.iter().all(|row| is_right(view, row))
    })?;
    for row in rows {
        for listener in listeners(&view, &row.address) {
            assert_belongs(&view, started, listener, row.limit)?;
        }
    }
    let shown = server(&view, started.kind)?;
    assert_eq!(shown.workers, started.workers());
    for worker in &view.workers {
        if started.workers().contains(&worker.pid) {
            assert_eq!(
                worker.server.value(),
                Some(&shown.id),
                "worker {}",
                worker.pid
            );
        }
    }
    assert!(
        !view
            .workers
            .iter()
            .any(|worker| worker.pid == started.master()),
        "the master is no worker"
    );
    Ok(())
}

/// What is true of each listener of a server: protocol, kind and master, limit and holders, the
/// latter by what `ss` shows.
fn assert_belongs(view: &View, started: &Server, listener: &Listener, limit: u32) -> Result<()> {
    let address = &listener.address;
    let is_unix = address.starts_with('/');
    assert_eq!(listener.protocol, if is_unix { "unix" } else { "tcp" });

    let id = format!("{}:{}", started.kind, started.master());
    assert_eq!(listener.server.value(), Some(&id), "{address}");
    let server = server(view, started.kind)?;
    assert_eq!((&server.id, server.master), (&id, Some(started.master())));

    let listening = sockets::listening()?;
    let listening = listening.iter().find(|it| it.inode == listener.inode);
    let listening = listening.with_context(|| format!("ss does not show {address}"))?;
    assert_eq!(listening.limit, limit, "{address}: what ss shows");
    assert_eq!(listener.queue.limit, Some(limit), "{address}");
    let somaxconn = fs::read_to_string("/proc/sys/net/core/somaxconn")?;
    let from = if limit < somaxconn.trim().parse()? {
        LimitFrom::App
    } else {
        LimitFrom::AtSomaxconn
    };
    assert_eq!(listener.queue.limit_from, from, "{address}");
    assert_eq!(
        listener.holders.as_ref(),
        Some(&listening.holders),
        "{address}"
    );
    Ok(())
}

/// Check that unicorn's shared listeners, and each worker's own, have the right rows.
#[test]
fn unicorn_rows() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("ss"),
        Need::Program("unicorn"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let started = unicorn::start()?;
        let workers = started.workers();
        let limit = unicorn::BACKLOG;
        check(
            &started,
            &[
                row(started.tcp[0], limit, &workers),
                row(started.unix[0].display(), limit, &workers),
            ],
        )?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        for own in &started.tcp[1..] {
            load::tcp(*own, 5)?;
            let address = own.to_string();
            let view = daemon.until("the only worker of a worker's own listener", |view| {
                listener(view, &address)
                    .is_ok_and(|row| row.workers.as_ref().is_some_and(|pids| pids.len() == 1))
            })?;
            let shown = listener(&view, &address)?;
            assert_belongs(&view, &started, shown, unicorn::OWN_BACKLOG)?;
            assert!(workers.contains(&shown.workers.as_deref().unwrap_or_default()[0]));
            assert_eq!(shown.holders, shown.workers, "its master does not hold it");
        }
        Ok(())
    })
}

/// Check the rows of a puma cluster, and that of the control socket before and after it is used.
#[test]
fn puma_rows() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("ss"),
        Need::Program("puma"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let started = puma::start()?;
        let workers = started.workers();
        let control = started.path(puma::CONTROL);
        check(
            &started,
            &[
                row(started.tcp[0], puma::BACKLOG, &workers),
                row(started.unix[0].display(), puma::BACKLOG, &workers),
                // Its workers hold it too, and nobody has accepted on it yet.
                row(control.display(), puma::BACKLOG, &workers),
            ],
        )?;

        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let mut stream = UnixStream::connect(&control)?;
        stream.set_read_timeout(Some(CEILING))?;
        let answer = http::request(&mut stream, "/stats?token=tok3n")?;
        assert_eq!(answer.status, 200);
        let address = control.to_string_lossy();
        let view = daemon.until("that the master answers its control socket", |view| {
            listener(view, &address).is_ok_and(|row| row.workers == Some(vec![started.master()]))
        })?;
        let row = listener(&view, &address)?;
        assert_belongs(&view, &started, row, puma::BACKLOG)?;
        assert_eq!(server(&view, "puma")?.workers, workers);
        Ok(())
    })
}

/// Check the rows of Rainbows! with XEpollThreadPool.
#[test]
fn rainbows_rows() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("ss"),
        Need::Program("rainbows"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let started = rainbows::start()?;
        let workers = started.workers();
        let limit = rainbows::BACKLOG;
        check(
            &started,
            &[
                row(started.tcp[0], limit, &workers),
                row(started.unix[0].display(), limit, &workers),
            ],
        )
    })
}

/// Check the rows of gunicorn, whose processes only their parents tell apart.
#[test]
fn gunicorn_rows() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("ss"),
        Need::Program("gunicorn"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let started = gunicorn::start()?;
        let workers = started.workers();
        let limit = gunicorn::BACKLOG;
        check(
            &started,
            &[
                row(started.tcp[0], limit, &workers),
                row(started.unix[0].display(), limit, &workers),
            ],
        )
    })
}

/// Check that nginx's SO_REUSEPORT listeners are members of one group, each with its own worker
/// although both workers hold both.
#[test]
fn nginx_rows() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("ss"),
        Need::Program("nginx"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let started = nginx::start()?;
        let workers = started.workers();
        check(
            &started,
            &[row(started.unix[0].display(), nginx::BACKLOG, &workers)],
        )?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        load::tcp(started.tcp[0], 200)?;
        let view = daemon.until("one worker for each member", |view| {
            let members = listeners(view, nginx::ADDRESS);
            members.len() == 2
                && members.iter().all(|member| {
                    member
                        .workers
                        .as_ref()
                        .is_some_and(|workers| workers.len() == 1)
                })
        })?;
        let members = listeners(&view, nginx::ADDRESS);
        let mut by_members: Vec<u32> = members
            .iter()
            .flat_map(|member| member.workers.clone().unwrap_or_default())
            .collect();
        by_members.sort_unstable();
        assert_eq!(by_members, workers);
        assert_eq!(view.groups.len(), 1);
        let group = &view.groups[0];
        let ids: Vec<&String> = members.iter().map(|member| &member.id).collect();
        assert_eq!(group.address, nginx::ADDRESS);
        assert_eq!(group.members.iter().collect::<Vec<_>>(), ids);
        for member in members {
            assert_eq!(member.group.as_ref(), Some(&group.id));
            assert_belongs(&view, &started, member, nginx::BACKLOG)?;
        }
        Ok(())
    })
}
