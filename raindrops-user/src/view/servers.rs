//! Which process serves which listener: masters, workers, and those that merely hold a descriptor.
//!
//! Separate because it is guesswork that has to be right: titles are claims ([`form`]), parents and
//! shared sockets are evidence ([`tree`]), an accept that the kernel reported is proof. It decides
//! from data only: no file is read and no clock asked here.

mod form;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use self::tree::{Place, Tree};
use super::Server;
use crate::{
    fact::Fact,
    ids::{Inode, Pid},
    snapshot::ProcSnapshot,
};

/// Which program a process runs, as far as its title tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Unicorn,
    Rainbows,
    Puma,
    Nginx,
    Gunicorn,
    Other,
}

impl Kind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unicorn => "unicorn",
            Self::Rainbows => "rainbows",
            Self::Puma => "puma",
            Self::Nginx => "nginx",
            Self::Gunicorn => "gunicorn",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Parent of workers, and does not accept.
    Master,
    Worker,
    /// The only process of its server: a worker without a master.
    Single,
    /// Has the descriptor and does not accept: systemd, a helper that inherited it.
    Holder,
}

impl Role {
    #[must_use]
    pub const fn accepts(self) -> bool {
        matches!(self, Self::Worker | Self::Single)
    }
}

/// A process that has to do with a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub kind: Kind,
    pub role: Role,
    /// The server's own number of this worker.
    pub index: Option<u32>,
    /// Id of the server; `None` for a holder that belongs to none.
    pub server: Option<String>,
    /// Safe to print.
    pub title: String,
}

/// Who has a listener. `None` and unknown: nobody was found, but not every process could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    pub holders: Option<BTreeSet<Pid>>,
    pub workers: Option<BTreeSet<Pid>>,
    pub server: Fact<String>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Servers {
    pub members: BTreeMap<Pid, Member>,
    /// By id.
    pub servers: Vec<Server>,
    pub listeners: BTreeMap<Inode, Ownership>,
}

/// Tells who serves `listeners`. `acceptors`: which processes the kernel saw accept on which
/// listener, empty where nothing reports that.
#[must_use]
pub fn classify(
    snapshot: &ProcSnapshot,
    listeners: &BTreeSet<Inode>,
    acceptors: &BTreeMap<Inode, BTreeSet<Pid>>,
) -> Servers {
    let tree = Tree::new(snapshot, listeners, acceptors);
    let places = tree.places();
    let id = |leader: Pid| {
        let kind = places.get(&leader).map_or(Kind::Other, |place| place.kind);
        format!("{kind}:{leader}")
    };
    let title = |pid: Pid| {
        snapshot
            .processes
            .get(&pid)
            .map_or_else(String::new, |process| {
                form::display(process.title.as_deref(), &process.comm)
            })
    };

    let members = places
        .iter()
        .map(|(&pid, place)| {
            let member = Member {
                kind: place.kind,
                role: place.role,
                index: place.index,
                server: place.leader.map(id),
                title: title(pid),
            };
            (pid, member)
        })
        .collect();

    let mut by_id = BTreeMap::new();
    for (&pid, place) in &places {
        let Some(leader) = place.leader else { continue };
        let server = by_id.entry(id(leader)).or_insert_with(|| {
            let kind = places.get(&leader).map_or(Kind::Other, |place| place.kind);
            let is_master = places
                .get(&leader)
                .is_some_and(|place| place.role == Role::Master);
            Server {
                id: id(leader),
                kind: kind.name().to_owned(),
                master: is_master.then_some(leader.0),
                started_at: None,
                title: title(leader),
                workers: Vec::new(),
                skew: None,
                skew_accepts: None,
                exits: None,
                puma: Fact::Unknown,
            }
        });
        if place.role.accepts() {
            server.workers.push(pid.0);
        }
    }

    let listeners = listeners
        .iter()
        .map(|&inode| (inode, ownership(&tree, &places, inode, id)))
        .collect();
    Servers {
        members,
        servers: by_id.into_values().collect(),
        listeners,
    }
}

fn ownership(
    tree: &Tree<'_>,
    places: &BTreeMap<Pid, Place>,
    inode: Inode,
    id: impl Fn(Pid) -> String,
) -> Ownership {
    let holders = tree.holders(inode);
    let accepted: BTreeSet<Pid> = holders
        .iter()
        .copied()
        .filter(|&pid| tree.accepts_on(pid, inode))
        .collect();
    let serves = |pid: &Pid| places.get(pid).is_some_and(|place| place.role.accepts());
    // puma's workers hold its control socket, and the master answers it.
    let elsewhere = !accepted.is_empty() && !accepted.iter().any(serves);
    let workers: BTreeSet<Pid> = if elsewhere {
        accepted
    } else {
        holders.iter().copied().filter(serves).collect()
    };

    let owners = if elsewhere { &workers } else { &holders };
    let server = owners
        .iter()
        .filter_map(|pid| places.get(pid)?.leader)
        .max_by_key(|&leader| tree.rank(leader, places))
        .map(id);
    let complete = tree.is_complete();
    let unless_unread = |pids: BTreeSet<Pid>| {
        if pids.is_empty() && !complete {
            None
        } else {
            Some(pids)
        }
    };
    Ownership {
        server: match server {
            Some(server) => Fact::Is(server),
            None if complete => Fact::Nothing,
            None => Fact::Unknown,
        },
        workers: unless_unread(workers),
        holders: unless_unread(holders),
    }
}
