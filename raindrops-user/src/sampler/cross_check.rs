//! Counts the kernel's own connections now and then, a little in each tick, to find out whether
//! `active` has drifted.
//!
//! Of the daemon's own network namespace: a dump that lasts over several ticks would keep another
//! one alive.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    time::Duration,
};

use crate::{
    causes::with_causes,
    drift::{Counted, Counting, Drift, Port},
    ids::{Monotonic, NetnsId},
    snapshot::BpfSnapshot,
    source::diag::{TcpConnection, Walk, netstat},
    view::Gap,
};

/// Datagrams read in one tick, of some hundred connections each.
const STEP: usize = 4;

const FIRST: Duration = Duration::from_secs(5);
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);
/// What differs is counted again this soon.
const AGAIN: Duration = Duration::from_secs(1);
/// While it is not known whether connections that were not followed are gone.
const HURRY: Duration = Duration::from_secs(2);
/// Ports that a gap names.
const PORTS_SHOWN: usize = 8;
/// Counting may take this part of the time.
const SHARE: u32 = 5000;
/// The same in a hurry.
const SHARE_IN_A_HURRY: u32 = 500;

#[derive(Debug)]
pub struct CrossCheck {
    netns: NetnsId,
    drift: Drift,
    due: Monotonic,
    under_way: Option<UnderWay>,
    /// When the last comparison ended, and what kept it from being made.
    last: Option<(Monotonic, Option<String>)>,
    /// What the last comparison took.
    took: Duration,
    /// When the last comparison began that found nothing missing from `active`.
    agreed: Option<Monotonic>,
    found_later: u64,
}

/// A counting that has begun.
#[derive(Debug)]
struct UnderWay {
    /// `None` when all connections have been counted.
    walk: Option<Walk>,
    began: Monotonic,
    took: Duration,
    places: Places,
    /// Ports with MPTCP connections, of which the dump lists the paths.
    several_paths: BTreeSet<Port>,
    counting: Counting,
}

/// Where the listeners of each port listen.
type Places = BTreeMap<Port, BTreeSet<IpAddr>>;

impl CrossCheck {
    /// Of the calling thread's namespace.
    pub fn new(netns: NetnsId, now: Monotonic) -> Self {
        Self {
            netns,
            drift: Drift::default(),
            due: Monotonic(now.0 + FIRST),
            under_way: None,
            last: None,
            took: Duration::ZERO,
            agreed: None,
            found_later: 0,
        }
    }

    /// Goes on counting, and marks what differs. `bpf` was taken just now; `found_later`: how many
    /// events were missed and have been made up for.
    pub fn step(&mut self, bpf: &mut BpfSnapshot, found_later: u64, now: Monotonic) {
        if found_later != self.found_later {
            self.found_later = found_later;
            if self.drift.differing().next().is_some() {
                self.due = self.due.min(Monotonic(now.0 + AGAIN));
            }
        }
        match self.under_way.take() {
            Some(under_way) => self.go_on(under_way, bpf, now),
            None if now >= self.due => self.begin(bpf, now),
            None => {}
        }
        self.drift.mark(bpf);
    }

    fn begin(&mut self, bpf: &BpfSnapshot, now: Monotonic) {
        let (before, places) = counted(bpf, self.netns);
        if places.is_empty() {
            self.agreed = Some(now);
            self.due = Monotonic(now.0 + SHORTEST);
            return;
        }
        let has_paths = match netstat::multipath_connections(Path::new("/proc")) {
            Ok(made) => made > Some(0),
            Err(error) => return self.give_up(&with_causes(&error), now),
        };
        match Walk::begin(self.netns, has_paths) {
            Ok(walk) => {
                self.under_way = Some(UnderWay {
                    walk: Some(walk),
                    began: now,
                    took: Monotonic::now().since(now),
                    places,
                    several_paths: BTreeSet::new(),
                    counting: Counting {
                        before,
                        ..Counting::default()
                    },
                });
            }
            Err(error) => self.give_up(&with_causes(&error), now),
        }
    }

    fn go_on(&mut self, mut under_way: UnderWay, bpf: &BpfSnapshot, now: Monotonic) {
        if under_way.walk.is_none() {
            let mut after = counted(bpf, self.netns).0;
            after.retain(|port, _| !under_way.several_paths.contains(port));
            under_way.counting.after = after;
            self.drift.counted(&under_way.counting);
            self.last = Some((now, None));
            self.took = under_way.took;
            if under_way.counting.lacks_none() {
                self.agreed = Some(under_way.began);
            }
            let pause = if self.drift.suspects() {
                AGAIN.max(under_way.took)
            } else {
                (under_way.took * SHARE).clamp(SHORTEST, LONGEST)
            };
            self.due = Monotonic(now.0 + pause);
            return;
        }
        match under_way.read() {
            Ok(()) => {
                under_way.took += Monotonic::now().since(now);
                self.under_way = Some(under_way);
            }
            Err(reason) => self.give_up(&reason, now),
        }
    }

