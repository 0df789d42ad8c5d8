//! Makes one list of what the programs and sock_diag know of each connection. Pure.
//!
//! The programs know the listener, the worker and the turn, the kernel the rest; a connection that
//! only one of them has is listed with what that one knows.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::{
    Connection, ListenerName, Listing, Note, Place, Question, SCANNED, SCHEMA, State, Tcp,
};
use crate::{
    address::{Address, Endpoint},
    ids::{Cookie, Monotonic, Pid},
    snapshot::connections::{
        BpfConnection, BpfConnections, KernelConnection, KernelConnections, Phase, TcpInfo,
    },
};

/// Everything that a list is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub question: &'a Question,
    /// Read before `bpf`.
    pub kernel: Option<&'a KernelConnections>,
    pub bpf: Option<&'a BpfConnections>,
    /// What could not be read.
    pub notes: Vec<Note>,
    pub now: Monotonic,
    pub wall: SystemTime,
}

/// One connection, as far as each source knows it.
#[derive(Clone, Copy)]
struct Known<'a> {
    listener: Option<&'a Place>,
    kernel: Option<&'a KernelConnection>,
    bpf: Option<&'a BpfConnection>,
}

#[must_use]
pub fn list(inputs: Inputs<'_>) -> Listing {
    let Inputs {
        question,
        kernel,
        bpf,
        mut notes,
        now,
        wall,
    } = inputs;
    let mut known = joined(question, kernel, bpf);
    let all_dumped = kernel.is_none_or(|kernel| kernel.complete);
    let scan_complete = known.len() <= SCANNED && bpf.map_or(all_dumped, |bpf| bpf.complete);
    known.truncate(SCANNED);
    let scanned = known.len();
    if let Some(pid) = question.worker {
        known.retain(|it| worker(it) == Some(pid.0));
    }
    if let Some(allowed) = &question.allowed {
        let is_allowed = |it: &Known<'_>| worker(it).is_some_and(|it| allowed.contains(&Pid(it)));
        known.retain(is_allowed);
        notes.push(Note {
            what: "user".to_owned(),
            text: "only connections that your own processes accepted are listed".to_owned(),
            hint: Some("ask as root, or as the user who runs the daemon".to_owned()),
        });
    }
    let matched = known.len();
    known.sort_by_cached_key(place_in_list);
    known.truncate(question.limit);
    let is_wide = question.wanted().nth(1).is_some();
    let fewer = is_wide.then(|| "ask for one listener".to_owned());
    if !scan_complete {
        notes.push(Note {
            what: "scan".to_owned(),
            text: format!("not all were looked at, but {scanned}: older turns may be missing"),
            hint: fewer.clone(),
        });
    }
    if scan_complete && !all_dumped {
        notes.push(Note {
            what: "tcp".to_owned(),
            text: "not read of all: the kernel has too many connections to go through".to_owned(),
            hint: fewer,
        });
    }
    if kernel.is_some_and(|kernel| !kernel.consistent) {
        notes.push(Note {
            what: "scan".to_owned(),
            text: "some may be missing: sockets changed while the kernel listed them".to_owned(),
            hint: Some("ask again".to_owned()),
        });
    }
    Listing {
        schema: SCHEMA.to_owned(),
        taken_at: wall,
        truncated: !scan_complete || matched > known.len(),
        scanned,
        scan_complete,
        matched,
        listeners: question.wanted().map(name).collect(),
        connections: known.iter().map(|it| connection(it, now)).collect(),
        notes,
    }
}

/// What the programs have first: they alone know the turns.
fn joined<'a>(
    question: &'a Question,
    kernel: Option<&'a KernelConnections>,
    bpf: Option<&'a BpfConnections>,
) -> Vec<Known<'a>> {
    // Each once, although a dump may list a socket again when the table changes.
    let mut sockets: BTreeMap<Cookie, &KernelConnection> = kernel
        .iter()
        .flat_map(|kernel| &kernel.connections)
        .map(|socket| (socket.cookie, socket))
        .collect();
    let places: BTreeMap<_, &Place> = question.wanted().map(|place| (place.key, place)).collect();
    let mut known: Vec<Known<'a>> = bpf
        .iter()
        .flat_map(|bpf| &bpf.connections)
        .filter_map(|followed| {
            Some(Known {
                listener: Some(*places.get(&followed.listener)?),
                kernel: followed.cookie.and_then(|it| sockets.remove(&it)),
                bpf: Some(followed),
            })
        })
        .collect();
    let Some(kernel) = kernel else {
        return known;
    };
    let mut by_port: BTreeMap<u16, Vec<(&Place, Endpoint)>> = BTreeMap::new();
    for place in &question.places {
        if let Some(tcp) = place.tcp.filter(|_| place.key.netns == kernel.netns) {
            by_port.entry(tcp.1).or_default().push((place, tcp));
        }
    }
    for socket in sockets.into_values() {
        // The programs follow an MPTCP connection as a whole.
        if socket.is_path && bpf.is_some() {
            continue;
        }
        let at_port = by_port.get(&socket.local.1);
        let may_be: Vec<&Place> = at_port
            .into_iter()
            .flatten()
            .filter(|(_, tcp)| may_have_accepted(*tcp, socket.local))
            .map(|(place, _)| *place)
            .collect();
        let is_wanted = |place: &&Place| place.is_wanted;
        // What the programs did not list as one that is wanted may be another's that they know.
        let belongs = match bpf {
            Some(_) => !may_be.is_empty() && may_be.iter().all(is_wanted),
            None => may_be.iter().any(is_wanted),
        };
        if belongs {
            known.push(Known {
                listener: match may_be[..] {
                    [only] => Some(only),
                    _ => None,
                },
                kernel: Some(socket),
                bpf: None,
            });
        }
    }
    known
}

