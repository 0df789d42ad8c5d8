//! The BPF programs over the life of the daemon: loaded by plan, taught what was there before,
//! kept in step with the listeners.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use super::watched::Watched;
use crate::{
    address::Address,
    causes::with_causes,
    host::Facts,
    ids::{Monotonic, Pid, StartTicks},
    plan::{self, AcceptHook, Off, Turns},
    reconcile::FoundLater,
    snapshot::{BpfSnapshot, ListenerKey, ProcSnapshot, connections::BpfConnections},
    source::{
        bpf::{Bpf, BpfError, Dumps, Host, OpenConnection, object, trim_heap},
        diag::TcpConnection,
    },
};

/// How often rows are compared with the listeners when no listener came or went.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(900);

/// What the operator chose.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    pub enabled: bool,
    pub accept_hook: AcceptHook,
    pub turns: Turns,
    pub max_connections: u32,
    pub verbose: bool,
}

/// The programs, or why there are none.
#[derive(Debug)]
pub enum Programs {
    On(Box<Running>),
    Off(Off),
}

/// Programs that count.
#[derive(Debug)]
pub struct Running {
    bpf: Bpf,
    /// Connections that are older than the programs were all learnt.
    pub seeded_completely: bool,
    /// Unix listeners of which an accept may be missing: of a connection that was queued before the
    /// programs, or, with fexit, by a process that was in `accept()` already.
    uncertain: BTreeSet<ListenerKey>,
    followed: Vec<ListenerKey>,
    followed_at: Monotonic,
}

impl Programs {
    /// Loads and attaches them and teaches them what was there before. Never fails: the view then
    /// has fewer groups, and the reason.
    pub fn start(facts: &Facts, choice: Choice, watched: &mut Watched) -> Self {
        let plan = match plan::bpf(facts, choice.enabled, choice.accept_hook, choice.turns) {
            Ok(plan) => plan,
            Err(off) => return Self::Off(off),
        };
        let started = facts
            .types
            .as_ref()
            .map_err(ToString::to_string)
            .and_then(|types| {
                Running::start(&plan, types, facts.cpus, choice, watched)
                    .map_err(|error| with_causes(&error))
            });
        trim_heap();
        match started {
            Ok(running) => Self::On(Box::new(running)),
            Err(reason) => {
                log::error!("continuing without BPF: {reason}");
                let grant = "look at the reason, or start with --no-bpf to say that it is known";
                Self::Off(Off {
                    reason,
                    grant: Some(grant.to_owned()),
                })
            }
        }
    }
}

impl Programs {
    /// See [`Bpf::activity`].
    #[must_use]
    pub fn activity(&self) -> Option<u64> {
        match self {
            Self::On(running) => running.bpf.activity(),
            Self::Off(_) => None,
        }
    }

    /// See [`Bpf::found_later`].
    #[must_use]
    pub fn found_later(&self) -> FoundLater {
        match self {
            Self::On(running) => running.bpf.found_later(),
            Self::Off(_) => FoundLater::default(),
        }
    }

    /// Accepted connections of some listeners, at most `most`.
    ///
    /// # Errors
    /// Why there is no such list.
    pub fn connections(
        &mut self,
        listeners: &[ListenerKey],
        most: usize,
    ) -> Result<BpfConnections, Off> {
        let running = match self {
            Self::On(running) => running,
            Self::Off(off) => return Err(off.clone()),
        };
        let listed = running.bpf.connections(listeners, most);
        let off = |reason| Off {
            reason,
            grant: None,
        };
        match (listed, &running.hooks().turns) {
            (Ok(Some(listed)), _) => Ok(listed),
            (Ok(None), Err(why)) => Err(why.clone()),
            (Ok(None), Ok(_)) => Err(off("turns are not followed".to_owned())),
            (Err(error), _) => Err(off(with_causes(&error))),
        }
    }
}

