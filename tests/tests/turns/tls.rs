//! Turns of encrypted connections: requests, and what docs/socket.md says comes on top.

use anyhow::Result;
use raindrops_tests::{
    daemon::{Daemon, Place, User},
    lookup, netns,
    servers::nginx::{self, Status},
    skip::{Need, can_run},
    tls::{self, Leave},
    turns::{self, Doing},
};
use raindrops_user::view::View;

const CLIENTS: u64 = 5;
const REQUESTS: u64 = 20;
const HANDSHAKE: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turned {
    total: u64,
    answers: u64,
    unanswered: u64,
    idle: Option<u64>,
}

/// Waits for this, and then sees that nothing comes on top.
fn shows(daemon: &Daemon, address: &str, expected: Turned) -> Result<()> {
    for _ in 0..2 {
        daemon.until(&format!("{expected:?} on {address}"), |view| {
            turned(view, address).is_ok_and(|turned| turned == expected)
        })?;
        daemon.looked_anew(&[address.to_owned()])?;
    }
    Ok(())
}

fn turned(view: &View, address: &str) -> Result<Turned> {
    let turns = turns::of(lookup::listener(view, address)?)?;
    Ok(Turned {
        total: turns.total,
        answers: turns.answer.count,
        unanswered: turns.unanswered,
        idle: Doing::of_listeners(view, &[address.to_owned()])?.idle,
    })
}

/// Check that a full handshake is two turns, each request over the connection one, and a client's
/// last record (close_notify) one without an answer, which it is not where the client just goes.
#[test]
fn requests_and_handshakes() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("nginx"),
        Need::Program("openssl"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = nginx::start_with_tls()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        for (address, version) in [(nginx::TLS_1_2, "-tls1_2"), (nginx::TLS_1_3, "-tls1_3")] {
            let (mut answers, mut unanswered) = (0, 0);
            for leave in [Leave::Sudden, Leave::Announced] {
                let before = Status::of(&server)?.requests;
                let mut clients = (0..CLIENTS)
                    .map(|_| tls::connect(address, version, leave))
                    .collect::<Result<Vec<_>>>()?;
                answers += CLIENTS * HANDSHAKE;
                let now = |answers, unanswered, idle| Turned {
                    total: answers + unanswered,
                    answers,
                    unanswered,
                    idle: Some(idle),
                };
                // Later the end of a handshake could be read together with the request.
                shows(&daemon, address, now(answers, unanswered, CLIENTS))?;
                for client in &mut clients {
                    for _ in 0..REQUESTS {
                        assert_eq!(client.get("/")?, b"ok\n");
                    }
                }
                answers += CLIENTS * REQUESTS;
                shows(&daemon, address, now(answers, unanswered, CLIENTS))?;
                // The second time it was asked comes on top.
                let requests = Status::of(&server)?.requests - before - 1;
                assert_eq!(requests, CLIENTS * REQUESTS);

                drop(clients);
                if leave == Leave::Announced {
                    unanswered += CLIENTS;
                }
                shows(&daemon, address, now(answers, unanswered, 0))?;
            }
        }
        Ok(())
    })
}
