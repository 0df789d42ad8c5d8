//! Which workers of which server have ended lately: a crash loop shows here.
//!
//! Told from looks at the processes, which are a second apart, four while nobody reads. Who lives
//! shorter may never be seen, so there are at least as many ends as are counted; a server that
//! starts a worker again at once loses one for each look and number at least. How long one lived is
//! told from above, and is shortened to the start of who took its number: a server gives a number
//! away again only when its worker has ended. It knows no clock.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    ids::{Monotonic, Pid, StartTicks},
    snapshot::{Ended, ProcSnapshot},
    view::{Exits, durations::millis, servers::Servers},
};

const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct ExitLedger {
    /// The first look.
    since: Option<Monotonic>,
    /// Workers at the last look.
    workers: BTreeMap<(Pid, StartTicks), Seat<String>>,
    /// By server.
    exits: BTreeMap<String, Vec<Exit>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat<S> {
    server: S,
    /// The server's own number of the worker.
    index: Option<u32>,
}

impl Seat<String> {
    fn as_ref(&self) -> Seat<&str> {
        Seat {
            server: &self.server,
            index: self.index,
        }
    }
}

impl Seat<&str> {
    fn to_owned(self) -> Seat<String> {
        Seat {
            server: self.server.to_owned(),
            index: self.index,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Exit {
    noticed: Monotonic,
    lived: Duration,
}

impl ExitLedger {
    /// Takes in what a look found. `servers`: as told from it.
    pub fn note(&mut self, proc: &ProcSnapshot, servers: &Servers) {
        self.since.get_or_insert(proc.taken);
        for ended in &proc.ended {
            if let Some(seat) = self.workers.remove(&(ended.pid, ended.started)) {
                let exit = Exit {
                    noticed: ended.noticed,
                    lived: lived(ended, seat.as_ref(), proc, servers),
                };
                self.exits.entry(seat.server).or_default().push(exit);
            }
        }
        // Who is not found any more and has not ended has left its listeners.
        self.workers.retain(|(pid, started), _| {
            let found = proc.processes.get(pid);
            found.is_some_and(|process| process.started == *started)
        });
        for (pid, started, seat) in seats(proc, servers) {
            let known = self.workers.get(&(pid, started));
            if known.map(Seat::as_ref) != Some(seat) {
                self.workers.insert((pid, started), seat.to_owned());
            }
        }
        self.exits.retain(|server, exits| {
            exits.retain(|exit| proc.taken.since(exit.noticed) < WINDOW);
            !exits.is_empty() && servers.servers.iter().any(|it| it.id == *server)
        });
    }

    /// Of servers that have lost a worker in the last minute.
    pub fn by_server(&self, now: Monotonic) -> BTreeMap<String, Exits> {
        let watched = self.since.map_or(Duration::ZERO, |since| now.since(since));
        let over = WINDOW.min(watched);
        let recent = |exits: &Vec<Exit>| {
            let exits = exits.iter();
            let recent = exits.filter(|exit| now.since(exit.noticed) < WINDOW);
            let mut lives: Vec<Duration> = recent.map(|exit| exit.lived).collect();
            lives.sort_unstable();
            Some(Exits {
                count: u32::try_from(lives.len()).unwrap_or(u32::MAX),
                over_ms: millis(over),
                median_life_ms: millis(*lives.get(lives.len() / 2)?),
            })
        };
        self.exits
            .iter()
            .filter_map(|(server, exits)| Some((server.clone(), recent(exits)?)))
            .collect()
    }
}

/// Workers, and where they serve.
fn seats<'a>(
    proc: &'a ProcSnapshot,
    servers: &'a Servers,
) -> impl Iterator<Item = (Pid, StartTicks, Seat<&'a str>)> {
    let workers = servers.members.iter();
    let workers = workers.filter(|(_, member)| member.role.accepts());
    workers.filter_map(|(pid, member)| {
        let seat = Seat {
            server: member.server.as_deref()?,
            index: member.index,
        };
        Some((*pid, proc.processes.get(pid)?.started, seat))
    })
}

fn lived(ended: &Ended, seat: Seat<&str>, proc: &ProcSnapshot, servers: &Servers) -> Duration {
    let heirs = seats(proc, servers).filter(|(_, started, heir)| {
        heir.index.is_some() && *heir == seat && *started > ended.started
    });
    let start = heirs.map(|(_, started, _)| started).min();
    start.map_or(ended.lived, |start| {
        let between = proc.start_after_boot(start) - proc.start_after_boot(ended.started);
        between.min(ended.lived)
    })
}

#[cfg(test)]
mod tests;
