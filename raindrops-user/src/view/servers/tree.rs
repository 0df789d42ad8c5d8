//! Roles from evidence: who is whose parent, who shares whose sockets, who was seen to accept.
//!
//! Apart from the forms of titles, which are only claims. Known servers first; what is left is
//! told apart by the shape of the tree alone ([`others`]).

mod others;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Kind, Role,
    form::{Form, Part},
};
use crate::{
    ids::{Inode, Pid, StartTicks},
    snapshot::{ProcSnapshot, Process},
};

/// Generations between a process and the server that it belongs to.
const GENERATIONS: usize = 8;

/// What a process is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub kind: Kind,
    pub role: Role,
    pub index: Option<u32>,
    /// The master of its server, or the oldest process of a server without one.
    pub leader: Option<Pid>,
}

/// Processes with what their relatives tell about them.
pub(super) struct Tree<'a> {
    snapshot: &'a ProcSnapshot,
    acceptors: &'a BTreeMap<Inode, BTreeSet<Pid>>,
    forms: BTreeMap<Pid, Form>,
    children: BTreeMap<Pid, Vec<Pid>>,
    /// Those of the listeners in question; `None` when its descriptors could not be read.
    held: BTreeMap<Pid, Option<BTreeSet<Inode>>>,
    accepting: BTreeSet<Pid>,
}

impl<'a> Tree<'a> {
    pub fn new(
        snapshot: &'a ProcSnapshot,
        listeners: &BTreeSet<Inode>,
        acceptors: &'a BTreeMap<Inode, BTreeSet<Pid>>,
    ) -> Self {
        let mut tree = Self {
            snapshot,
            acceptors,
            forms: BTreeMap::new(),
            children: BTreeMap::new(),
            held: BTreeMap::new(),
            accepting: BTreeSet::new(),
        };
        for (&pid, process) in &snapshot.processes {
            let form = process.title.as_deref().and_then(Form::of);
            tree.forms.extend(form.map(|form| (pid, form)));
            tree.children.entry(process.parent).or_default().push(pid);
            let held = process.listeners.as_ref();
            let held = held.map(|held| held.intersection(listeners).copied().collect());
            tree.held.insert(pid, held);
        }
        for &inode in listeners {
            for &pid in acceptors.get(&inode).into_iter().flatten() {
                if tree.accepts_on(pid, inode) {
                    tree.accepting.insert(pid);
                }
            }
        }
        tree
    }

    /// Seen to accept there, and still holding it.
    pub fn accepts_on(&self, pid: Pid, inode: Inode) -> bool {
        self.acceptors
            .get(&inode)
            .is_some_and(|pids| pids.contains(&pid))
            && self
                .held
                .get(&pid)
                .is_some_and(|held| held.as_ref().is_none_or(|held| held.contains(&inode)))
    }

    pub fn holders(&self, inode: Inode) -> BTreeSet<Pid> {
        self.held
            .iter()
            .filter(|(pid, held)| match held {
                Some(held) => held.contains(&inode),
                None => self.accepts_on(**pid, inode),
            })
            .map(|(&pid, _)| pid)
            .collect()
    }

    /// Nothing was kept from us: who was not found does not exist.
    pub fn is_complete(&self) -> bool {
        self.snapshot.unreadable == 0
            && self.snapshot.quarantined.is_empty()
            && self.held.values().all(Option::is_some)
    }

    /// Which of several servers a listener belongs to: the greatest. In an upgrade the newest
    /// master wins over the ones that it replaces.
    pub fn rank(&self, leader: Pid, places: &BTreeMap<Pid, Place>) -> impl Ord + use<> {
        let place = places.get(&leader);
        let known = place.is_some_and(|place| place.kind != Kind::Other);
        let master = place.is_some_and(|place| place.role == Role::Master);
        let says_old = self
            .forms
            .get(&leader)
            .is_some_and(|form| form.part == Part::Master { old: true });
        let has_heir = self.children(leader).any(|child| {
            places.get(&child).is_some_and(|heir| {
                heir.role == Role::Master && place.is_some_and(|place| place.kind == heir.kind)
            })
        });
        (master, known, !says_old && !has_heir, self.age(leader))
    }

