//! However `top` ends, the terminal is as it was; and where there is none, it does not begin.

use anyhow::Result;
use raindrops_tests::{
    daemon::{self, Place, User},
    netns,
    pty::Terminal,
    skip::{Need, can_run},
    wait,
};
use rustix::process::Signal;

use super::SMALL;

#[test]
fn the_terminal_is_given_back() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        type Way = fn(&mut Terminal) -> Result<()>;
        let ways: [(&str, Way); 6] = [
            ("q", |top| top.send("q")),
            ("Ctrl-C", |top| top.send("\x03")),
            ("TERM", |top| top.signal(Signal::TERM)),
            ("INT", |top| top.signal(Signal::INT)),
            ("HUP", |top| top.signal(Signal::HUP)),
            ("QUIT", |top| top.signal(Signal::QUIT)),
        ];
        for (name, way) in ways {
            let mut top = Terminal::top(daemon.socket(), SMALL)?;
            top.until_it_has("q quit")?;
            assert_eq!(top.is_taken()?, [true; 3], "{name}");
            way(&mut top)?;
            let status = top.wait_for_end()?;
            assert!(status.success(), "{name}: {status}");
            wait::until("the terminal to be given back", || {
                Ok((top.is_taken()? == [false; 3]).then_some(()))
            })?;
            assert_eq!(top.text().trim(), "", "{name}: nothing is left on it");
        }
        Ok(())
    })
}

#[test]
fn no_colour_and_no_unicode() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        let socket = daemon.socket().to_string_lossy().into_owned();
        for (environment, is_painted, is_ascii) in [
            (&[][..], true, false),
            (&[("NO_COLOR", "1")], false, false),
            (&[("TERM", "dumb"), ("LC_ALL", "C")], false, true),
        ] {
            let arguments = ["top", "--socket", &socket];
            let top = Terminal::start(arguments, environment, SMALL, SMALL.1)?;
            let text = top.until_it_has("OF LIMIT")?;
            assert_eq!(top.is_painted(), is_painted, "{environment:?}: {text}");
            assert_eq!(text.is_ascii(), is_ascii, "{environment:?}: {text}");
        }
        Ok(())
    })
}

#[test]
fn without_a_terminal_it_says_what_to_do() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let output = daemon::raindrops(["top"])?;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr)?;
    assert!(error.contains("use raindrops show"), "{error}");
    assert_eq!(output.stdout, b"");
    Ok(())
}
