//! The command line: what it prints, and its exit codes.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
};

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Place, User},
    description::expect_described,
    listening, netns,
    skip::{Need, can_run},
};
use serde_json::Value;

/// Check that `show` prints the same listeners as a table and as JSON, from a daemon.
#[test]
fn show_prints_text_and_json() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?.to_string();
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        let socket = daemon.socket().to_string_lossy();

        let text = daemon::raindrops(["show", "--socket", &socket])?;
        assert!(text.status.success());
        let text = String::from_utf8(text.stdout)?;
        assert!(text.contains(&address), "{text}");
        assert!(!text.contains('\x1b'), "colours in a pipe: {text:?}");
        assert_eq!(daemon.get("/")?.status, 200);
        assert!(daemon.get("/")?.text()?.contains(&address));

        let json = daemon::raindrops(["show", "--socket", &socket, "--format", "json"])?;
        assert!(json.status.success());
        assert_eq!(String::from_utf8(json.stderr)?, "", "the daemon was asked");
        let view: Value = serde_json::from_slice(&json.stdout).context("decoding JSON")?;
        assert_eq!(view["schema"], "raindrops.view/1");
        let rows = view["listeners"].as_array().context("no listeners")?;
        let row = rows.iter().find(|row| row["address"] == *address);
        let row = row.context("the listener is missing")?;
        assert!(
            row["cookie"].is_string(),
            "cookies exceed what JSON numbers hold: {row}"
        );
        assert_eq!(row["queue"]["limit"], 16);
        assert_eq!(row["queue"]["limit_from"], "app");
        assert_eq!(row["group"], Value::Null);
        Ok(())
    })
}

/// Check that `show LISTENER` shows only it, however an operator types it, and that a listener
/// which is not there is an error that names the closest one.
#[test]
fn show_finds_listeners() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let (one, other) = (listening::tcp(16)?, listening::tcp(16)?);
        let (one, other) = (one.local_addr()?, other.local_addr()?);
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        let socket = daemon.socket().to_string_lossy();
        for typed in [one.to_string(), format!(":{}", one.port())] {
            let output = daemon::raindrops(["show", "--socket", &socket, &typed])?;
            let text = String::from_utf8(output.stdout)?;
            assert!(output.status.success(), "{typed}");
            assert!(text.contains(&one.to_string()), "{typed}: {text}");
            assert!(!text.contains(&other.to_string()), "{typed}: {text}");
        }
        let missing = format!("127.0.0.2:{}", one.port());
        let output = daemon::raindrops(["show", "--socket", &socket, &missing])?;
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr)?;
        assert!(error.contains(&one.to_string()), "{error}");
        let answer = daemon.get(&format!("/v1/listeners/{missing}"))?;
        assert_eq!(answer.status, 404);
        let error: Value = serde_json::from_slice(&answer.body)?;
        assert!(
            error["error"].is_string() && error["hint"].is_string(),
            "{error}"
        );
        Ok(())
    })
}

/// Check that parts of the view are arrays of the same rows, and that they are as described.
#[test]
fn parts_of_the_view() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?.to_string();
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        for (path, expected) in [
            ("/v1/listeners".to_owned(), None),
            (format!("/v1/listeners/{address}"), Some(1)),
            ("/v1/workers".to_owned(), None),
        ] {
            let answer = daemon.get(&path)?;
            assert_eq!(answer.status, 200, "{path}");
            let described = path.replace(&address, "{listener}");
            expect_described(&daemon, &described, answer.text()?)?;
            let rows: Value = serde_json::from_slice(&answer.body)?;
            let rows = rows
                .as_array()
                .with_context(|| format!("{path} is no array"))?;
            assert!(
                expected.is_none_or(|count| rows.len() == count),
                "{path}: {rows:?}"
            );
        }
        assert_eq!(daemon.get("/v1/nothing")?.status, 404);
        Ok(())
    })
}

/// Check that `show` makes a view of its own where no daemon runs, also with no listener at all.
#[test]
fn show_works_without_a_daemon() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let socket = place.socket();
        let socket = socket.to_string_lossy();
        let output = daemon::raindrops(["show", "--socket", &socket])?;
        assert!(output.status.success(), "no listener is no failure");
        assert!(!output.stdout.is_empty(), "it says that there is none");
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?.to_string();
        let output = daemon::raindrops(["show", "--socket", &socket])?;
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout)?.contains(&address));
        let told = String::from_utf8(output.stderr)?;
        assert!(told.contains("one reading"), "{told}");
        Ok(())
    })
}

/// Check that a socket which may not be opened is an error, not a view of one's own.
#[test]
fn forbidden_socket_is_an_error() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let place = Place::new()?;
    let daemon = place.start(User::Same, &["--no-bpf"])?;
    // A copy where anybody may run it, so that it is the socket that refuses.
    let binary = daemon::binary().context("raindrops is not built")?;
    let mut show = Command::new(place.copy_for_anybody(&binary)?);
    show.arg("show").arg("--socket").arg(daemon.socket());
    if rustix::process::geteuid().is_root() {
        show.uid(65534).gid(65534);
    } else {
        fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o000))?;
    }
    let output = show.current_dir(place.path()).output()?;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.to_lowercase().contains("permission"), "{error}");
    assert!(error.contains("may open this socket (mode "), "{error}");
    assert!(output.stdout.is_empty());
    Ok(())
}

/// Check exit codes: 2 is for what was typed, 1 for what failed, which takes one line to say.
#[test]
fn exit_codes() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let place = Place::new()?;
    let daemon = place.start(User::Same, &["--no-bpf"])?;
    let socket = daemon.socket().to_string_lossy();
    let file = place.path().join("file");
    fs::write(&file, "precious")?;
    let file = file.to_string_lossy();
    for (arguments, code, text) in [
        (&["--help"][..], 0, ""),
        (&["--version"], 0, ""),
        (&[], 2, "Usage"),
        (&["shwo"], 2, "show"),
        (&["show", "--format", "no-such-format"], 2, "--format"),
        (&["serve", "--sample-hz", "many"], 2, "--sample-hz"),
        (&["serve", "--sample-hz", "0"], 2, "--sample-hz"),
        (
            &["serve", "--accept-hook", "x"],
            2,
            "auto, fexit, syscall, none",
        ),
        (
            &["serve", "--accept-hook", "peername"],
            1,
            "use \"auto\", \"fexit\" or \"syscall\"",
        ),
        (
            &["serve", "--no-bpf", "--socket", "/proc/raindrops.sock"],
            1,
            "/proc/raindrops.sock",
        ),
        (
            &["serve", "--config", "/nonexistent"],
            1,
            "/nonexistent: cannot read",
        ),
        (
            &["serve", "--socket", &file],
            1,
            "a regular file, which is left alone",
        ),
        (&["show", "--socket", &file], 1, "not a socket"),
        (
            &["show", "--socket", &socket, "@no-such"],
            1,
            "no listener matches \"@no-such\"",
        ),
    ] {
        let output = daemon::raindrops(arguments)?;
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
        if code == 1 {
            assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
        }
    }
    assert_eq!(fs::read_to_string(&*file)?, "precious");
    Ok(())
}
