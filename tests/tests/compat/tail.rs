//! `raindrops tail`, with and without a daemon, beside raindrops' own example.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{Place, User, binary, raindrops},
    listening, netns,
    skip::{Need, can_run},
    wait,
};
use rustix::process::Signal;

const EXAMPLE: &str = "/usr/share/doc/ruby-raindrops/examples/linux-listener-stats.rb";

/// Check that the lines are those of the example, whoever counts, and that the header is.
#[test]
fn lines_are_those_of_the_example() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("ruby")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let tcp = listening::tcp(64)?;
        let address = tcp.local_addr()?;
        let _held = listening::accepted(&tcp, 2)?;
        let _queued = listening::client(address)?;
        let name = address.to_string();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes);
        let untimed = |text: &str| -> Vec<String> {
            let lines = text.lines().map(|line| line[20..].to_owned());
            lines.collect()
        };
        let socket = place.socket();
        let socket = socket.to_str().context("no text")?;
        let tail = |more: &[&str]| {
            let all = [
                "tail",
                &name,
                "--socket",
                socket,
                "--count",
                "2",
                "--interval",
                "50ms",
            ];
            raindrops(all.iter().chain(more))
        };
        let alone = tail(&[])?;
        let daemon = place.start(User::Same, &[])?;
        daemon.until("the connections", |view| {
            let listener = view.listeners.iter().find(|it| it.address == name);
            let active = listener.and_then(|it| it.connections.as_ref()?.active);
            active == Some(2)
        })?;
        let asked = tail(&[])?;
        let line = format!(" {name}          2          1");
        for output in [&alone, &asked] {
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let printed = untimed(std::str::from_utf8(&output.stdout)?);
            assert_eq!(printed, [line.clone(), line.clone()]);
        }
        if std::path::Path::new(EXAMPLE).exists() {
            let theirs = Command::new("ruby").args([EXAMPLE, &name]).output()?;
            assert_eq!(untimed(&text(theirs.stdout)?), [line]);
            let header = text(theirs.stderr)?;
            assert_eq!(text(asked.stderr)?, header);
        }
        for more in [["--active-min", "3"], ["--queued-min", "2"]] {
            assert_eq!(text(tail(&more)?.stdout)?, "");
        }
        assert_ne!(
            text(tail(&["--active-min", "2", "--queued-min", "1"])?.stdout)?,
            ""
        );
        Ok(())
    })
}

/// Check that an unknown listener is an error that names what there is, and that a reader who has seen
/// enough ends it well.
#[test]
fn it_ends_as_it_should() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let tcp = listening::tcp(64)?;
        let name = tcp.local_addr()?.to_string();
        let daemon = place.start(User::Same, &[])?;
        let socket = daemon.socket().to_str().context("no text")?;
        let output = raindrops(["tail", "127.0.0.1:1", "--socket", socket])?;
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8(output.stderr)?;
        assert!(told.contains(&format!("the closest is {name}")), "{told}");
        assert_eq!(raindrops(["tail"])?.status.code(), Some(2));

        let mut child = Command::new(binary().context("no binary")?)
            .args(["tail", &name, "--socket", socket, "--interval", "20ms"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut first = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut first)?;
        assert!(first.contains(&name), "{first}");
        let ended = wait::until("its end", || Ok(child.try_wait()?))?;
        assert!(ended.success(), "{ended}");
        Ok(())
    })
}

/// Check that it goes on when the daemon comes back, and says once that it was gone.
#[test]
fn it_outlives_a_restart_of_the_daemon() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let tcp = listening::tcp(64)?;
        let name = tcp.local_addr()?.to_string();
        let mut daemon = place.start(User::Same, &[])?;
        let socket = place.socket();
        let socket = socket.to_str().context("no text")?;
        let mut child = Command::new(binary().context("no binary")?)
            .args(["tail", &name, "--socket", socket, "--interval", "20ms"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let mut notes = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let line = lines.next().context("no line")??;
        assert!(line.ends_with("          0          0"), "{line}");
        assert!(notes.next().context("no header")??.contains("timestamp"));
        daemon.signal(Signal::TERM)?;
        daemon.wait_for_end()?;
        let note = notes.next().context("it says nothing")??;
        assert!(note.ends_with("trying again"), "{note}");
        let _queued = listening::client(tcp.local_addr()?)?;
        let daemon = place.start(User::Same, &[])?;
        let queued = format!("{name}          0          1");
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.ends_with(&queued)));
        assert!(line.is_some(), "it ended");
        drop(lines);
        assert!(wait::until("its end", || Ok(child.try_wait()?))?.success());
        drop(daemon);
        let more: Vec<String> = notes.collect::<std::io::Result<_>>()?;
        assert_eq!(more, [] as [&str; 0]);
        Ok(())
    })
}

/// Check that a reader who leaves ends it though no line passes its thresholds.
#[test]
fn it_ends_with_its_reader_at_once() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let tcp = listening::tcp(64)?;
        let name = tcp.local_addr()?.to_string();
        let mut child = Command::new(binary().context("no binary")?)
            .args(["tail", &name, "--socket", "/nowhere/raindrops.sock"])
            .args(["--active-min", "1", "--interval", "1day"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let notes = BufReader::new(child.stderr.take().context("no stderr")?);
        let header = notes
            .lines()
            .find(|line| line.as_ref().is_ok_and(|it| it.contains("timestamp")));
        assert!(header.is_some());
        drop(child.stdout.take());
        assert!(wait::until("its end", || Ok(child.try_wait()?))?.success());
        Ok(())
    })
}