    /// Every process that has to do with a listener.
    pub fn places(&self) -> BTreeMap<Pid, Place> {
        let mut places = BTreeMap::new();
        for (&pid, &form) in &self.forms {
            places.insert(pid, self.place(pid, form));
        }
        self.place_others(&mut places);
        self.group_orphans(&mut places);
        self.adopt(&mut places);

        let serving: BTreeSet<Pid> = places
            .iter()
            .filter(|&(&pid, _)| self.is_involved(pid))
            .filter_map(|(_, place)| place.leader)
            .collect();
        places.retain(|&pid, place| match place.leader {
            Some(leader) => serving.contains(&leader),
            None => self.is_involved(pid),
        });
        places
    }

    fn place(&self, pid: Pid, form: Form) -> Place {
        let place = |role, leader| Place {
            kind: form.kind,
            role,
            index: match form.part {
                Part::Worker { index } => index,
                _ => None,
            },
            leader,
        };
        if self.is_master(pid) {
            return place(Role::Master, Some(pid));
        }
        if let Some(master) = self.master_of(pid, GENERATIONS) {
            return place(Role::Worker, Some(master));
        }
        let of_its_kind = self
            .parent_form(pid)
            .is_some_and(|parent| parent.kind == form.kind);
        match (form.part, form.kind) {
            // Forked by a server and not yet, or never, anything else than that.
            _ if of_its_kind => place(Role::Holder, None),
            (Part::Helper, _) | (Part::Command, Kind::Unicorn | Kind::Rainbows) => {
                place(Role::Holder, None)
            }
            (Part::Master { .. } | Part::Command, _) => place(Role::Single, Some(pid)),
            // Its leader is found among its likes.
            (Part::Worker { .. }, _) => place(Role::Worker, None),
        }
    }

    fn is_master(&self, pid: Pid) -> bool {
        let Some(&form) = self.forms.get(&pid) else {
            return false;
        };
        match form.part {
            Part::Worker { .. } | Part::Helper => false,
            Part::Command if form.kind == Kind::Gunicorn => self.is_untitled_master(pid, form),
            _ if self.has_worker(pid, form.kind) => true,
            // A fork bears its parent's title until it gives itself another. So does a worker's
            // helper, but for ever.
            Part::Master { .. } => form.kind != Kind::Puma && self.parent_form(pid) != Some(form),
            Part::Command => false,
        }
    }

    /// gunicorn without setproctitle: all its processes look alike. One in the middle is the new
    /// master of an upgrade, unless it accepts.
    fn is_untitled_master(&self, pid: Pid, form: Form) -> bool {
        let like = |other: Pid| self.forms.get(&other) == Some(&form) && self.may_share(pid, other);
        let has_child = self.children(pid).any(like);
        let has_parent = self.parent(pid).is_some_and(like);
        !self.accepting.contains(&pid) && (has_child || !has_parent)
    }

    fn has_worker(&self, pid: Pid, kind: Kind) -> bool {
        self.children(pid).any(|child| {
            self.forms
                .get(&child)
                .is_some_and(|form| form.kind == kind && matches!(form.part, Part::Worker { .. }))
        })
    }

    fn master_of(&self, pid: Pid, generations: usize) -> Option<Pid> {
        let form = self.forms.get(&pid)?;
        let parent = self.parent(pid)?;
        let parent_form = self
            .forms
            .get(&parent)
            .filter(|parent| parent.kind == form.kind)?;
        let is_worker = match form.part {
            Part::Worker { .. } => true,
            Part::Command => form.kind == Kind::Gunicorn && self.may_share(pid, parent),
            Part::Master { .. } | Part::Helper => false,
        };
        if is_worker && self.is_master(parent) {
            return Some(parent);
        }
        // With puma's fork_worker, worker 0 makes the others.
        let first = Part::Worker { index: Some(0) };
        if form.kind == Kind::Puma && is_worker && form.part != first && parent_form.part == first {
            return self.master_of(parent, generations.checked_sub(1)?);
        }
        None
    }

