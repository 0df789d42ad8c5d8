//! Watcher's paths against the real Raindrops::Watcher, which watches the same listener from a puma.

use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{Daemon, Place, User},
    listening, netns,
    skip::{Need, can_run},
    wait,
};

use crate::{curl, printed};

const REAL: &str = "127.0.0.1:18999";

struct Real(Child);

impl Real {
    fn start(place: &Place, watched: &str) -> Result<Self> {
        let rackup = place.path().join("watcher.ru");
        let text =
            format!("require 'raindrops'\nrun Raindrops::Watcher.new(listeners: ['{watched}'])\n");
        fs::write(&rackup, text)?;
        let child = Command::new("puma")
            .args(["-q", "-t", "2:4", "-b", &format!("tcp://{REAL}")])
            .arg(&rackup)
            .current_dir(place.path())
            .stdin(Stdio::null())
            .spawn()
            .context("starting puma")?;
        let real = Self(child);
        wait::within(wait::ceiling() * 6, "Watcher to answer", || {
            Ok(real.curl(&[], "/").ok().filter(|it| it.contains(watched)))
        })?;
        Ok(real)
    }

    fn curl(&self, arguments: &[&str], path: &str) -> Result<String> {
        let url = format!("http://{REAL}{path}");
        printed(
            Command::new("curl")
                .args(["-si", "-m", "5"])
                .args(arguments)
                .arg(url),
        )
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Names of Watcher's own headers, in their order.
fn names(answer: &str) -> Vec<String> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let names = head.lines().filter_map(|line| line.split_once(':'));
    let names = names.map(|(name, _)| name.to_ascii_lowercase());
    names
        .filter(|name| name.starts_with("x-") || name == "expires" || name == "content-type")
        .collect()
}

fn value<'a>(answer: &'a str, header: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(header).then_some(value.trim())
    })
}

/// What a page leads to.
fn links(page: &str) -> BTreeSet<String> {
    let parts = page.split(['<', '>']);
    let quoted = parts.flat_map(|tag| {
        ["href='", "action='"]
            .into_iter()
            .filter_map(move |attribute| {
                let rest = tag.split_once(attribute)?.1;
                Some(rest.split_once('\'')?.0.to_owned())
            })
    });
    quoted.collect()
}

fn status(answer: &str) -> Option<&str> {
    answer.split(' ').nth(1)
}

/// Digits apart, as often as it is there.
fn shape(line: &str) -> String {
    line.chars()
        .map(|it| if it.is_ascii_digit() { '0' } else { it })
        .collect()
}

fn ours(daemon: &Daemon, arguments: &[&str], path: &str) -> Result<String> {
    curl(daemon.socket(), arguments, path)
}

