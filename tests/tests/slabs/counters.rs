//! Counters of an application in a file, against its own answer.

use anyhow::{Result, ensure};
use raindrops_tests::{
    client::{Address, Client},
    daemon::{Place, User},
    netns, processes,
    servers::{Server, unicorn},
    shown_slabs,
    skip::{Need, can_run},
};
use raindrops_user::view::{
    View,
    slabs::{Number, Slab},
};
use rustix::process::Signal;

use super::{Chance, is_of};

const LEVELS: usize = 20;

/// Check five counters that both workers add to.
#[test]
fn in_a_file() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start_counting()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        // All of them, so that it is known how many there are.
        for index in 0..5 {
            get(&server, &format!("/count/{index}/1"))?;
        }
        daemon.until_slab("raindrops-rb")?;
        let mut chance = Chance(1);
        for _ in 0..LEVELS {
            for _ in 0..chance.below(8) {
                let (index, by) = (chance.below(5), chance.below(1 << 20));
                get(&server, &format!("/count/{index}/{by}"))?;
            }
            let before = said(&server)?;
            let view = daemon.slabs_anew()?;
            ensure!(said(&server)? == before, "the application counts by itself");
            assert_eq!(shown(&server, &view)?, before);
        }
        // What a killed worker has counted stays, with him and with us.
        let killed = server.workers()[0];
        processes::signal(killed, Signal::KILL)?;
        let path = server.path(unicorn::COUNTERS).display().to_string();
        daemon.until("the worker that takes his place", |view| {
            let workers = server.workers();
            let has_it = |slab: &Slab| {
                let mut all = workers.iter();
                slab.r#where == path && all.all(|pid| slab.pids.contains(pid))
            };
            let is_gone = |slab: &Slab| !slab.pids.contains(&killed);
            workers.len() == 2
                && !workers.contains(&killed)
                && view.slabs.iter().any(has_it)
                && view.slabs.iter().all(is_gone)
        })?;
        get(&server, "/count/1/3")?;
        let before = said(&server)?;
        assert_eq!(shown(&server, &daemon.slabs_anew()?)?, before);
        Ok(())
    })
}

fn get(server: &Server, path: &str) -> Result<String> {
    let mut client = Client::connect(&Address::Tcp(server.tcp[0]))?;
    client.ask_and_close(path)?;
    Ok(String::from_utf8(client.answered()?)?)
}

fn said(server: &Server) -> Result<Vec<u64>> {
    let answer = get(server, "/counters")?;
    let counters = answer.split(' ').map(str::parse);
    Ok(counters.collect::<Result<_, _>>()?)
}

/// By their numbers, of the slab in the file.
fn shown(server: &Server, view: &View) -> Result<Vec<u64>> {
    let path = server.path(unicorn::COUNTERS).display().to_string();
    let slabs = shown_slabs::of_kind(view, "raindrops-rb");
    let of_file: Vec<_> = slabs.iter().filter(|slab| slab.r#where == path).collect();
    let [slab] = of_file[..] else {
        anyhow::bail!("not one slab in {path}: {:#?}", view.slabs);
    };
    let all = [server.master()].into_iter().chain(server.workers());
    is_of(slab, &format!("unicorn:{}", server.master()), all);
    let totals = shown_slabs::totals(slab).into_iter().enumerate();
    totals
        .map(|(index, total)| match total {
            (name, Some(Number::Count(count))) if name == format!("counter_{index}") => Ok(count),
            other => anyhow::bail!("{other:?}"),
        })
        .collect()
}
