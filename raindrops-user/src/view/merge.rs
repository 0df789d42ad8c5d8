//! Makes one view of what the sources saw. Pure: no I/O, no clock.
//!
//! sock_diag says which listeners exist and how full they are; the others add to that. A group
//! whose source is off is absent.

mod connections;
mod gaps;
mod groups;
mod places;
mod puma;
mod slabs;
#[cfg(test)]
mod tests;
mod turns;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

pub use self::slabs::slabs;
use self::{connections::connections, groups::groups, turns::Processes, workers::workers};
use super::{
    Exits, Gap, Host, LimitFrom, Listener, Netns, Queue, Recent, SCHEMA, Server, Skew, Source,
    View,
    durations::{millis, recent},
    recent::{Marks, WINDOW},
    servers::{Ownership, Servers},
    skew::skew,
};
use crate::{
    address::Address,
    fact::Fact,
    ids::{Monotonic, NetnsId, Pid},
    queue::{Ledger, QueueHistory},
    snapshot::{
        BpfSnapshot, ListenSocket, ListenerCounts, ListenerKey, ProcSnapshot, QueueSnapshot,
        QueueSource, UnixActiveSnapshot, puma::PumaSnapshot, slabs::SlabSnapshot,
    },
};

/// Everything that a view is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub host: &'a Host,
    pub sources: Vec<Source>,
    pub gaps: Vec<Gap>,
    pub now: Monotonic,
    pub wall: SystemTime,
    /// Since when totals count.
    pub since: SystemTime,
    pub namespaces: &'a [Namespace<'a>],
    /// `None` when there was only one reading: then there are no peaks and no overflows.
    pub ledger: Option<&'a Ledger>,
    pub bpf: Option<&'a BpfSnapshot>,
    pub marks: &'a Marks,
    pub proc: Option<&'a ProcSnapshot>,
    /// Who serves what, as [`super::servers::classify`] tells from `proc`.
    pub servers: Option<&'a Servers>,
    /// `None` where no control server of puma is configured.
    pub puma: Option<&'a PumaSnapshot>,
    /// Workers that ended lately, by server.
    pub exits: &'a BTreeMap<String, Exits>,
    /// `None` before the first look at them.
    pub slabs: Option<&'a SlabSnapshot>,
}

/// The queues of one network namespace.
#[derive(Clone, Debug)]
pub struct Namespace<'a> {
    pub netns: NetnsId,
    pub name: Fact<String>,
    /// The daemon's own, which is read at every tick; others are read less often.
    pub is_own: bool,
    pub tcp: Option<&'a QueueSnapshot>,
    pub unix: Option<&'a QueueSnapshot>,
    pub unix_active: Option<&'a UnixActiveSnapshot>,
    pub somaxconn: Option<u32>,
}

/// A listener with what each source says of it.
struct Row<'a> {
    key: ListenerKey,
    namespace: &'a Namespace<'a>,
    /// When its queue was read.
    taken: Monotonic,
    socket: &'a ListenSocket,
    source: QueueSource,
    counts: Option<&'a ListenerCounts>,
    ownership: Option<&'a Ownership>,
    /// Who serves it; `None` when not known.
    workers: Option<BTreeSet<Pid>>,
}

/// Merges the sources into one view.
#[must_use]
pub fn merge(inputs: Inputs<'_>) -> View {
    let rows = rows(&inputs);
    let ids: BTreeMap<ListenerKey, String> = rows
        .iter()
        .map(|row| (row.key, listener_id(row.key, row.socket)))
        .collect();
    let processes = Processes::of(&inputs);
    let groups = groups(&inputs, &processes, &rows, &ids);
    let group_of: BTreeMap<&String, &String> = groups
        .iter()
        .flat_map(|group| group.members.iter().map(|member| (member, &group.id)))
        .collect();
    let listeners = rows
        .iter()
        .map(|row| {
            let id = ids[&row.key].clone();
            let group = group_of.get(&id).map(|id| (*id).clone());
            listener(&inputs, &processes, row, id, group)
        })
        .collect();
    let workers = workers(&inputs, &processes, &rows, &ids);
    let (servers, puma) = puma::servers(&inputs, &rows, &workers);
    let servers = of_workers(&inputs, servers);
    let slabs = inputs.slabs.map(|snapshot| slabs(snapshot, inputs.now));
    let refused = slabs::gaps(&inputs);
    let mut sources = inputs.sources;
    sources.extend(puma);
    let mut gaps = inputs.gaps;
    gaps.extend(inputs.bpf.into_iter().flat_map(gaps::missed));
    gaps.extend(inputs.bpf.and_then(gaps::skipped));
    gaps.extend(refused);
    View {
        schema: SCHEMA.to_owned(),
        host: inputs.host.clone(),
        taken_at: inputs.wall,
        monotonic_ns: inputs.now.as_nanos(),
        since: inputs.since,
        sources,
        listeners,
        groups,
        workers,
        servers,
        slabs: slabs.unwrap_or_default(),
        gaps,
    }
}

