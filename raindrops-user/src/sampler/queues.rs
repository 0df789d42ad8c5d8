//! Listening sockets and their queues on every tick: sock_diag, or `/proc/net` where the kernel
//! has no diag modules.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime},
};

use crate::{
    causes::with_causes,
    ids::{Monotonic, NetnsId},
    queue::{Ledger, Protocol, Scope},
    snapshot::{
        BpfSnapshot, ListenSocket, ListenerKey, QueueSnapshot, QueueSource, UnixActiveSnapshot,
    },
    source::bpf::Dumps,
    source::diag::{Diag, DiagError, TcpConnection, TcpState, current_netns, netstat, proc_net},
};

/// Reading all unix sockets, or text from `/proc/net`, grows with the number of connections.
const SLOW_INTERVAL: Duration = Duration::from_secs(1);

/// A listener must not go unnoticed for longer.
const SLOWEST_INTERVAL: Duration = Duration::from_secs(5);

/// A slow reading may take up to this part of the time.
const SLOW_SHARE: u32 = 200;

/// How one protocol is read, and what came of it last.
#[derive(Debug, Default)]
struct Reading {
    latest: Option<QueueSnapshot>,
    /// Why sock_diag did not serve it.
    fallback: Option<DiagError>,
    /// Why nothing did.
    failure: Option<DiagError>,
    not_before: Option<Monotonic>,
}

/// The queues of one network namespace.
#[derive(Debug)]
pub struct Queues {
    diag: Option<Diag>,
    diag_failure: Option<DiagError>,
    netns: NetnsId,
    tcp: Reading,
    unix: Reading,
    unix_active: Option<UnixActiveSnapshot>,
    ledger: Ledger,
    overflow_counter: Option<u64>,
    last_drops: BTreeMap<ListenerKey, Option<u32>>,
    somaxconn: Option<u32>,
}

/// How well the queues are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub tcp: Result<QueueSource, String>,
    pub unix: Result<QueueSource, String>,
    /// What would make sock_diag serve all of it.
    pub reason: Option<String>,
    pub grant: Option<String>,
    pub interrupted: bool,
}

impl Queues {
    /// Of the network namespace of the calling thread.
    ///
    /// # Errors
    /// When not even the namespace can be told.
    pub fn open() -> Result<Self, DiagError> {
        let (diag, diag_failure) = match Diag::open() {
            Ok(diag) => (Some(diag), None),
            Err(error) => (None, Some(error)),
        };
        let netns = match &diag {
            Some(diag) => diag.netns(),
            None => current_netns()?,
        };
        Ok(Self {
            diag,
            diag_failure,
            netns,
            tcp: Reading::default(),
            unix: Reading::default(),
            unix_active: None,
            ledger: Ledger::default(),
            overflow_counter: None,
            last_drops: BTreeMap::new(),
            somaxconn: None,
        })
    }

    #[must_use]
    pub const fn netns(&self) -> NetnsId {
        self.netns
    }

    /// Reads what is due.
    pub fn sample(&mut self, now: Monotonic, wall: SystemTime) {
        if self.tcp.is_due(now) {
            self.sample_tcp(now, wall);
        }
        if self.unix.is_due(now) {
            self.sample_unix(now, wall);
        }
    }

    fn sample_tcp(&mut self, now: Monotonic, wall: SystemTime) {
        let read = self.diag.as_mut().map(Diag::tcp_listeners);
        let proc = Path::new("/proc/thread-self");
        let fresh = self
            .tcp
            .take(read, || proc_net::tcp_listeners(proc, self.netns));
        let Some(snapshot) = fresh else { return };
        if snapshot.source == QueueSource::ProcNet {
            self.tcp.postpone(now);
        }
        let drops: BTreeMap<_, _> = snapshot
            .listeners
            .iter()
            .map(|(key, socket)| (*key, socket.drops))
            .collect();
        // Overflows are also drops of their listener: where none rose, the counter did not either.
        if self.overflow_counter.is_none() || drops != self.last_drops {
            let counters = netstat::listen_counters(Path::new("/proc")).ok();
            self.overflow_counter = counters.and_then(|counters| counters.overflows);
            self.last_drops = drops;
        }
        self.ledger.fold(
            self.scope(Protocol::Tcp),
            &snapshot,
            wall,
            self.overflow_counter,
        );
        self.tcp.latest = Some(snapshot);
    }

    fn sample_unix(&mut self, now: Monotonic, wall: SystemTime) {
        let read = self.diag.as_mut().map(|diag| {
            diag.unix_sockets().map(|(queues, active)| {
                self.unix_active = Some(active);
                queues
            })
        });
        let proc = Path::new("/proc/thread-self");
        let fresh = self.unix.take(read, || {
            let (queues, active) = proc_net::unix_sockets(proc, self.netns)?;
            self.unix_active = Some(active);
            Ok(queues)
        });
        self.unix.postpone(now);
        // Read rarely, so that a change of the limit is seen all the same.
        self.somaxconn = netstat::somaxconn(Path::new("/proc")).ok();
        if let Some(snapshot) = fresh {
            self.ledger
                .fold(self.scope(Protocol::Unix), &snapshot, wall, None);
            self.unix.latest = Some(snapshot);
        } else {
            self.unix_active = None;
        }
    }

