//! `top` where there is no daemon, no daemon any more, or one again.

use anyhow::Result;
use raindrops_tests::{
    daemon::{Place, User},
    listening, netns,
    pty::Terminal,
    skip::{Need, can_run},
};
use rustix::process::Signal;

use super::{LARGE, SMALL};

#[test]
fn without_a_daemon_it_reads_itself() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(8)?;
        let _waiting = listening::begin_connections(listening.local_addr()?, 3)?;
        let place = Place::new()?;
        let mut top = Terminal::top(&place.socket(), LARGE)?;
        top.until_it_has("no daemon: own reading since ")?;
        let port = format!(":{}", listening.local_addr()?.port());
        top.send("/")?;
        top.send(&port)?;
        top.until("the listener with its queue", |text| {
            text.contains("3/8") && text.contains(&format!("127.0.0.1{port}"))
        })?;
        top.send("\rq")?;
        assert!(top.wait_for_end()?.success());
        assert_eq!(top.is_taken()?, [false; 3]);
        Ok(())
    })
}

/// Check that a daemon that ends under it is told at once, with what it had said still there, and that
/// the next one is found.
#[test]
fn a_daemon_that_goes_and_comes() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(8)?;
        let port = format!(":{}", listening.local_addr()?.port());
        let place = Place::new()?;
        let mut daemon = place.start(User::Same, &["--no-bpf"])?;
        let mut top = Terminal::top(daemon.socket(), SMALL)?;
        top.until_it_has(&port)?;
        daemon.signal(Signal::TERM)?;
        daemon.wait_for_end()?;
        let text = top.until_it_has("NO ANSWER for ")?;
        assert!(text.contains(&port), "the last figures stay: {text}");
        top.send("?")?;
        top.until_it_has("a second back in time")?;
        top.send("?")?;
        let _daemon = place.start(User::Same, &["--no-bpf"])?;
        top.until("figures again", |text| {
            !text.contains("NO ANSWER") && text.contains(&port)
        })?;
        Ok(())
    })
}
