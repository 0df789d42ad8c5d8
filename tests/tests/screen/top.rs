//! What `top` shows of a server in trouble, and what keys make of it.

use anyhow::{Context as _, Result};
use raindrops_tests::{
    client::{Address, answered, asking},
    daemon::{Place, User},
    listening, netns,
    pty::Terminal,
    servers::unicorn,
    skip::{Need, can_run},
};

use super::{ENTER, ESCAPE, LARGE, LEFT, SMALL};

const FULL: usize = unicorn::BACKLOG as usize + 1;
const WORKERS: usize = 2;

/// The cells of a row, with `>` where it is chosen.
fn row<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let rows = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = rows.filter(|row| row.iter().take(2).any(|cell| *cell == name));
    found.next()
}

/// Check that a full listener is on top with its figures and the verdict, that its workers and their
/// connections can be entered, and that both are what the test has made.
#[test]
fn from_a_full_queue_to_a_connection() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let hold = server.hold("all")?;
        let mut clients = asking(&Address::Tcp(server.tcp[0]), WORKERS + FULL, "/park/all")?;
        let refused = listening::begin_connections(server.tcp[0], 4)?;
        let mut top = Terminal::top(daemon.socket(), SMALL)?;

        let address = server.tcp[0].to_string();
        let queue = format!("{FULL}/{}", unicorn::BACKLOG);
        let text = top.until("the full listener on top", |text| {
            let first = text
                .lines()
                .skip_while(|line| !line.contains("LISTENER"))
                .nth(1);
            first.is_some_and(|line| {
                line.starts_with("> ") && line.contains(":18080") && line.contains(&queue)
            }) && text.contains(&format!("critical: {address}"))
        })?;
        assert!(text.contains("████████"), "no full bar: {text}");
        assert!(text.contains("figures "), "{text}");
        drop(refused);

        let busy = daemon.until("both workers in turns", |view| {
            let of_server = view
                .workers
                .iter()
                .filter(|it| server.workers().contains(&it.pid));
            of_server.filter(|it| it.threads_busy == Some(1)).count() == WORKERS
        })?;
        top.send(ENTER)?;
        for pid in server.workers() {
            top.until("a worker in a turn", |text| {
                row(text, &pid.to_string())
                    .is_some_and(|row| row.iter().any(|cell| cell.starts_with("1/")))
            })?;
        }
        let text = top.until_it_has("queue (sock_diag")?;
        assert!(text.contains("connections (bpf"), "{text}");
        assert!(text.contains("turns (bpf"), "{text}");

        top.send(ENTER)?;
        let text = top.until_it_has("1 accepted connection of ")?;
        let phase = text.lines().find(|line| line.contains("calling"));
        let phase = phase.context("no connection is in its call")?;
        assert!(phase.contains("127.0"), "{phase}");
        let pids: Vec<String> = busy.workers.iter().map(|it| it.pid.to_string()).collect();
        assert!(pids.iter().any(|pid| phase.contains(pid)), "{phase}");

        top.send(ESCAPE)?;
        top.until_it_has("Enter connections")?;
        top.send(ESCAPE)?;
        top.until_it_has("Enter workers")?;
        drop(hold);
        answered(&mut clients)?;
        top.until("an empty queue", |text| {
            text.contains(&format!("0/{}", unicorn::BACKLOG)) && !text.contains(&queue)
        })?;
        Ok(())
    })
}

/// Check filter, order, pause, the past, help and verdicts.
#[test]
fn keys() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let (one, other) = (listening::tcp(8)?, listening::tcp(8)?);
        let (wanted, unwanted) = (one.local_addr()?, other.local_addr()?);
        let waiting = listening::begin_connections(wanted, 3)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        let mut top = Terminal::top(daemon.socket(), SMALL)?;
        let (wanted, unwanted) = (
            format!(":{}", wanted.port()),
            format!(":{}", unwanted.port()),
        );
        top.until("both", |text| {
            text.contains(&wanted) && text.contains(&unwanted)
        })?;

        top.send("/")?;
        top.until_it_has("only with: _")?;
        top.send(&wanted)?;
        top.until("only one", |text| !text.contains(&unwanted))?;
        top.send(ENTER)?;
        top.until_it_has(&format!("only with \"{wanted}\": 1 of "))?;
        top.send(ESCAPE)?;
        top.until_it_has(&unwanted)?;

        top.send("s")?;
        top.until_it_has("s sort: queue")?;
        top.send("S")?;
        top.until_it_has("s sort: trouble")?;

        top.send("p")?;
        let held = top.until_it_has("PAUSED at ")?;
        assert!(held.contains("3/8"), "{held}");
        drop(waiting);
        // What the clients have left is accepted, and is gone from the queue.
        for _ in 0..3 {
            one.accept()?;
        }
        daemon.until("an empty queue", |view| {
            view.listeners.iter().all(|it| it.queue.queued == Some(0))
        })?;
        assert!(top.text().contains("3/8"), "it is paused: {}", top.text());
        top.send("p")?;
        top.until("the queue as it is", |text| !text.contains("3/8"))?;

        top.send(LEFT)?;
        top.until_it_has("PAST: ")?;
        top.send(ENTER)?;
        top.until_it_has("Workers have no past")?;
        top.send(ESCAPE)?;
        top.until("now", |text| !text.contains("PAST: "))?;

        top.send("?")?;
        top.until_it_has("a second back in time")?;
        top.send("v")?;
        top.until_it_has("source bpf: off")?;
        top.send(ESCAPE)?;
        top.until_it_has("Esc back")?;
        Ok(())
    })
}

/// Check that it fits any size, at once, and says so where it cannot.
#[test]
fn sizes() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(8)?;
        let port = format!(":{}", listening.local_addr()?.port());
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        let top = Terminal::top(daemon.socket(), SMALL)?;
        let small = top.until_it_has(&port)?;
        assert!(!small.contains("ACCEPTS"), "{small}");
        top.resize(LARGE)?;
        let large = top.until("more columns", |text| text.contains("ACCEPTS"))?;
        let last = large.lines().last().context("an empty screen")?;
        assert!(last.contains("q quit"), "the whole height: {large}");
        top.resize((40, 8))?;
        top.until_it_has("40x8 is too small")?;
        top.resize(SMALL)?;
        top.until_it_has(&port)?;
        Ok(())
    })
}
