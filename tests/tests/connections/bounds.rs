//! What a list of connections may cost, however many there are and however many ask.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    daemon::{Place, User},
    listening, netns, processes,
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::connections::SCANNED;

use crate::long_list;

/// Of all tests here, which run at one time in one process and hold both ends of each connection.
const DESCRIPTORS: u64 = 18_000;

/// Check that no more than 4,096 connections are looked at, and that this is told.
#[test]
fn the_list_is_bounded() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        processes::allow_descriptors(DESCRIPTORS)?;
        let listener = listening::tcp(64)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let mut pairs = listening::accepted(&listener, SCANNED)?;
        let query = format!("listener={}&limit={SCANNED}", listener.local_addr()?);
        let all = long_list(&daemon, &query)?;
        assert_eq!((all.connections.len(), all.scanned), (SCANNED, SCANNED));
        assert!(!all.truncated && all.scan_complete);
        pairs.push(listening::pair(&listener)?);
        for (query, shown) in [
            (query, SCANNED),
            (format!("listener={}", listener.local_addr()?), 100),
        ] {
            let cut = long_list(&daemon, &query)?;
            assert_eq!((cut.connections.len(), cut.scanned), (shown, SCANNED));
            assert!(cut.truncated && !cut.scan_complete);
            assert!(cut.notes.iter().any(|note| note.what == "scan"));
        }
        Ok(())
    })
}

/// Check that many who ask at once are answered or told to come again, that views are served
/// meanwhile, and that a client which leaves early harms nobody.
#[test]
fn many_who_ask_hold_nobody_up() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        processes::allow_descriptors(DESCRIPTORS)?;
        let listener = listening::tcp(64)?;
        let _pairs = listening::accepted(&listener, 2000)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let path = format!(
            "/v1/connections?limit=4096&listener={}",
            listener.local_addr()?
        );
        let ask = || -> Result<u16> {
            let answer = daemon.get(&path)?;
            let text = answer.text()?;
            // On a host that is busy with other things, too, there is no list in time.
            let is_told = ["ask again in ", "connections could not be read within "];
            ensure!(
                answer.status == 200 || is_told.iter().any(|it| text.contains(it)),
                "{text}"
            );
            Ok(answer.status)
        };
        thread::scope(|scope| {
            let asking: Vec<_> = (0..32).map(|_| scope.spawn(ask)).collect();
            for _ in 0..20 {
                assert_eq!(daemon.get("/v1/view")?.status, 200);
                let mut leaver = std::os::unix::net::UnixStream::connect(daemon.socket())?;
                write!(leaver, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")?;
            }
            let mut answered = 0;
            for asked in asking {
                let status = asked.join().map_err(|_| anyhow::anyhow!("panicked"))??;
                answered += usize::from(status == 200);
            }
            ensure!(answered > 0, "nobody was answered");
            Ok(())
        })?;
        wait::until("an answer", || Ok((ask()? == 200).then_some(())))
    })
}

/// Processor time that a process has used.
fn used(pid: u32) -> Result<Duration> {
    let mut used = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let schedstat = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanos = schedstat.split_whitespace().next().context("no time")?;
        used += Duration::from_nanos(nanos.parse()?);
    }
    Ok(used)
}

/// Check that who asks without a pause, and others who do, get few lists made in all: the daemon rests
/// between them, and who asks the same meanwhile shares one.
#[test]
fn who_asks_without_a_pause_gets_few_lists_made() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        const CLIENTS: usize = 8;
        processes::allow_descriptors(DESCRIPTORS)?;
        let listener = listening::tcp(64)?;
        let _pairs = listening::accepted(&listener, 2000)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let query = format!("limit=4096&listener={}", listener.local_addr()?);
        let once = Instant::now();
        long_list(&daemon, &query)?;
        let once = once.elapsed();
        let is_over = AtomicBool::new(false);
        let before = used(daemon.pid())?;
        let began = Instant::now();
        let made: Vec<BTreeSet<SystemTime>> = thread::scope(|scope| {
            let clients = [(); CLIENTS].map(|()| {
                scope.spawn(|| {
                    let mut made = BTreeSet::new();
                    while !is_over.load(Ordering::Relaxed) {
                        made.insert(long_list(&daemon, &query)?.taken_at);
                    }
                    Ok(made)
                })
            });
            thread::sleep(once * 30);
            is_over.store(true, Ordering::Relaxed);
            let ends = clients.map(|client| client.join().expect("a client does not panic"));
            ends.into_iter().collect::<Result<_>>()
        })?;
        let (took, used) = (began.elapsed(), used(daemon.pid())? - before);
        let told: usize = made.iter().map(BTreeSet::len).sum();
        let made: BTreeSet<SystemTime> = made.into_iter().flatten().collect();
        ensure!(told > made.len(), "{told} answers, {} lists", made.len());
        ensure!(made.len() > 1, "one list in {took:?}");
        println!("{told} answers, {} lists, {used:?} of {took:?}", made.len());
        // What it writes to them comes on top.
        ensure!(used < took / 2, "{used:?} of {took:?}, {once:?} for one");
        Ok(())
    })
}
