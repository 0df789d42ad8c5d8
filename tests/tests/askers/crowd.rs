//! A thousand clients that want nothing, some that do not read, and some that send nonsense.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{Daemon, Place, User},
    listening, netns, processes,
    skip::{Need, can_run},
    wait::CEILING,
};

const IDLE: usize = 1_000;
const DEAF: usize = 10;
const GOOD: usize = 200;
/// More than the daemon has on a small host, with a buffer for each client.
const RSS_KIB: u64 = 96 * 1024;

/// Listeners of the host that deaf clients ask about, so that an answer is megabytes.
const LISTENERS: usize = 300;
const EACH_OF_ITS_OWN: usize = 150;
/// The budget of unread answers, the views that they are of, and the daemon itself.
const RSS_OF_LARGE_KIB: u64 = 224 * 1024;

fn rss_kib(daemon: &Daemon) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let line = line.context("no VmRSS")?.trim_end_matches("kB");
    Ok(line.trim().parse()?)
}

/// Check that good clients get their answers, that views are made at their rate, and that memory has a
/// bound, while a crowd does its worst.
#[test]
fn of_bad_clients() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        processes::allow_descriptors(4 * IDLE as u64)?;
        let listeners = (0..50)
            .map(|_| listening::tcp(8))
            .collect::<Result<Vec<_>>>()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        let connect = || UnixStream::connect(daemon.socket());
        let idle = (0..IDLE)
            .map(|_| connect())
            .collect::<Result<Vec<_>, _>>()?;
        let mut deaf = Vec::new();
        for at in 0..DEAF {
            let mut client = connect()?;
            let path = ["/v1/stream?interval=100ms", "/v1/view?buckets=1"][at % 2];
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            // As often as the socket takes it: every answer is one more to keep.
            client.set_nonblocking(true)?;
            while client
                .write(request.as_bytes())
                .is_ok_and(|sent| sent == request.len())
            {}
            deaf.push(client);
        }
        let hostile: [&[u8]; 6] = [
            b"\x00\xff\x16\x03\x01\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nhost: x\r\n\r\n",
            b"POST /v1/reset HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\n",
            b"GET /v1/history?step=999999999999d HTTP/1.1\r\nhost: x\r\n\r\n",
        ];
        let began = Instant::now();
        let first = daemon.view()?;
        let mut views = 0;
        let mut last = first.monotonic_ns;
        for at in 0..GOOD {
            let mut bad = connect()?;
            bad.write_all(hostile[at % hostile.len()])?;
            let view = daemon.view()?;
            views += usize::from(view.monotonic_ns != last);
            last = view.monotonic_ns;
            bad.set_read_timeout(Some(CEILING))?;
            bad.shutdown(std::net::Shutdown::Write)?;
            let _ = bad.read(&mut [0; 64]);
        }
        // A view is made every tenth of a second, and each round has seen one.
        let tenths = usize::try_from(began.elapsed().as_millis() / 100)?;
        assert!(
            views * 2 >= tenths.min(GOOD),
            "{views} views in {tenths} tenths of a second"
        );
        let rss = rss_kib(&daemon)?;
        assert!(rss < RSS_KIB, "{rss} KiB");
        drop((idle, deaf, listeners));
        assert_eq!(daemon.get("/healthz")?.status, 200);
        Ok(())
    })
}

/// Check that clients that take nothing, each of a view of its own, are cut off before memory goes, and
/// that streams whose clients have left end.
#[test]
fn of_clients_that_read_nothing() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        processes::allow_descriptors(4 * IDLE as u64)?;
        let listeners = (0..LISTENERS)
            .map(|_| listening::tcp(8))
            .collect::<Result<Vec<_>>>()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let mut deaf = Vec::new();
        for at in 0..EACH_OF_ITS_OWN {
            let mut client = UnixStream::connect(daemon.socket())?;
            let path = ["/metrics", "/v1/view?buckets=1"][at % 2];
            client.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())?;
            deaf.push(client);
            let mut leaves = UnixStream::connect(daemon.socket())?;
            leaves.write_all(b"GET /v1/stream?interval=1m HTTP/1.1\r\nhost: x\r\n\r\n")?;
            drop(leaves);
            assert!(daemon.view()?.listeners.len() >= LISTENERS);
            let rss = rss_kib(&daemon)?;
            assert!(rss < RSS_OF_LARGE_KIB, "{rss} KiB after {at}");
            thread::sleep(Duration::from_millis(100));
        }
        drop((deaf, listeners));
        assert_eq!(daemon.get("/healthz")?.status, 200);
        Ok(())
    })
}