/// Check headers, links, statuses and lines, under `/watcher/` and without it.
#[test]
fn it_answers_as_the_real_one() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("puma"),
        Need::Program("curl"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let tcp = listening::tcp(64)?;
        let name = tcp.local_addr()?.to_string();
        let part = name.replace(':', "%3A");
        let real = Real::start(&place, &name)?;
        let _held = listening::accepted(&tcp, 3)?;
        let _queued = [
            listening::client(tcp.local_addr()?)?,
            listening::client(tcp.local_addr()?)?,
        ];

        for (figure, number) in [("active", "3"), ("queued", "2")] {
            for form in ["txt", "html"] {
                let path = format!("/{figure}/{part}.{form}");
                let theirs = wait::until("its numbers", || {
                    let answer = real.curl(&[], &path)?;
                    Ok((value(&answer, "x-current") == Some(number)).then_some(answer))
                })?;
                for prefix in ["", "/watcher"] {
                    let path = format!("{prefix}{path}");
                    let ours = wait::until("our numbers", || {
                        let answer = ours(&daemon, &[], &path)?;
                        let is_new = value(&answer, "x-max") == Some(number);
                        Ok(is_new.then_some(answer))
                    })?;
                    let order =
                        |answer: &str| -> BTreeSet<String> { names(answer).into_iter().collect() };
                    assert_eq!(order(&ours), order(&theirs), "{path}");
                    assert_eq!(value(&ours, "x-current"), Some(number));
                    assert_eq!(links(&ours), links(&theirs));
                    let type_of =
                        |answer| value(answer, "content-type").map(|it| it.split(';').next());
                    assert_eq!(type_of(&ours), type_of(&theirs));
                    let head = self::ours(&daemon, &["-I"], &path)?;
                    assert_eq!((status(&head), order(&head)), (Some("200"), order(&ours)));
                }
            }
        }
        let index = ours(&daemon, &[], "/watcher/")?;
        let missing: Vec<String> = links(&real.curl(&[], "/")?)
            .difference(&links(&index))
            .cloned()
            .collect();
        assert_eq!(missing, Vec::<String>::new(), "{index}");

        for (arguments, path) in [
            (&["-X", "PUT"][..], "/"),
            (&["-X", "DELETE"], "/active/x.txt"),
            (&[], "/what"),
            (&[], "/active/x.json"),
            (&["-X", "POST"], "/active/x.txt"),
            (&["-X", "POST"], "/reset/127.0.0.1%3A1"),
            (&[], "/reset/127.0.0.1%3A1"),
            (&[], "/queued/127.0.0.1%3A1.txt"),
        ] {
            let body = |answer: &str| answer.split("\r\n\r\n").nth(1).map(str::to_owned);
            let theirs = real.curl(arguments, path)?;
            let ours = ours(&daemon, arguments, &format!("/watcher{path}"))?;
            assert_eq!(
                (status(&ours), body(&ours)),
                (status(&theirs), body(&theirs)),
                "{arguments:?} {path}"
            );
        }

        let reset = format!("/reset/{part}");
        let post = ["-X", "POST", "-e", "http://h/back"];
        let told = ours(&daemon, &post, &reset)?;
        let theirs = real.curl(&post, &reset)?;
        assert_eq!(status(&told), status(&theirs));
        assert_eq!(value(&told, "location"), value(&theirs, "location"));
        let path = format!("/queued/{part}.txt");
        let count = value(&ours(&daemon, &[], &path)?, "x-count").map(str::to_owned);
        let count: u64 = count.context("no count")?.parse()?;
        assert!(count <= 2, "{count} samples after the reset");
        Ok(())
    })
}

/// Check that lines are those of the real one, that thresholds hold them back, and that QUIT ends them.
#[test]
fn tails_go_on_until_the_daemon_ends() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("puma"),
        Need::Program("curl"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let mut daemon = place.start(User::Same, &[])?;
        let tcp = listening::tcp(64)?;
        let name = tcp.local_addr()?.to_string();
        let path = format!("/tail/{}.txt", name.replace(':', "%3A"));
        let real = Real::start(&place, &name)?;
        daemon.until("the listener", |view| {
            view.listeners.iter().any(|it| it.address == name)
        })?;
        let _held = listening::accepted(&tcp, 1)?;
        let last = |answer: &str| answer.lines().last().map(shape);
        let short = ["-m", "4", "-N"];
        let theirs = real.curl(&short, &path)?;
        let shown = ours(&daemon, &short, &path)?;
        assert_eq!(last(&shown), last(&theirs), "{shown}");
        assert!(shown.ends_with("          1          0\n"), "{shown}");
        for header in [
            "content-type",
            "cache-control",
            "expires",
            "transfer-encoding",
        ] {
            assert_eq!(value(&shown, header), value(&theirs, header), "{header}");
        }
        let none = ours(&daemon, &short, &format!("{path}?queued_min=1"))?;
        assert!(none.ends_with("\r\n\r\n"), "{none}");

        let url = format!("http://localhost{path}");
        let endless = Command::new("curl")
            .args(["-sN", "--unix-socket"])
            .arg(daemon.socket())
            .arg(url)
            .stdout(Stdio::piped())
            .spawn()?;
        std::thread::sleep(std::time::Duration::from_secs(2));
        daemon.signal(rustix::process::Signal::QUIT)?;
        let ended = endless.wait_with_output()?;
        assert!(
            ended.status.success(),
            "the answer has an end: {}",
            ended.status
        );
        assert!(daemon.wait_for_end()?.success());
        Ok(())
    })
}