    /// Workers whose master is gone, and others that are left: those with one parent and a common
    /// listener are one server.
    fn group_orphans(&self, places: &mut BTreeMap<Pid, Place>) {
        let mut orphans: Vec<(Pid, Kind)> = places
            .iter()
            .filter(|(_, place)| place.role == Role::Worker && place.leader.is_none())
            .map(|(&pid, place)| (pid, place.kind))
            .collect();
        orphans.sort_by_key(|&(pid, _)| self.age(pid));
        let mut groups: Vec<(Kind, Vec<Pid>)> = Vec::new();
        for (pid, kind) in orphans {
            let likes = groups.iter_mut().find(|(other, members)| {
                *other == kind
                    && members.iter().any(|&member| {
                        self.parent_pid(member) == self.parent_pid(pid) && self.shares(member, pid)
                    })
            });
            match likes {
                Some((_, members)) => members.push(pid),
                None => groups.push((kind, vec![pid])),
            }
        }
        for (_, members) in groups {
            for pid in &members {
                if let Some(place) = places.get_mut(pid) {
                    place.leader = members.first().copied();
                    if members.len() == 1 {
                        place.role = Role::Single;
                    }
                }
            }
        }
    }

    /// A holder that was seen to accept is a worker, of the server that it descends from.
    fn adopt(&self, places: &mut BTreeMap<Pid, Place>) {
        let holders: Vec<Pid> = places
            .iter()
            .filter(|(_, place)| place.role == Role::Holder)
            .map(|(&pid, _)| pid)
            .collect();
        for pid in holders {
            let leader = std::iter::successors(self.parent(pid), |&pid| self.parent(pid))
                .take(GENERATIONS)
                .filter(|&ancestor| self.may_share(ancestor, pid))
                .find_map(|ancestor| places.get(&ancestor)?.leader);
            let accepts = self.accepting.contains(&pid);
            if let Some(place) = places.get_mut(&pid) {
                (place.role, place.leader) = match leader {
                    Some(leader) if accepts => (Role::Worker, Some(leader)),
                    None if accepts => (Role::Single, Some(pid)),
                    leader => (Role::Holder, leader),
                };
            }
        }
    }

    fn is_involved(&self, pid: Pid) -> bool {
        self.accepting.contains(&pid)
            || self
                .held
                .get(&pid)
                .and_then(Option::as_ref)
                .is_some_and(|held| !held.is_empty())
    }

    fn process(&self, pid: Pid) -> Option<&'a Process> {
        self.snapshot.processes.get(&pid)
    }

    fn age(&self, pid: Pid) -> (Option<StartTicks>, Pid) {
        (self.process(pid).map(|process| process.started), pid)
    }

    fn parent_pid(&self, pid: Pid) -> Option<Pid> {
        self.process(pid).map(|process| process.parent)
    }

    /// The parent, where it is in the snapshot.
    fn parent(&self, pid: Pid) -> Option<Pid> {
        self.parent_pid(pid)
            .filter(|&parent| self.process(parent).is_some())
    }

    fn parent_form(&self, pid: Pid) -> Option<Form> {
        self.forms.get(&self.parent_pid(pid)?).copied()
    }

    fn children(&self, pid: Pid) -> impl Iterator<Item = Pid> {
        self.children.get(&pid).into_iter().flatten().copied()
    }

    fn shared(&self, one: Pid, other: Pid) -> Option<impl Iterator<Item = Inode>> {
        let one = self.held.get(&one)?.as_ref()?;
        let other = self.held.get(&other)?.as_ref()?;
        Some(one.intersection(other).copied())
    }

    fn shares(&self, one: Pid, other: Pid) -> bool {
        self.shared(one, other)
            .is_some_and(|mut shared| shared.next().is_some())
    }

    /// Also where the descriptors of either could not be read.
    fn may_share(&self, one: Pid, other: Pid) -> bool {
        self.shared(one, other)
            .is_none_or(|mut shared| shared.next().is_some())
    }
}