impl Running {
    fn start(
        plan: &plan::BpfPlan,
        types: &crate::host::KernelTypes,
        cpus: usize,
        choice: Choice,
        watched: &mut Watched,
    ) -> Result<Self, StartError> {
        let (listeners, listed) = (watched.listeners(), watched.listed());
        let host = Host {
            connections: choice.max_connections,
            tcp_sockets: tcp_sockets(),
            listeners: u32::try_from(listeners.len()).unwrap_or(u32::MAX),
            cpus,
            logs: choice.verbose,
            turns: plan.turns.is_ok(),
        };
        let object = object().map_err(StartError::Object)?;
        let netns = watched.only();
        let mut bpf = Bpf::load(&object, plan, types, netns, host)?;
        let now = Monotonic::now();
        bpf.follow(
            Dumps {
                listeners: &listeners,
                listed: &listed,
            },
            now,
        )?;
        bpf.begin_seeding()?;
        bpf.attach(plan)?;
        // Listeners that came between the first reading and the attachment.
        watched.sample_all();
        let (listeners, listed) = (watched.listeners(), watched.listed());
        bpf.follow(
            Dumps {
                listeners: &listeners,
                listed: &listed,
            },
            Monotonic::now(),
        )?;
        let mut room = true;
        let complete = watched.open_connections(|connection| {
            room &= bpf.seed(&open_connection(connection));
        });
        let seeded_completely = complete && room;
        bpf.finish_seeding(seeded_completely)?;
        let uncertain = listeners
            .iter()
            .filter(|(_, socket)| matches!(socket.address, Address::Unix(_)))
            .filter(|(_, socket)| bpf.hooks().accept == "fexit" || socket.queued != Some(0))
            .map(|(key, _)| *key)
            .collect();
        Ok(Self {
            bpf,
            seeded_completely,
            uncertain,
            followed: Vec::new(),
            followed_at: now,
        })
    }

    /// Which hooks are attached.
    #[must_use]
    pub const fn hooks(&self) -> &crate::source::bpf::Hooks {
        self.bpf.hooks()
    }

    /// What has been counted; before that, rows are made for new listeners. `is_read`: somebody reads
    /// the views.
    ///
    /// # Errors
    /// When a map cannot be changed.
    pub fn sample(
        &mut self,
        dumps: Dumps<'_>,
        proc: Option<&ProcSnapshot>,
        is_read: bool,
    ) -> Result<Option<BpfSnapshot>, BpfError> {
        let now = Monotonic::now();
        let is_due = now.since(self.followed_at) >= FOLLOW_INTERVAL;
        if is_due || !self.followed.iter().eq(dumps.listeners.keys()) {
            self.bpf.follow(dumps, now)?;
            self.followed = dumps.listeners.keys().copied().collect();
            self.followed_at = now;
        }
        if is_due {
            self.bpf.flush_log();
            self.bpf.ask_kernel();
            self.bpf.end_seeding()?;
            if let Some(proc) = proc {
                self.bpf
                    .forget_workers(|pid, started| is_gone(proc, pid, started))?;
            }
        }
        self.bpf.reconcile(now);
        let living = |pid| proc?.processes.get(&pid)?.threads;
        self.bpf.look_over_turns(is_read, living);
        let mut snapshot = self.bpf.snapshot(dumps.listeners);
        for (key, counts) in &mut snapshot.listeners {
            counts.complete &= !self.uncertain.contains(key);
        }
        Ok(Some(snapshot))
    }
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot read the BPF object: {0}")]
    Object(#[source] std::io::Error),
    #[error(transparent)]
    Bpf(#[from] BpfError),
}

/// Whether a process has ended: it is not there, or its pid has gone to another. One that is there
/// but not among those looked at yet has not.
fn is_gone(proc: &ProcSnapshot, pid: Pid, started: StartTicks) -> bool {
    match proc.processes.get(&pid) {
        Some(process) => process.started != started,
        None => !Path::new("/proc").join(pid.to_string()).exists(),
    }
}

fn open_connection(connection: &TcpConnection) -> OpenConnection {
    OpenConnection {
        netns: connection.netns,
        cookie: connection.cookie,
        local: connection.local,
        remote: connection.remote,
        accepted: connection.inode.is_some(),
        half_closed: connection.state == crate::source::diag::TcpState::CloseWait,
    }
}

/// TCP sockets of all network namespaces, from `/proc/net/sockstat`.
fn tcp_sockets() -> u32 {
    fs::read_to_string("/proc/thread-self/net/sockstat")
        .ok()
        .and_then(|text| allocated(&text))
        .unwrap_or(0)
}

/// `inuse` is of the namespace, `alloc` of the host; TCP over IPv6 is in it.
fn allocated(sockstat: &str) -> Option<u32> {
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "alloc");
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::allocated;

    #[test]
    fn sockets_of_the_host_are_read() {
        let text =
            "sockets: used 9\nTCP: inuse 1 orphan 0 tw 1 alloc 4021 mem 1\nUDP: inuse 1 mem 0\n";
        assert_eq!(allocated(text), Some(4021));
        assert_eq!(allocated(""), None);
    }
}
