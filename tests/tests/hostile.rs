//! Names, titles and requests made by somebody who means harm, and a table that is too small.

use std::{
    ffi::OsStr,
    io::{ErrorKind, Read as _, Write as _},
    net::Shutdown,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening, load,
    lookup::{connections, listener},
    netns,
    servers::epoll::Workers,
    skip::{Need, can_run},
    wait::CEILING,
};

/// Nothing that a terminal would act on, in any format.
fn assert_printable(daemon: &Daemon) -> Result<()> {
    let socket = daemon.socket().to_string_lossy();
    for format in ["text", "json"] {
        let output = daemon::raindrops(["show", "--socket", &socket, "--format", format])?;
        assert!(output.status.success(), "{format}");
        let text = String::from_utf8(output.stdout)?;
        let control = text
            .chars()
            .find(|character| character.is_control() && *character != '\n');
        assert_eq!(control, None, "{format}: {text:?}");
        assert!(
            !text.contains("\\u001b") && !text.contains("\\u0007"),
            "{format}: {text:?}"
        );
    }
    Ok(())
}

/// Check that unix listeners with any bytes in their names have rows, escaped.
#[test]
fn unix_names_are_escaped() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let hostile = b"x\xff\x1b[31m\n.sock";
        let path = place.path().join(OsStr::from_bytes(hostile));
        let _by_path = UnixListener::bind(&path)?;
        let name = SocketAddr::from_abstract_name(b"raindrops-test\xfe\x07")?;
        let _by_name = UnixListener::bind_addr(&name)?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        let directory = place.path().display();
        let shown = [
            format!("{directory}/x\\xff\\x1b[31m\\n.sock"),
            "@raindrops-test\\xfe\\x07".to_owned(),
        ];
        daemon.until("both rows", |view| {
            shown.iter().all(|address| listener(view, address).is_ok())
        })?;
        assert_printable(&daemon)
    })
}

/// Check that a process cannot smuggle control characters in through its title.
#[test]
fn process_titles_are_escaped() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let titles = [
            OsStr::from_bytes(b"unicorn worker[0] -c \x1b]0;owned\x07\nx\xff.rb"),
            OsStr::from_bytes(b"puma: cluster worker 0: 1 [\x1b[2J]"),
        ];
        let program = env!("CARGO_BIN_EXE_epoll_worker");
        let workers = Workers::start(program, listening::tcp(16)?, &titles)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        load::tcp(workers.address, 4)?;
        let address = workers.address.to_string();
        daemon.until("the holders", |view| {
            listener(view, &address).is_ok_and(|row| {
                row.holders
                    .as_ref()
                    .is_some_and(|holders| holders.len() == 2)
            })
        })?;
        // Only what was escaped must not be printed raw; what was left out proves nothing.
        let shown = [
            "unicorn worker[0] -c \\x1b]0;owned\\x07\\nx\\xff.rb",
            "puma: cluster worker 0: 1 [\\x1b[2J]",
        ];
        daemon.until("both titles, escaped", |view| {
            shown
                .iter()
                .all(|title| view.workers.iter().any(|worker| worker.title == *title))
        })?;
        assert_printable(&daemon)
    })
}

/// Check that connections beyond `--max-connections` are a gap with a hint, that queue figures stay
/// right, and that there is room again when connections have ended.
#[test]
fn full_table_is_a_gap() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--max-connections", "64"])?;
        daemon::expect_bpf(&daemon.view()?)?;
        let held = listening::accepted(&listening, 200)?;
        let queued = listening::begin_connections(address, 3)?;
        let address = address.to_string();
        let view = daemon.until("the gap", |view| {
            view.gaps
                .iter()
                .any(|gap| gap.what == "map-full" && gap.count > 0)
                && listener(view, &address).is_ok_and(|row| row.queue.queued == Some(3))
        })?;
        let gap = view.gaps.iter().find(|gap| gap.what == "map-full");
        assert!(
            gap.is_some_and(|gap| gap.hint.contains("--max-connections")),
            "{gap:?}"
        );
        let row = listener(&view, &address)?;
        assert_eq!(row.queue.limit, Some(16));
        let before = connections(row)?.accepts.context("no accepts")?;
        assert!(before < 200, "{before}");

        drop((held, queued));
        for _ in 0..3 {
            drop(listening.accept()?);
        }
        daemon.until("no connection", |view| {
            listener(view, &address)
                .and_then(connections)
                .is_ok_and(|shown| shown.active == Some(0))
        })?;
        let _held = listening::accepted(&listening, 32)?;
        daemon.until("that there is room again", |view| {
            listener(view, &address)
                .and_then(connections)
                .is_ok_and(|shown| shown.active == Some(32))
        })?;
        Ok(())
    })
}

/// Check that requests which are none leave the daemon answering.
#[test]
fn garbage_requests_are_refused() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let place = Place::new()?;
    let daemon = place.start(User::Same, &["--no-bpf"])?;
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    // Where a status is missing, what was sent is no request, and the end of the connection is the
    // answer.
    let requests: [(&[u8], Option<u16>); 7] = [
        (b"\0\xff\x01\r\n\r\n", Some(400)),
        (b"GET / HTTP/9.9\r\n\r\n", Some(400)),
        (
            b"DELETE /v1/view HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            Some(405),
        ),
        (
            b"GET /v1/listeners/%ff%00%0a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            Some(404),
        ),
        (b"GET / HT", None),
        (long_path.as_bytes(), Some(431)),
        (many_headers.as_bytes(), Some(431)),
    ];
    for (request, expected) in requests {
        let shown = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
        let mut stream = UnixStream::connect(daemon.socket())?;
        stream.set_read_timeout(Some(CEILING))?;
        // It may refuse before it has read all.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        // A reset ends the connection as well as its end does, but a daemon that keeps it open
        // does not pass.
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "after {shown:?}");
        }
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).map(str::parse).transpose()?;
        assert_eq!(status, expected, "{shown:?} answered {answer:?}");
        assert_eq!(daemon.get("/healthz")?.status, 200, "after {shown:?}");
    }
    Ok(())
}