    fn give_up(&mut self, reason: &str, now: Monotonic) {
        log::debug!("cannot compare active connections with the kernel's: {reason}");
        self.last = Some((now, Some(reason.to_owned())));
        self.due = Monotonic(now.0 + LONGEST);
    }

    /// When the last comparison was made, or why it was not; `None` before the first.
    pub fn last(&self, now: Monotonic) -> Option<String> {
        let (at, failure) = self.last.as_ref()?;
        let age = now.since(*at).as_secs();
        Some(match failure {
            None => format!("{age} s ago"),
            Some(reason) => format!("failed {age} s ago: {reason}"),
        })
    }

    /// How long ago a comparison began that found none of the kernel's connections missing; the last
    /// one that did.
    pub fn agreed(&self, now: Monotonic) -> Option<Duration> {
        self.agreed.map(|at| now.since(at))
    }

    /// Compares soon: connections may be missing.
    pub fn hurry(&mut self, now: Monotonic) {
        let pause = (self.took * SHARE_IN_A_HURRY).clamp(HURRY, LONGEST);
        self.due = self.due.min(Monotonic(now.0 + pause));
    }

    pub fn gap(&self) -> Option<Gap> {
        let mut count = 0;
        let mut ports = Vec::new();
        for (Port { port, .. }, connections) in self.drift.differing() {
            count += connections.unsigned_abs();
            ports.push(format!(":{port} ({connections:+})"));
        }
        let shown = ports.len().min(PORTS_SHOWN);
        let more = if ports.len() > shown { ", …" } else { "" };
        (count > 0).then(|| Gap {
            what: "drift".to_owned(),
            text: format!(
                "established connections that the kernel has more (+) or fewer (-) of than are \
                 active, by port: {}{more}",
                ports[..shown].join(", ")
            ),
            count,
            hint:
                "right for transparent proxies and for sockets that connect from a port on which \
                   another listens; events that were missed are found within seconds where the \
                   connection is known; otherwise report it with the kernel's version"
                    .to_owned(),
            ..Gap::default()
        })
    }
}

impl UnderWay {
    fn read(&mut self) -> Result<(), String> {
        let Some(walk) = &mut self.walk else {
            return Ok(());
        };
        let (places, kernel) = (&self.places, &mut self.counting.kernel);
        let several_paths = &mut self.several_paths;
        for _ in 0..STEP {
            let ended = walk.step(|connection| {
                if let Some(port) = port_of(&connection, places) {
                    if connection.is_path {
                        several_paths.insert(port);
                    }
                    *kernel.entry(port).or_default() += 1;
                }
            });
            match ended {
                Ok(None) => {}
                Ok(Some(seen)) if seen.is_complete() => {
                    self.walk = None;
                    return Ok(());
                }
                Ok(Some(_)) => return Err("connections were left out of the dump".to_owned()),
                Err(error) => return Err(with_causes(&error)),
            }
        }
        Ok(())
    }
}

/// The port of listeners that a connection may have been accepted from.
fn port_of(connection: &TcpConnection, places: &Places) -> Option<Port> {
    connection.inode?;
    let (ip, number) = connection.local;
    let port = Port {
        netns: connection.netns,
        port: number,
    };
    let listens = |place: &IpAddr| {
        let place = place.to_canonical();
        place == ip.to_canonical()
            || place.is_unspecified() && (place.is_ipv6() || ip.to_canonical().is_ipv4())
    };
    places.get(&port)?.iter().any(listens).then_some(port)
}

fn counted(bpf: &BpfSnapshot, netns: NetnsId) -> (BTreeMap<Port, Counted>, Places) {
    let mut ports: BTreeMap<Port, Counted> = BTreeMap::new();
    let mut places = Places::new();
    for (key, counts) in &bpf.listeners {
        let Some((ip, number)) = counts.tcp_address.filter(|_| key.netns == netns) else {
            continue;
        };
        let port = Port {
            netns,
            port: number,
        };
        let counted = ports.entry(port).or_default();
        counted.active += counts.active();
        counted.changes = counted.changes.wrapping_add(counts.changes);
        counted.listeners.insert(*key);
        places.entry(port).or_default().insert(ip);
    }
    (ports, places)
}
