//! Processes without a known title: the shape of the tree has to do.
//!
//! Apart because nothing here relies on what a process calls itself, save systemd.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, Tree};
use crate::{
    ids::{Inode, Pid},
    view::servers::{Kind, Role},
};

impl Tree<'_> {
    /// Places what has no known form, once the known servers are placed.
    pub(super) fn place_others(&self, places: &mut BTreeMap<Pid, Place>) {
        let claimed: BTreeSet<Inode> = places
            .iter()
            // Only a title says that a worker without a master is one.
            .filter(|(_, place)| place.role != Role::Holder && place.leader.is_some())
            .filter_map(|(pid, _)| self.held.get(pid)?.as_ref())
            .flatten()
            .copied()
            .collect();
        // A listener that a known server works on has its workers: whoever else holds it inherited
        // it or passed it on.
        let (bystanders, serving): (BTreeSet<Pid>, BTreeSet<Pid>) = self
            .held
            .keys()
            .filter(|pid| !self.forms.contains_key(pid) && self.is_involved(**pid))
            .partition(|&&pid| {
                self.is_service_manager(pid)
                    || self
                        .held
                        .get(&pid)
                        .and_then(Option::as_ref)
                        .is_none_or(|held| !held.is_disjoint(&claimed))
            });
        for pid in bystanders {
            places.insert(pid, other(Role::Holder, None));
        }
        let shape = Shape {
            tree: self,
            serving: &serving,
        };
        for &pid in &serving {
            places.insert(pid, shape.place(pid));
        }
    }

    /// systemd holds the sockets of the services that it starts. In a container pid 1 may well be
    /// the server, so the number alone says nothing.
    fn is_service_manager(&self, pid: Pid) -> bool {
        self.process(pid).is_some_and(|process| {
            process.comm == b"systemd" || (pid == Pid(1) && process.comm == b"init")
        })
    }
}

const fn other(role: Role, leader: Option<Pid>) -> Place {
    Place {
        kind: Kind::Other,
        role,
        index: None,
        leader,
    }
}

struct Shape<'a> {
    tree: &'a Tree<'a>,
    serving: &'a BTreeSet<Pid>,
}

impl Shape<'_> {
    fn place(&self, pid: Pid) -> Place {
        if self.is_master(pid) {
            return other(Role::Master, Some(pid));
        }
        match self.parent(pid) {
            Some(parent) if self.is_master(parent) => other(Role::Worker, Some(parent)),
            // Who accepts here is found when holders are adopted.
            Some(_) => other(Role::Holder, None),
            None if self.children(pid).next().is_some() => other(Role::Single, Some(pid)),
            None => other(Role::Worker, None),
        }
    }

    fn is_master(&self, pid: Pid) -> bool {
        self.children(pid).next().is_some()
            && !self.outworks_its_children(pid)
            && !self.is_peer(pid)
    }

    /// It accepts, and its children have no listener where only they do.
    fn outworks_its_children(&self, pid: Pid) -> bool {
        let only_child = |child: Pid| {
            self.tree
                .shared(pid, child)
                .into_iter()
                .flatten()
                .any(|inode| {
                    self.tree.accepts_on(child, inode) && !self.tree.accepts_on(pid, inode)
                })
        };
        self.tree.accepting.contains(&pid) && !self.children(pid).any(only_child)
    }

    /// Its siblings are workers, so it is one that started a helper.
    fn is_peer(&self, pid: Pid) -> bool {
        self.parent(pid).is_some_and(|parent| {
            self.children(parent)
                .any(|sibling| sibling != pid && self.children(sibling).next().is_none())
        })
    }

    fn parent(&self, pid: Pid) -> Option<Pid> {
        self.tree
            .parent(pid)
            .filter(|parent| self.serving.contains(parent) && self.tree.shares(*parent, pid))
    }

    fn children(&self, pid: Pid) -> impl Iterator<Item = Pid> {
        self.tree
            .children(pid)
            .filter(move |child| self.serving.contains(child) && self.tree.shares(pid, *child))
    }
}
