//! Less than everything: unprivileged, or without BPF. The same queue figures, and a reason for
//! each figure that is missing.

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening,
    lookup::listener,
    netns,
    skip::{Need, can_run},
};
use raindrops_user::view::{SourceState, View};

const BACKLOG: u32 = 16;
const QUEUED: u32 = 3;

fn figures(view: &View, address: &str) -> Result<(Option<u32>, Option<u32>, Option<u64>)> {
    let queue = &listener(view, address)?.queue;
    Ok((queue.queued, queue.limit, queue.overflows))
}

/// Starts a daemon beside a listener with a known queue, checks that it shows that queue, and
/// hands it over.
fn with_known_queue(
    user: User,
    arguments: &[&str],
    check: impl FnOnce(&Daemon, &View, &str) -> Result<()> + Send,
) -> Result<()> {
    netns::in_new(|| {
        let listening = listening::tcp(BACKLOG.cast_signed())?;
        let address = listening.local_addr()?;
        let _queued = listening::begin_connections(address, QUEUED as usize)?;
        let address = address.to_string();
        let place = Place::new()?;
        let daemon = place.start(user, arguments)?;
        let expected = (Some(QUEUED), Some(BACKLOG), Some(0));
        let view = daemon.until("the queue", |view| {
            figures(view, &address).is_ok_and(|shown| shown == expected)
        })?;
        check(&daemon, &view, &address)
    })
}

fn doctor(daemon: &Daemon) -> Result<String> {
    let socket = daemon.socket().to_string_lossy();
    let output = daemon::raindrops(["doctor", "--socket", &socket])?;
    let code = output.status.code();
    assert!(code == Some(0) || code == Some(3), "doctor exits {code:?}");
    String::from_utf8(output.stdout).context("doctor prints UTF-8")
}

fn assert_bpf_is_explained(daemon: &Daemon, view: &View, address: &str) -> Result<()> {
    let bpf = daemon::source(view, "bpf")?;
    assert_eq!(bpf.state, SourceState::Off);
    let reason = bpf
        .reason
        .as_deref()
        .context("BPF is off without a reason")?;
    let doctor = doctor(daemon)?;
    assert!(
        doctor.contains(reason),
        "doctor does not say {reason:?}:\n{doctor}"
    );
    let groups = listener(view, address)?.connections.as_ref();
    let accepts = groups.and_then(|groups| groups.accepts);
    assert_eq!(accepts, None, "an unknown figure must be absent, not zero");
    Ok(())
}

/// Check the queue figures as root with everything on, and that doctor says that it is on.
#[test]
fn root_with_bpf() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    with_known_queue(User::Same, &[], |daemon, view, _| {
        daemon::expect_bpf(view)?;
        let doctor = doctor(daemon)?;
        for name in ["bpf", "sock_diag", "proc"] {
            assert!(
                doctor.contains(name),
                "doctor does not mention {name}:\n{doctor}"
            );
        }
        Ok(())
    })
}

/// Check the queue figures with `--no-bpf`, and that doctor explains what is missing.
#[test]
fn root_without_bpf() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    with_known_queue(User::Same, &["--no-bpf"], assert_bpf_is_explained)
}

/// Check the queue figures of an unprivileged user, and that doctor names what would grant more.
#[test]
fn unprivileged() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    with_known_queue(User::Nobody, &[], |daemon, view, address| {
        assert_bpf_is_explained(daemon, view, address)?;
        let grant = daemon::source(view, "bpf")?.grant.as_deref();
        let grant = grant.context("nothing is said to grant BPF")?;
        assert!(grant.contains("CAP_BPF"), "{grant}");
        assert!(
            doctor(daemon)?.contains(grant),
            "doctor does not say {grant:?}"
        );
        Ok(())
    })
}
