//! nginx's own figures, read in its memory, against its stub_status.

use std::{collections::BTreeSet, fs::File};

use anyhow::{Result, ensure};
use raindrops_tests::{
    client::{self, Address, Client},
    daemon::{Place, User},
    netns,
    servers::{Server, nginx, nginx::Status},
    shown_slabs,
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::{View, slabs::Number};

use super::{Chance, is_of};

const LEVELS: usize = 30;
const COMPARABLE: usize = 25;
/// Questions in a row that find no change, until it is believed that none is on its way.
const UNCHANGED: u32 = 10;
/// More than the sockets take.
const BIG: u64 = 64 << 20;

/// Check all figures at many levels of traffic.
#[test]
fn all_figures() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("nginx")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = nginx::start()?;
        File::create(server.path("big"))?.set_len(BIG)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let view = daemon.until_slab("nginx-stub")?;
        let all = [server.master()].into_iter().chain(server.workers());
        let slab = shown_slabs::only(&view, "nginx-stub")?;
        is_of(slab, &format!("nginx:{}", server.master()), all);

        let mut chance = Chance(1);
        let mut clients: Vec<Client> = Vec::new();
        let mut seen = BTreeSet::new();
        for level in 0..LEVELS {
            for _ in 0..chance.below(4) {
                client::short(&to(&server, &mut chance), "/")?;
            }
            for _ in 0..chance.below(3) {
                let mut client = Client::connect(&to(&server, &mut chance))?;
                match chance.below(3) {
                    0 => drop(client.get("/")?),
                    1 => client.send("GET / HTTP/1.1\r\nHost:")?,
                    _ => client.ask("/big")?,
                }
                clients.push(client);
            }
            for _ in 0..chance.below(3) {
                if !clients.is_empty() {
                    let chosen = chance.below(clients.len() as u64) as usize;
                    drop(clients.swap_remove(chosen));
                }
            }
            let before = settled(&server)?;
            let ours = shown(&daemon.slabs_anew()?)?;
            let after = Status::of(&server)?;
            if after != before.asked() {
                continue;
            }
            assert_eq!(ours, after, "level {level}");
            seen.insert(after);
        }
        ensure!(seen.len() >= COMPARABLE, "only {} comparable", seen.len());
        let most = |of: fn(&Status) -> u64| seen.iter().map(of).max().unwrap_or(0);
        ensure!(
            most(|it| it.reading) > 0 && most(|it| it.writing) > 0 && most(|it| it.waiting) > 0,
            "too little load: {seen:#?}"
        );
        Ok(())
    })
}

fn to(server: &Server, chance: &mut Chance) -> Address {
    if chance.below(2) == 0 {
        Address::Tcp(server.tcp[0])
    } else {
        Address::Unix(server.unix[0].clone())
    }
}

/// Waits until nothing but the asking changes what is told.
fn settled(server: &Server) -> Result<Status> {
    let mut last = (Status::of(server)?, 0);
    wait::until("the traffic to settle", || {
        let now = Status::of(server)?;
        let same = if now == last.0.asked() { last.1 + 1 } else { 0 };
        last = (now, same);
        Ok((same >= UNCHANGED).then_some(now))
    })
}

fn shown(view: &View) -> Result<Status> {
    let slab = shown_slabs::only(view, "nginx-stub")?;
    let figure = |name: &str| match slab.counters.get(name) {
        Some(Number::Count(count)) => Ok(*count),
        other => anyhow::bail!("{name}: {other:?}"),
    };
    Ok(Status {
        accepts: figure("accepts")?,
        handled: figure("handled")?,
        requests: figure("requests")?,
        active: figure("active")?,
        reading: figure("reading")?,
        writing: figure("writing")?,
        waiting: figure("waiting")?,
    })
}