    const fn scope(&self, protocol: Protocol) -> Scope {
        Scope {
            netns: self.netns,
            protocol,
        }
    }

    /// Takes in the queues that the programs saw at arrivals.
    pub fn note_arrivals(&mut self, bpf: Option<&BpfSnapshot>, now: Monotonic, wall: SystemTime) {
        let arrivals = bpf.map(BpfSnapshot::arrivals).unwrap_or_default();
        self.ledger.note_arrivals(&arrivals, now, wall);
    }

    /// Every listener of the latest readings.
    #[must_use]
    pub fn listeners(&self) -> BTreeMap<ListenerKey, ListenSocket> {
        [&self.tcp.latest, &self.unix.latest]
            .into_iter()
            .flatten()
            .flat_map(|snapshot| &snapshot.listeners)
            .map(|(key, socket)| (*key, socket.clone()))
            .collect()
    }

    /// `listeners` with what is known of when and how completely they were listed.
    #[must_use]
    pub fn dumps<'a>(&self, listeners: &'a BTreeMap<ListenerKey, ListenSocket>) -> Dumps<'a> {
        Dumps {
            listeners,
            tcp: self.tcp.listed_at(),
            unix: self.unix.listed_at(),
        }
    }

    #[must_use]
    pub const fn tcp(&self) -> Option<&QueueSnapshot> {
        self.tcp.latest.as_ref()
    }

    #[must_use]
    pub const fn unix(&self) -> Option<&QueueSnapshot> {
        self.unix.latest.as_ref()
    }

    #[must_use]
    pub const fn unix_active(&self) -> Option<&UnixActiveSnapshot> {
        self.unix_active.as_ref()
    }

    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    #[must_use]
    pub const fn somaxconn(&self) -> Option<u32> {
        self.somaxconn
    }

    /// Hands every open TCP connection to `each`. `false` when some may be missing.
    pub fn open_connections(&mut self, mut each: impl FnMut(&TcpConnection)) -> bool {
        let Some(diag) = &mut self.diag else {
            return false;
        };
        let dumped = diag.tcp_connections(|connection| {
            if matches!(
                connection.state,
                TcpState::Established | TcpState::CloseWait
            ) {
                each(&connection);
            }
        });
        dumped.is_ok_and(|completeness| completeness.is_complete())
    }

    #[must_use]
    pub fn health(&self) -> Health {
        let fallback = [&self.diag_failure, &self.tcp.fallback, &self.unix.fallback]
            .into_iter()
            .flatten()
            .next();
        Health {
            tcp: self.tcp.state(),
            unix: self.unix.state(),
            reason: fallback.map(|error| with_causes(error)),
            grant: fallback
                .and_then(DiagError::missing_module)
                .map(|module| format!("run {} as root", module.modprobe())),
            interrupted: [&self.tcp.latest, &self.unix.latest]
                .into_iter()
                .flatten()
                .any(|snapshot| snapshot.interrupted),
        }
    }
}

impl Reading {
    fn is_due(&self, now: Monotonic) -> bool {
        self.not_before.is_none_or(|time| now >= time)
    }

    /// Not again before a second has passed, or longer when the reading took long.
    fn postpone(&mut self, began: Monotonic) {
        let took = Monotonic::now().since(began);
        let interval = (took * SLOW_SHARE).clamp(SLOW_INTERVAL, SLOWEST_INTERVAL);
        self.not_before = Some(Monotonic(began.0 + interval));
    }

    /// What sock_diag gave, else what `/proc/net` gives.
    fn take(
        &mut self,
        diag: Option<Result<QueueSnapshot, DiagError>>,
        proc_net: impl FnOnce() -> Result<QueueSnapshot, DiagError>,
    ) -> Option<QueueSnapshot> {
        let result = match diag {
            Some(Ok(snapshot)) => {
                self.fallback = None;
                Ok(snapshot)
            }
            Some(Err(error)) => {
                self.fallback = Some(error);
                proc_net()
            }
            None => proc_net(),
        };
        match result {
            Ok(snapshot) => {
                self.failure = None;
                Some(snapshot)
            }
            Err(error) => {
                self.failure = Some(error);
                self.latest = None;
                None
            }
        }
    }

    /// When all listeners of the protocol were listed last; `None` when some may be missing.
    fn listed_at(&self) -> Option<Monotonic> {
        let latest = self.latest.as_ref()?;
        (self.failure.is_none() && !latest.interrupted).then_some(latest.taken)
    }

    fn state(&self) -> Result<QueueSource, String> {
        match (&self.failure, &self.latest) {
            (Some(error), _) => Err(with_causes(error)),
            (None, Some(snapshot)) => Ok(snapshot.source),
            (None, None) => Err("not read yet".to_owned()),
        }
    }
}
