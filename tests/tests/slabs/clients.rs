//! How many clients each worker of Rainbows! has, against the connections that they hold to it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use raindrops_tests::{
    client::{Address, Client},
    daemon::{Place, User},
    lookup, netns, processes,
    servers::{Server, rainbows},
    shown_slabs,
    skip::{Need, can_run},
};
use raindrops_user::view::{View, slabs::Number};
use rustix::process::Signal;

use super::{Chance, is_of};

const LEVELS: usize = 20;
/// Fewer than one worker takes.
const CLIENTS: u64 = 7;

/// Check the numbers while clients come and go.
#[test]
fn of_each_worker() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("rainbows")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = rainbows::start_unmodified()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let mut clients = Vec::new();
        while clients.len() < 4 {
            clients.push(connected(&server)?);
        }
        let view = daemon.until_slab("rainbows-n")?;
        for slab in shown_slabs::of_kind(&view, "rainbows-n") {
            let [pid] = slab.pids[..] else {
                anyhow::bail!("of several processes: {slab:?}");
            };
            is_of(slab, &format!("rainbows:{}", server.master()), [pid]);
        }
        let mut chance = Chance(1);
        for _ in 0..LEVELS {
            let count = chance.below(CLIENTS + 1) as usize;
            clients.truncate(count);
            while clients.len() < count {
                clients.push(connected(&server)?);
            }
            let mut expected: BTreeMap<u32, u64> =
                server.workers().into_iter().map(|pid| (pid, 0)).collect();
            for (pid, _) in &clients {
                *expected.entry(*pid).or_default() += 1;
            }
            // A worker learns later that a client has gone.
            daemon.until(&format!("{expected:?}"), |view| {
                shown(&server, view).is_ok_and(|it| it == expected)
            })?;
            assert_eq!(shown(&server, &daemon.slabs_anew()?)?, expected);
        }
        // Clients of a worker that was killed are nobody's, and the other's stay.
        while clients.is_empty() {
            clients.push(connected(&server)?);
        }
        let killed = clients[0].0;
        let left = clients.iter().filter(|(pid, _)| *pid != killed).count() as u64;
        let other = server.workers().into_iter().find(|pid| *pid != killed);
        let other = other.context("there is one worker only")?;
        processes::signal(killed, Signal::KILL)?;
        let view = daemon.until("one worker less", |view| {
            view.slabs.iter().all(|slab| !slab.pids.contains(&killed))
        })?;
        assert_eq!(
            shown_slabs::of_worker(&view, other)?.get("clients"),
            Some(&Number::Count(left))
        );
        assert!(lookup::worker(&view, killed).is_err());
        Ok(())
    })
}

/// A client that has had an answer, and whose.
fn connected(server: &Server) -> Result<(u32, Client)> {
    let mut client = Client::connect(&Address::Tcp(server.tcp[0]))?;
    let answer = String::from_utf8(client.get("/")?)?;
    let pid = answer.strip_prefix("hi ").context("no pid")?.trim();
    Ok((pid.parse()?, client))
}

fn shown(server: &Server, view: &View) -> Result<BTreeMap<u32, u64>> {
    let workers = server.workers().into_iter();
    workers
        .map(|pid| {
            let said = shown_slabs::of_worker(view, pid)?.get("clients");
            match said {
                Some(Number::Count(clients)) => Ok((pid, *clients)),
                other => anyhow::bail!("clients of {pid}: {other:?}"),
            }
        })
        .collect()
}
