//! Whose a control server is. Apart because it is told from three things, each of which can be
//! missing: who made its socket, who has a listener at its address, which workers it names.

use std::collections::BTreeSet;

use super::{Inputs, Row};
use crate::{
    address::{Address, UnixName},
    ids::Pid,
    snapshot::{
        ProcSnapshot,
        puma::{ControlAnswer, PumaStats},
    },
    view::{
        Server,
        servers::{Kind, Servers},
    },
};

#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub servers: Option<&'a Servers>,
    pub proc: Option<&'a ProcSnapshot>,
    pub listeners: Vec<Held<'a>>,
}

/// A listener, and the id of its server where that is known.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub address: &'a Address,
    /// In the network namespace that control servers are asked from.
    pub is_own: bool,
    pub server: Option<&'a String>,
}

impl<'a> Evidence<'a> {
    pub fn of(inputs: &Inputs<'a>, rows: &[Row<'a>]) -> Self {
        let held = |row: &Row<'a>| Held {
            address: &row.socket.address,
            is_own: row.namespace.is_own,
            server: row.ownership.and_then(|owners| owners.server.value()),
        };
        Self {
            servers: inputs.servers,
            proc: inputs.proc,
            listeners: rows.iter().map(held).collect(),
        }
    }

    /// The puma that gave this answer at that address; `None` where it is not seen, or could be
    /// several.
    pub fn owner(&self, address: &Address, answer: &ControlAnswer) -> Option<&'a Server> {
        answer
            .peer
            .and_then(|peer| self.of_process(peer))
            .or_else(|| self.at(address))
            .or_else(|| self.with_workers(answer))
    }

    /// Our pid of a process that a server names. Puma knows the pids of its own pid namespace.
    pub fn process(&self, server: &Server, named: Pid) -> Option<Pid> {
        let own = processes(server).find(|pid| self.name(*pid) == Some(named));
        own.or_else(|| {
            let leader = processes(server).next()?;
            let shares_our_namespace = self.name(leader)? == leader;
            shares_our_namespace.then_some(named)
        })
    }

    fn pumas(&self) -> impl Iterator<Item = &'a Server> {
        let servers = self.servers.into_iter().flat_map(|it| &it.servers);
        servers.filter(|server| server.kind == Kind::Puma.name())
    }

    fn of_process(&self, pid: Pid) -> Option<&'a Server> {
        let id = self.servers?.members.get(&pid)?.server.as_ref()?;
        self.pumas().find(|server| server.id == *id)
    }

    /// Of the listener that a connection to this address gets to.
    fn at(&self, address: &Address) -> Option<&'a Server> {
        let there = |address: &Address| -> Vec<&Held<'a>> {
            let listeners = self.listeners.iter();
            let there = listeners.filter(|it| it.address == address && it.is_reached());
            there.collect()
        };
        let mut held = there(address);
        for wildcard in wildcards(address) {
            if held.is_empty() {
                held = there(&wildcard);
            }
        }
        let is_owner = |server: &&Server| held.iter().any(|it| it.server == Some(&server.id));
        only(self.pumas().filter(is_owner))
    }

    /// All of them, because containers of one image often have the same pids.
    fn with_workers(&self, answer: &ControlAnswer) -> Option<&'a Server> {
        let PumaStats::Cluster(cluster) = &answer.stats else {
            return None;
        };
        let named: BTreeSet<Pid> = cluster.workers.iter().filter_map(|it| it.pid).collect();
        let has_all = |server: &&Server| {
            let names: BTreeSet<Pid> = processes(server).filter_map(|pid| self.name(pid)).collect();
            !named.is_empty() && named.is_subset(&names)
        };
        only(self.pumas().filter(has_all))
    }

    /// What a process calls itself.
    fn name(&self, pid: Pid) -> Option<Pid> {
        let process = self.proc?.processes.get(&pid)?;
        Some(process.ns_pid.unwrap_or(pid))
    }
}

impl Held<'_> {
    /// A path leads to a socket from any network namespace, other addresses do not.
    fn is_reached(&self) -> bool {
        self.is_own || matches!(self.address, Address::Unix(UnixName::Path(_)))
    }
}

/// Its master first.
fn processes(server: &Server) -> impl Iterator<Item = Pid> {
    let pids = server.master.iter().chain(&server.workers);
    pids.copied().map(Pid)
}

/// Addresses whose listener answers at this one where it has none of its own, in the kernel's
/// order.
fn wildcards(address: &Address) -> Vec<Address> {
    let Address::Tcp { ip, port } = *address else {
        return Vec::new();
    };
    let v4 = Address::Tcp {
        ip: [0, 0, 0, 0].into(),
        port,
    };
    let v6 = Address::Tcp {
        ip: [0; 16].into(),
        port,
    };
    if ip.is_ipv4() { vec![v4, v6] } else { vec![v6] }
}

fn only<'a>(mut candidates: impl Iterator<Item = &'a Server>) -> Option<&'a Server> {
    let first = candidates.next();
    first.filter(|_| candidates.next().is_none())
}
