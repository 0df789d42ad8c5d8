//! Who serves what, told anew only when what tells it has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    ids::{Inode, Pid},
    snapshot::{BpfSnapshot, ProcSnapshot},
    view::servers::{Servers, classify},
};

/// What servers are told from.
pub(super) struct Evidence {
    pub processes: Arc<ProcSnapshot>,
    pub listeners: BTreeSet<Inode>,
    pub acceptors: BTreeMap<Inode, BTreeSet<Pid>>,
}

#[derive(Default)]
pub(super) struct Ownership(Option<(Evidence, Servers)>);

impl Ownership {
    pub fn tell(&mut self, evidence: Evidence) {
        if let Some((before, _)) = &self.0
            && before.tells_the_same(&evidence)
        {
            return;
        }
        let Evidence {
            processes,
            listeners,
            acceptors,
        } = &evidence;
        let servers = classify(processes, listeners, acceptors);
        self.0 = Some((evidence, servers));
    }

    pub fn servers(&self) -> Option<&Servers> {
        self.0.as_ref().map(|(_, servers)| servers)
    }
}

impl Evidence {
    fn tells_the_same(&self, other: &Self) -> bool {
        let Self {
            processes,
            listeners,
            acceptors,
        } = self;
        (Arc::ptr_eq(processes, &other.processes) || processes.tells_the_same(&other.processes))
            && *listeners == other.listeners
            && *acceptors == other.acceptors
    }
}

/// Which processes the programs saw accepting on each listener.
pub(super) fn acceptors(bpf: Option<&BpfSnapshot>) -> BTreeMap<Inode, BTreeSet<Pid>> {
    let mut acceptors: BTreeMap<Inode, BTreeSet<Pid>> = BTreeMap::new();
    for (key, counts) in bpf.into_iter().flat_map(|bpf| &bpf.workers) {
        if counts.accepts > 0 {
            acceptors
                .entry(key.listener.inode)
                .or_default()
                .insert(key.pid);
        }
    }
    acceptors
}