/// Whether a listener at one address accepts connections to the other.
fn may_have_accepted(listener: Endpoint, local: Endpoint) -> bool {
    let (place, ip) = (listener.0.to_canonical(), local.0.to_canonical());
    let any = place.is_unspecified() && (place.is_ipv6() || ip.is_ipv4());
    listener.1 == local.1 && (place == ip || any)
}

fn worker(known: &Known<'_>) -> Option<u32> {
    Some(known.bpf?.worker?.0.0)
}

/// Oldest turn first, then oldest connection; what is not known comes after what is. Sockets of which
/// nothing is known are in the order in which most of them were made.
fn place_in_list(known: &Known<'_>) -> impl Ord + use<> {
    let since = |at: Option<Monotonic>| (at.is_none(), at.map(|at| at.0));
    let turn = known.bpf.and_then(|it| it.turn);
    let turn = turn.filter(|turn| turn.phase != Phase::Idle);
    (
        turn.is_none(),
        since(turn.and_then(|turn| turn.since)),
        since(known.bpf.and_then(began)),
        known.kernel.map(|it| it.inode),
        known.bpf.map(|it| (it.cookie, it.inode)),
    )
}

fn began(followed: &BpfConnection) -> Option<Monotonic> {
    followed.established.or(followed.accepted)
}

fn connection(known: &Known<'_>, now: Monotonic) -> Connection {
    let Known {
        listener,
        kernel,
        bpf,
    } = *known;
    let is_unix = listener.is_some_and(|place| place.tcp.is_none());
    let half_closed = kernel
        .map(|it| it.half_closed)
        .or(bpf.filter(|_| !is_unix).map(|it| it.half_closed));
    let turn = bpf.and_then(|it| it.turn);
    let age = |at: Option<Monotonic>| at.map(|at| micros(now.since(at)));
    let cookie = kernel.map(|it| it.cookie);
    let inode = kernel.map(|it| it.inode);
    Connection {
        listener: listener.map(|place| place.id.clone()),
        address: match (kernel, listener) {
            (Some(kernel), _) => Some(endpoint(kernel.local)),
            (None, Some(place)) if is_unix => Some(place.address.clone()),
            (None, _) => None,
        },
        peer: kernel.map(|it| endpoint(it.remote)),
        worker: worker(known),
        cookie: cookie
            .or(bpf.and_then(|it| it.cookie))
            .map(|cookie| cookie.to_string()),
        inode: inode.or(bpf.and_then(|it| it.inode)).map(|it| it.0),
        age_us: age(bpf.and_then(began)),
        accepted_age_us: age(bpf.and_then(|it| it.accepted)),
        state: half_closed.map(|half_closed| {
            if half_closed {
                State::CloseWait
            } else {
                State::Established
            }
        }),
        phase: turn.map(|turn| turn.phase),
        blocked: turn.map(|turn| turn.blocked),
        phase_age_us: age(turn.and_then(|turn| turn.since)),
        turns: turn.map(|turn| turn.turns),
        bytes_in: turn.map(|turn| turn.bytes_in),
        bytes_out: turn.map(|turn| turn.bytes_out),
        reader_thread: turn.and_then(|turn| turn.reader_thread),
        writer_thread: turn.and_then(|turn| turn.writer_thread),
        tcp: kernel.map(tcp),
    }
}

fn tcp(socket: &KernelConnection) -> Tcp {
    let TcpInfo {
        retransmits,
        unacked,
        last_data_sent_ms,
        last_data_received_ms,
        rtt_us,
        rttvar_us,
        snd_cwnd,
        total_retransmits,
        bytes_acked,
        bytes_received,
        notsent_bytes,
    } = socket.info.unwrap_or_default();
    Tcp {
        rtt_us,
        rttvar_us,
        retransmits,
        total_retransmits,
        unacked,
        bytes_received,
        bytes_acked,
        last_data_received_ms,
        last_data_sent_ms,
        snd_cwnd,
        notsent_bytes,
        unread_bytes: socket.unread_bytes,
        unacked_bytes: socket.unacked_bytes,
    }
}

fn name(place: &Place) -> ListenerName {
    ListenerName {
        id: place.id.clone(),
        address: place.address.clone(),
    }
}

/// An IPv4 client of a dual-stack listener as what it is.
fn endpoint((ip, port): Endpoint) -> String {
    let ip = ip.to_canonical();
    Address::Tcp { ip, port }.to_string()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
