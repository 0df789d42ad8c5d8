use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::ExitLedger;
use crate::{
    ids::{Inode, Monotonic, Pid, StartTicks},
    snapshot::{Ended, ProcSnapshot, Process},
    view::servers::classify,
};

/// Looks at a unicorn master, pid 10, that began 100 s after boot, as did the clock.
struct Looks {
    ledger: ExitLedger,
    last: ProcSnapshot,
}

const fn at(ms: u64) -> Duration {
    Duration::from_millis(100_000 + ms)
}

/// `started`: in milliseconds like [`at`].
fn process(title: &str, parent: u32, started: u64) -> Process {
    Process {
        parent: Pid(parent),
        started: StartTicks((100_000 + started) / 10),
        ns_pid: None,
        comm: b"unicorn".to_vec(),
        title: Some(title.into()),
        uid: Some(0),
        threads: Some(1),
        state: 'S',
        unit: None,
        container: None,
        listeners: Some([Inode(7)].into()),
        each_thread: None,
        fds: None,
        fd_limit: None,
    }
}

impl Looks {
    fn new() -> Self {
        Self {
            ledger: ExitLedger::default(),
            last: ProcSnapshot {
                taken: Monotonic(at(0)),
                since_boot: at(0),
                processes: BTreeMap::new(),
                unreadable: 0,
                quarantined: BTreeSet::new(),
                ticks_per_second: 100,
                boot_time: 1_000,
                ended: Vec::new(),
                places: BTreeMap::new(),
            },
        }
    }

    /// After so many milliseconds, workers by pid, number and start. Of those before, `left` have
    /// not ended.
    fn look(&mut self, ms: u64, workers: &[(u32, u32, u64)], left: &[u32]) {
        let master = (Pid(10), process("unicorn master -c x.rb", 1, 0));
        let workers = workers.iter().map(|&(pid, index, started)| {
            let title = format!("unicorn worker[{index}] -c x.rb");
            (Pid(pid), process(&title, 10, started))
        });
        self.look_at(ms, workers.chain([master]).collect(), left);
    }

    fn look_at(&mut self, ms: u64, processes: BTreeMap<Pid, Process>, left: &[u32]) {
        let last = &mut self.last;
        let before = std::mem::replace(&mut last.processes, processes);
        last.taken = Monotonic(at(ms));
        last.since_boot = at(ms);
        for (pid, process) in before {
            let now = last.processes.get(&pid);
            let is_there = now.is_some_and(|now| now.started == process.started);
            if !is_there && !left.contains(&pid.0) {
                let ended = Ended {
                    pid,
                    started: process.started,
                    parent: process.parent,
                    noticed: last.taken,
                    lived: last.since_boot - last.start_after_boot(process.started),
                };
                last.ended.push(ended);
            }
        }
        let servers = classify(&self.last, &[Inode(7)].into(), &BTreeMap::new());
        self.ledger.note(&self.last, &servers);
    }

    /// Server, count, window and life.
    fn exits(&self, ms: u64) -> Vec<(String, u32, u64, u64)> {
        let exits = self.ledger.by_server(Monotonic(at(ms)));
        exits
            .into_iter()
            .map(|(server, it)| (server, it.count, it.over_ms, it.median_life_ms))
            .collect()
    }
}

fn unicorn(count: u32, over_ms: u64, life_ms: u64) -> Vec<(String, u32, u64, u64)> {
    vec![("unicorn:10".to_owned(), count, over_ms, life_ms)]
}

#[test]
fn a_server_that_keeps_its_workers_has_no_exits() {
    let mut looks = Looks::new();
    for ms in [1000, 2000, 3000] {
        looks.look(ms, &[(20, 0, 0), (21, 1, 10)], &[]);
    }
    assert_eq!(looks.exits(3000), []);
}

#[test]
fn a_worker_that_is_gone_lived_until_then_or_until_another_took_its_number() {
    let mut looks = Looks::new();
    looks.look(1000, &[(20, 0, 0), (21, 1, 10)], &[]);
    looks.look(2000, &[(20, 0, 0)], &[]);
    assert_eq!(looks.exits(2500), unicorn(1, 1500, 1990));

    let mut looks = Looks::new();
    looks.look(1000, &[(20, 0, 0), (21, 1, 10)], &[]);
    looks.look(2000, &[(20, 0, 0), (22, 1, 1310)], &[]);
    assert_eq!(looks.exits(2000), unicorn(1, 1000, 1300));
    // Its number 0 is another's.
    looks.look(3000, &[(22, 1, 1310)], &[]);
    assert_eq!(looks.exits(3000), unicorn(2, 2000, 3000));
}

#[test]
fn a_pid_that_another_worker_got_is_an_exit() {
    let mut looks = Looks::new();
    looks.look(1000, &[(20, 0, 0)], &[]);
    looks.look(2000, &[(20, 0, 1500)], &[]);
    assert_eq!(looks.exits(2000), unicorn(1, 1000, 1500));
}

/// Check that of workers that live 200 ms each look counts one for each number, once, also where
/// more views than looks are made.
#[test]
fn a_crash_loop_is_counted_as_far_as_it_is_seen() {
    let mut looks = Looks::new();
    for look in 0..10 {
        let begun = look * 1000;
        let workers = [
            (100 + look as u32, 0, begun + 850),
            (200 + look as u32, 1, begun + 900),
        ];
        looks.look(begun + 1000, &workers, &[]);
        looks.look(begun + 1000, &workers, &[]);
    }
    assert_eq!(looks.exits(10_000), unicorn(18, 9000, 1000));
}

#[test]
fn an_exit_is_forgotten_after_a_minute() {
    let mut looks = Looks::new();
    looks.look(1000, &[(20, 0, 0), (21, 1, 0)], &[]);
    looks.look(2000, &[(20, 0, 0)], &[]);
    looks.look(40_000, &[], &[]);
    assert_eq!(looks.exits(61_999), unicorn(2, 60_000, 40_000));
    assert_eq!(looks.exits(62_000), unicorn(1, 60_000, 40_000));
    looks.look(100_000, &[], &[]);
    assert_eq!(looks.exits(100_000), []);
    assert!(looks.ledger.exits.is_empty() && looks.ledger.workers.is_empty());
}

#[test]
fn a_worker_that_closed_its_listeners_has_not_ended() {
    let mut looks = Looks::new();
    looks.look(1000, &[(20, 0, 0), (21, 1, 10)], &[]);
    looks.look(2000, &[(20, 0, 0)], &[21]);
    assert_eq!(looks.exits(2000), []);
}

#[test]
fn a_server_that_is_gone_has_no_exits() {
    let mut looks = Looks::new();
    looks.look(1000, &[(20, 0, 0), (21, 1, 0)], &[]);
    looks.look(2000, &[(20, 0, 0)], &[]);
    looks.look_at(3000, BTreeMap::new(), &[]);
    assert_eq!(looks.exits(3000), []);
}

#[test]
fn a_master_that_ends_is_no_worker() {
    let mut looks = Looks::new();
    looks.look(1000, &[(20, 0, 0), (21, 1, 0)], &[]);
    let orphans = [20, 21].map(|pid| (Pid(pid), looks.last.processes[&Pid(pid)].clone()));
    looks.look_at(2000, orphans.into(), &[]);
    assert_eq!(looks.exits(2000), []);
}
