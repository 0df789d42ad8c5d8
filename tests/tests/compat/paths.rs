//! Paths that nobody should ask for, and names of several namespaces.

use anyhow::Result;
use raindrops_tests::{
    daemon::{Place, User},
    http, netns, same_address,
    skip::{Need, can_run},
};

/// Check that each gets an answer, and that the daemon goes on.
#[test]
fn hostile_paths_are_answered() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        let long = "a".repeat(8_000);
        for (path, status) in [
            ("/active/%00.txt".to_owned(), 200),
            ("/active/%ff%fe.html".to_owned(), 200),
            ("/queued/%3Cscript%3E.html".to_owned(), 200),
            ("/active/%.txt".to_owned(), 400),
            ("/active/%zz.txt".to_owned(), 400),
            (format!("/active/{long}.txt"), 200),
            (format!("/watcher/active/{long}.html"), 200),
            (format!("/tail/{long}.txt"), 404),
            ("/tail/%00.txt".to_owned(), 404),
            ("/tail/.txt".to_owned(), 404),
            ("/reset/%00".to_owned(), 404),
            ("/active/".to_owned(), 404),
            ("/watcher/../../etc/passwd".to_owned(), 404),
            ("/_raindrops?listener=%".to_owned(), 400),
            ("/_raindrops?listener=%00".to_owned(), 404),
            ("/_raindrops?x=1".to_owned(), 400),
            (format!("/_raindrops?listener={long}"), 404),
            ("/last_data_recv".to_owned(), 503),
            ("/stats".to_owned(), 404),
            ("/stats?token=".to_owned(), 404),
            (format!("/x/stats?token={long}"), 404),
        ] {
            let answer = http::get(daemon.socket(), &path)?;
            let shown: String = path.chars().take(80).collect();
            assert_eq!(answer.status, status, "{shown}");
            assert!(!answer.text()?.contains("<script"), "{shown}");
            assert!(answer.body.len() < 40_000, "{shown}");
        }
        assert_eq!(daemon.get("/healthz")?.status, 200);
        Ok(())
    })
}

/// Check that an address of two namespaces is refused with ids, of which each is answered.
#[test]
fn an_address_of_two_namespaces_needs_an_id() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    let other = netns::Inhabited::unnamed()?;
    netns::in_new(|| {
        let _own = same_address::listen()?;
        let _other = other.enter(same_address::listen)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf", "--netns", "all"])?;
        let own = same_address::own_inode()?;
        let view = daemon.until("its own listener", |view| {
            same_address::listener_in(view, own).is_ok()
        })?;
        let listener = same_address::listener_in(&view, own)?;
        let address = &listener.address;
        for path in [
            format!("/active/{address}.txt"),
            format!("/tail/{address}.txt"),
            format!("/_raindrops?listener={address}"),
        ] {
            let answer = daemon.get(&path)?;
            assert_eq!(answer.status, 409, "{path}");
            assert!(answer.text()?.contains(&listener.id), "{path}");
        }
        let answer = daemon.get(&format!("/queued/{}.txt", listener.id))?;
        assert_eq!(answer.status, 200);
        let text = daemon.get("/_raindrops")?;
        let lines = text.text()?.matches(&format!("{address} queued: ")).count();
        assert_eq!(lines, 1, "only its own namespace");
        Ok(())
    })
}
