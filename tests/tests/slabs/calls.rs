//! `calling` and `writing` of Raindrops::Middleware, read in the memory that it shares, against its
//! own answer.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    client::{self, Address, Client},
    daemon::{self, Daemon, Place, User},
    lookup, netns, processes,
    servers::{Hold, Server, middleware::Counted, unicorn},
    shown_slabs,
    skip::{Need, can_run},
    turns::{self, Doing},
    wait,
};
use raindrops_user::view::{View, slabs::Number};
use rustix::process::Signal;

use super::{Chance, is_of};

const LEVELS: usize = 50;

/// Check the agreement at 50 levels of load on two workers, one of which answers for both.
#[test]
fn of_two_workers() -> Result<()> {
    agrees(2, 2)
}

/// Check it where more may be parked at one time.
#[test]
fn of_eight_workers() -> Result<()> {
    agrees(8, 8)
}

fn agrees(workers: u16, different: usize) -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start_unmodified(workers)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        is_recognised(&server, &daemon)?;

        let mut chance = Chance(1);
        let mut held: Vec<(Hold, Client)> = Vec::new();
        let mut seen = BTreeSet::new();
        for level in 0..LEVELS {
            // One worker stays free to answer.
            let count = chance.below(u64::from(workers)) as usize;
            while held.len() > count {
                let (hold, mut client) = held.remove(0);
                drop(hold);
                client.answered()?;
            }
            while held.len() < count {
                let number = held.len();
                held.push(begin(
                    &server,
                    &format!("level{level}_{number}"),
                    &mut chance,
                )?);
            }
            let theirs = settled(&server, count as u64)?;
            let ours = counted(&daemon.slabs_anew()?)?;
            ensure!(server.middleware_says()? == theirs, "level {level} changes");
            assert_eq!(ours, theirs, "level {level}");
            seen.insert(theirs);
        }
        println!("{seen:?}");
        ensure!(seen.len() > different, "too little load: {seen:?}");
        Ok(())
    })
}

fn begin(server: &Server, name: &str, chance: &mut Chance) -> Result<(Hold, Client)> {
    let what = ["park", "stream"][chance.below(2) as usize];
    let to = if chance.below(2) == 0 {
        Address::Tcp(server.tcp[0])
    } else {
        Address::Unix(server.unix[0].clone())
    };
    let hold = server.hold(name)?;
    let mut client = Client::connect(&to)?;
    client.ask(&format!("/{what}/{name}"))?;
    Ok((hold, client))
}

/// Waits until so many are at work by their own count.
fn settled(server: &Server, count: u64) -> Result<Counted> {
    let mut last = None;
    wait::until("the load to settle", || {
        let theirs = server.middleware_says()?;
        // What streams is called first.
        let is_settled =
            theirs.calling + theirs.writing == count && last.replace(theirs) == Some(theirs);
        Ok(is_settled.then_some(theirs))
    })
}

/// Nothing is told while all is zero; one parked request tells.
fn is_recognised(server: &Server, daemon: &Daemon) -> Result<()> {
    assert_eq!(
        shown_slabs::of_kind(&daemon.slabs_anew()?, "raindrops-rb").len(),
        0
    );
    let (hold, mut client) = begin(server, "first", &mut Chance(1))?;
    let view = daemon.until_slab("raindrops-rb")?;
    let all = [server.master()].into_iter().chain(server.workers());
    let slab = shown_slabs::only(&view, "raindrops-rb")?;
    is_of(slab, &format!("unicorn:{}", server.master()), all);
    assert_eq!(slab.r#where, format!("pid {}", server.master()));
    drop(hold);
    client.answered().map(drop)
}

fn counted(view: &View) -> Result<Counted> {
    let slab = shown_slabs::only(view, "raindrops-rb")?;
    let totals = shown_slabs::totals(slab);
    let [
        ("calling", Some(Number::Count(calling))),
        ("writing", Some(Number::Count(writing))),
    ] = totals[..]
    else {
        anyhow::bail!("not of Middleware: {slab:?}");
    };
    Ok(Counted { calling, writing })
}

/// Check that after a worker was killed in mid-request their counters say so for ever, in their answer
/// and in ours, and that our own figures do not.
#[test]
fn a_killed_worker_leaves_its_call_in_theirs() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start_unmodified(2)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let address = [listener.to_string()];
        // How the workers work is learnt first.
        for _ in 0..20 {
            client::short(&listener, "/")?;
        }
        let hold = server.hold("doomed")?;
        let mut parked = Client::connect(&listener)?;
        parked.ask("/park/doomed")?;
        let view = daemon.until("the parked request", |view| {
            Doing::of_listeners(view, &address).is_ok_and(|doing| doing.calling == Some(1))
                && counted(view).is_ok_and(|it| it.calling == 1)
        })?;
        daemon::expect_bpf(&view)?;
        let of_worker = |pid: &u32| {
            let turns = lookup::worker(&view, *pid).ok()?.turns.as_ref()?;
            turns.calling
        };
        let workers = server.workers();
        let busy = workers.iter().find(|pid| of_worker(pid) == Some(1));
        let busy = *busy.context("no worker has the request")?;

        processes::signal(busy, Signal::KILL)?;
        wait::until("another worker", || {
            let now = server.workers();
            Ok((now.len() == 2 && !now.contains(&busy)).then_some(()))
        })?;
        drop((hold, parked));
        let leak = Counted {
            calling: 1,
            writing: 0,
        };
        for _ in 0..3 {
            assert_eq!(server.middleware_says()?, leak);
            let view = daemon.looked_anew(&address)?;
            let turns = turns::of(lookup::listener(&view, &address[0])?)?;
            assert_eq!((turns.calling, turns.writing), (Some(0), Some(0)));
            assert_eq!(counted(&daemon.slabs_anew()?)?, leak);
        }
        Ok(())
    })
}
