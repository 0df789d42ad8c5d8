//! BPF's gauge of active connections against the kernel's own list of sockets.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening,
    lookup::{connections, listener},
    netns,
    skip::{Need, can_run},
    wait,
};

const ROUNDS: usize = 40;

/// Accepted connections in one state, as inet_diag lists them.
fn listed(state: &str, address: SocketAddr) -> Result<u64> {
    let filter = format!("sport = :{}", address.port());
    let output = Command::new("ss")
        .args(["-Htn", "state", state, &filter])
        .output();
    let output = output.context("running ss")?;
    ensure!(
        output.status.success(),
        "ss: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).lines().count() as u64)
}

/// Waits until BPF's figures equal the list, the list being the same before and after.
fn agree(daemon: &Daemon, address: SocketAddr) -> Result<(u64, u64)> {
    let mut last = String::new();
    let agreed = wait::until("BPF and inet_diag to agree", || {
        let before = (
            listed("established", address)?,
            listed("close-wait", address)?,
        );
        let view = daemon.view()?;
        let after = (
            listed("established", address)?,
            listed("close-wait", address)?,
        );
        let groups = connections(listener(&view, &address.to_string())?)?;
        last = format!("BPF {groups:?}, inet_diag {before:?} and {after:?}");
        let shown = (groups.active, groups.half_closed);
        Ok((before == after && shown == (Some(before.0), Some(before.1))).then_some(before))
    });
    agreed.with_context(|| last.clone())
}

fn mix(listening: &TcpListener, kept: &mut Vec<TcpStream>) -> Result<()> {
    for round in 0..ROUNDS {
        let [(client, server)]: [(TcpStream, TcpStream); 1] = listening::accepted(listening, 1)?
            .try_into()
            .expect("one was asked for");
        match round % 8 {
            0 => kept.extend([client, server]),
            1 => drop((client, server)),
            2 => drop((server, client)),
            3 => {
                listening::reset(client)?;
                drop(server);
            }
            4 => {
                listening::reset(server)?;
                drop(client);
            }
            // The client has left; the server has not noticed.
            5 => kept.push(server),
            // Reset under a server that keeps its end.
            6 => {
                listening::reset(client)?;
                kept.push(server);
            }
            // Reset while queued: accept returns it dead.
            _ => {
                let queued = TcpStream::connect(listening.local_addr()?)?;
                listening::reset(queued)?;
                drop(listening.accept());
                kept.extend([client, server]);
            }
        }
    }
    Ok(())
}

/// Check that after closes and resets from both sides, `active` and `half_closed` are what
/// inet_diag counts, with and without connections from before the daemon.
#[test]
fn active_agrees_with_inet_diag() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("ss")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(128)?;
        let address = listening.local_addr()?;
        let mut kept = Vec::new();
        mix(&listening, &mut kept)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        daemon::expect_bpf(&daemon.view()?)?;
        let (active, half_closed) = agree(&daemon, address)?;
        assert!(
            active > 0 && half_closed > 0,
            "{active} active, {half_closed} half closed"
        );
        mix(&listening, &mut kept)?;
        let (later, _) = agree(&daemon, address)?;
        assert!(later > active);
        drop(kept);
        assert_eq!(agree(&daemon, address)?, (0, 0));
        Ok(())
    })
}