/// Servers, with when they were started, how evenly their workers accept, and which have ended.
fn of_workers(inputs: &Inputs<'_>, servers: Vec<Server>) -> Vec<Server> {
    let with_workers = |server: Server| {
        let workers = server.workers.iter().copied().map(Pid).collect();
        let skew = skew_of(inputs, &workers, |_| true);
        Server {
            started_at: started_at(inputs, &server),
            skew: skew.as_ref().map(|skew| skew.ratio),
            skew_accepts: skew.map(|skew| skew.accepts),
            exits: inputs.exits.get(&server.id).cloned(),
            ..server
        }
    };
    servers.into_iter().map(with_workers).collect()
}

/// Of the process that gives the server its id.
fn started_at(inputs: &Inputs<'_>, server: &Server) -> Option<SystemTime> {
    let proc = inputs.proc?;
    let began = |pid: u32| proc.started_at(proc.processes.get(&Pid(pid))?);
    match server.master {
        Some(master) => began(master),
        None => server.workers.iter().filter_map(|pid| began(*pid)).min(),
    }
}

fn skew_of(
    inputs: &Inputs<'_>,
    workers: &BTreeSet<Pid>,
    is_wanted: impl Fn(&ListenerKey) -> bool,
) -> Option<Skew> {
    let (bpf, proc) = (inputs.bpf?, inputs.proc?);
    // Who has come meanwhile could not accept his part.
    let window = inputs.marks.reach(inputs.now);
    let began = (proc.since_boot + inputs.now.since(proc.taken)).saturating_sub(window);
    let were_there = workers
        .iter()
        .filter_map(|pid| Some((*pid, proc.processes.get(pid)?.started)))
        .filter(|(_, started)| proc.start_after_boot(*started) <= began)
        .collect();
    let accepts = inputs.marks.accepts_by_worker(bpf, &were_there, is_wanted);
    let (accepts, over) = accepts?;
    skew(&accepts, over)
}

/// Listeners in the order of their protocol, address and identity.
fn rows<'a>(inputs: &Inputs<'a>) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = inputs
        .namespaces
        .iter()
        .flat_map(|namespace| {
            let snapshots = [namespace.tcp, namespace.unix];
            let with_each = snapshots
                .into_iter()
                .flatten()
                .map(move |it| (namespace, it));
            with_each.flat_map(|(namespace, snapshot)| {
                let sockets = snapshot.listeners.iter();
                sockets.map(move |(key, socket)| row(inputs, namespace, snapshot, *key, socket))
            })
        })
        .collect();
    rows.sort_by(|a, b| (&a.socket.address, a.key).cmp(&(&b.socket.address, b.key)));
    let groups = Groups::of(inputs, &rows);
    for row in &mut rows {
        let holders = row.ownership.and_then(|owners| owners.workers.as_ref());
        row.workers = holders.map(|holders| groups.serving(row.key, &row.socket.address, holders));
    }
    rows
}

/// Without its workers, which other rows have a say in.
fn row<'a>(
    inputs: &Inputs<'a>,
    namespace: &'a Namespace<'a>,
    snapshot: &'a QueueSnapshot,
    key: ListenerKey,
    socket: &'a ListenSocket,
) -> Row<'a> {
    Row {
        key,
        namespace,
        taken: snapshot.taken,
        socket,
        source: snapshot.source,
        counts: inputs.bpf.and_then(|bpf| bpf.listeners.get(&key)),
        ownership: inputs
            .servers
            .and_then(|servers| servers.listeners.get(&key.inode)),
        workers: None,
    }
}

/// Who accepted from which of the listeners that share an address.
struct Groups<'a> {
    accepted: BTreeMap<(NetnsId, &'a Address), BTreeMap<ListenerKey, BTreeSet<Pid>>>,
}

impl<'a> Groups<'a> {
    fn of(inputs: &Inputs<'a>, rows: &[Row<'a>]) -> Self {
        let mut accepted: BTreeMap<_, BTreeMap<ListenerKey, BTreeSet<Pid>>> = BTreeMap::new();
        for row in rows {
            let address = (row.key.netns, &row.socket.address);
            let members = accepted.entry(address).or_default();
            members.insert(row.key, BTreeSet::new());
        }
        accepted.retain(|_, members| members.len() > 1);
        for (worker, counts) in inputs.bpf.into_iter().flat_map(|bpf| &bpf.workers) {
            let member = accepted
                .values_mut()
                .find_map(|members| members.get_mut(&worker.listener));
            if let Some(pids) = member.filter(|_| counts.accepts > 0) {
                pids.insert(worker.pid);
            }
        }
        Self { accepted }
    }

    /// Workers of a listener out of those that hold it. Those of a group usually hold every member
    /// and serve one, so a worker that has accepted from other members only is not this one's.
    fn serving(
        &self,
        key: ListenerKey,
        address: &Address,
        holders: &BTreeSet<Pid>,
    ) -> BTreeSet<Pid> {
        let Some(members) = self.accepted.get(&(key.netns, address)) else {
            return holders.clone();
        };
        let serves = |pid: &&Pid| {
            members[&key].contains(pid) || !members.values().any(|pids| pids.contains(pid))
        };
        holders.iter().filter(serves).copied().collect()
    }
}

