//! `show` on a terminal: of figures that stand still, whole; of a live server, what must be there.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixListener,
    path::Path,
    thread,
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{Place, User},
    listening, netns,
    pty::{Size, Terminal},
    skip::{Need, can_run},
};

use super::{LARGE, SMALL};

/// All that a program writes, in rows that are more than its terminal has.
const KEPT: u16 = 150;

fn shown(socket: &Path, size: Size) -> Result<String> {
    let socket = socket.to_str().context("a path that is no text")?;
    let mut show = Terminal::start(["show", "--socket", socket], &[], size, KEPT)?;
    assert!(show.wait_for_end()?.success());
    show.until_it_has("LISTENER")
}

/// Check that a terminal shows the example as the golden text has it, with nothing wrapped by the
/// terminal itself.
#[test]
fn an_example() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let place = Place::new()?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../raindrops-user/tests/data");
    let view = fs::read(data.join("view.json"))?;
    // A daemon's answer without a daemon, whose figures would move.
    let listener = UnixListener::bind(place.socket())?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            // One that only looks whether anybody listens asks for nothing.
            if !matches!(stream.read(&mut request), Ok(1..)) {
                continue;
            }
            let length = view.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(&view));
        }
    });
    for (size, golden) in [(SMALL, "show-80.txt"), (LARGE, "show-200.txt")] {
        let expected = fs::read_to_string(data.join(golden))?;
        let mut show = Terminal::start(
            ["show", "--socket", &place.socket().to_string_lossy()],
            &[],
            size,
            KEPT,
        )?;
        assert!(show.wait_for_end()?.success());
        show.until(golden, |text| text.trim_end() == expected.trim_end())?;
        assert!(show.is_painted(), "what is wrong is emphasised");
    }
    Ok(())
}

/// Check that a listener with a full queue comes first, in lines that fit.
#[test]
fn a_full_queue() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let (quiet, full) = (listening::tcp(8)?, listening::tcp(2)?);
        let _waiting = listening::begin_connections(full.local_addr()?, 3)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        daemon.until("a full queue", |view| {
            view.listeners.iter().any(|it| it.queue.queued == Some(3))
        })?;
        for size in [SMALL, LARGE] {
            let text = shown(daemon.socket(), size)?;
            let mut rows = text
                .lines()
                .skip_while(|line| !line.starts_with("LISTENER"))
                .skip(1);
            let first = rows.next().context("no row")?;
            assert!(
                first.contains(&format!(":{}", full.local_addr()?.port())),
                "{text}"
            );
            assert!(first.contains(" 3/2 "), "{text}");
            assert!(
                text.contains(&format!(":{}", quiet.local_addr()?.port())),
                "{text}"
            );
        }
        Ok(())
    })
}
