//! Whose memory is looked at for slabs: every process that has to do with a listener.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ids::Pid,
    snapshot::{ProcSnapshot, slabs::Suspect},
    view::servers::Servers,
};

/// Made anew only when what they are made of has changed.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    of: Option<Arc<ProcSnapshot>>,
    latest: Arc<BTreeMap<Pid, Suspect>>,
}

impl Suspects {
    pub fn of(
        &mut self,
        proc: &Arc<ProcSnapshot>,
        servers: &Servers,
    ) -> &Arc<BTreeMap<Pid, Suspect>> {
        let is_new = self.of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, proc));
        if is_new {
            self.latest = Arc::new(suspects(proc, servers));
            self.of = Some(Arc::clone(proc));
        }
        &self.latest
    }
}

pub(super) fn suspects(proc: &ProcSnapshot, servers: &Servers) -> BTreeMap<Pid, Suspect> {
    servers
        .members
        .iter()
        .filter_map(|(pid, member)| {
            let process = proc.processes.get(pid)?;
            let suspect = Suspect {
                started: process.started,
                ns_pid: process.ns_pid,
                parent: process.parent,
                member: member.clone(),
            };
            Some((*pid, suspect))
        })
        .collect()
}