fn listener_id(key: ListenerKey, socket: &ListenSocket) -> String {
    match socket.cookie {
        Some(cookie) => format!("{}:{cookie}", key.netns),
        None => format!("{}:inode-{}", key.netns, key.inode),
    }
}

fn listener(
    inputs: &Inputs<'_>,
    processes: &Processes,
    row: &Row<'_>,
    id: String,
    group: Option<String>,
) -> Listener {
    let owners = row.ownership;
    let history = inputs.ledger.and_then(|ledger| ledger.get(&row.key));
    Listener {
        id,
        protocol: row.socket.address.protocol().to_owned(),
        address: row.socket.address.to_string(),
        netns: Netns {
            inode: row.key.netns.0,
            name: row.namespace.name.clone(),
        },
        cookie: row.socket.cookie.map(|cookie| cookie.to_string()),
        inode: row.key.inode.0,
        group,
        server: owners.map_or(Fact::Unknown, |owners| owners.server.clone()),
        workers: row.workers.as_ref().map(pids),
        holders: owners.and_then(|owners| owners.holders.as_ref()).map(pids),
        queue: queue(inputs, row, history),
        connections: connections(inputs, row),
        turns: turns::of_listener(inputs, processes, row),
        skew: row
            .workers
            .as_ref()
            .and_then(|workers| skew_of(inputs, workers, |key| *key == row.key)),
        recent: recently(inputs, row, history),
    }
}

fn pids(pids: &BTreeSet<Pid>) -> Vec<u32> {
    pids.iter().map(|pid| pid.0).collect()
}

fn source_name(source: QueueSource) -> String {
    match source {
        QueueSource::SockDiag => "sock_diag",
        QueueSource::ProcNet => "proc_net",
    }
    .to_owned()
}

fn queue(inputs: &Inputs<'_>, row: &Row<'_>, history: Option<&QueueHistory>) -> Queue {
    let ListenSocket {
        address: _,
        cookie: _,
        queued,
        limit,
        drops,
        bound_path: _,
    } = row.socket;
    let overflows = history.and_then(|history| history.overflows);
    Queue {
        queued: *queued,
        limit: *limit,
        limit_from: match (*limit, row.namespace.somaxconn) {
            (Some(limit), Some(somaxconn)) if limit < somaxconn => LimitFrom::App,
            (Some(limit), Some(somaxconn)) if limit == somaxconn => LimitFrom::AtSomaxconn,
            _ => LimitFrom::Unknown,
        },
        peak: history.and_then(|history| history.peak),
        peak_at: history.and_then(|history| history.peak_at),
        peak_exact: history
            .filter(|history| history.peak.is_some())
            .map(|history| history.peak_exact),
        full_since: history.and_then(|history| history.full_since),
        waiting_since: history.and_then(|history| history.waiting_since),
        overflows,
        overflows_exact: overflows
            .and(history)
            .map(|history| history.overflows_exact),
        drops: history
            .and_then(|history| history.drops_total)
            .or(drops.map(u64::from)),
        defer_accept: history.and_then(|history| history.defer_accept),
        source: source_name(row.source),
        age_ms: (!row.namespace.is_own).then(|| millis(inputs.now.since(row.taken))),
    }
}

fn recently(inputs: &Inputs<'_>, row: &Row<'_>, history: Option<&QueueHistory>) -> Recent {
    let watched = inputs
        .wall
        .duration_since(inputs.since)
        .unwrap_or_default()
        .min(WINDOW);
    let per_second = |count: u64, over: Duration| {
        (!over.is_zero()).then(|| rounded(count as f64 / over.as_secs_f64()))
    };
    let change = inputs
        .bpf
        .and_then(|bpf| inputs.marks.change(bpf, &row.key));
    // The programs do not see a unix connection close.
    let is_tcp = matches!(row.socket.address, Address::Tcp { .. });
    let overflows =
        history.and_then(|history| Some(history.recent_overflows?.min(history.overflows?)));
    Recent {
        over_ms: millis(change.as_ref().map_or(watched, |change| change.over)),
        accepts_per_s: change
            .as_ref()
            .and_then(|change| per_second(change.accepts, change.over)),
        closes_per_s: change
            .as_ref()
            .filter(|_| is_tcp)
            .and_then(|change| per_second(change.closes, change.over)),
        half_closed_least: change
            .as_ref()
            .filter(|_| is_tcp)
            .map(|change| change.half_closed_least),
        overflows_per_s: overflows.and_then(|overflows| per_second(overflows, watched)),
        overflows,
        overflows_over_ms: millis(watched),
        peak: history.and_then(|history| history.recent_peak),
        wait: change.as_ref().map(|change| recent(&change.wait)),
        answer: change.and_then(|change| Some(recent(&change.answer?))),
    }
}

/// Three decimals are more than a rate over ten seconds can carry.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn micros(nanos: u64) -> u64 {
    nanos / 1000
}
