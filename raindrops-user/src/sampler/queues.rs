//! Listening sockets and their queues on every tick: sock_diag, or `/proc/net` where the kernel
//! has no diag modules.

use std::{path::Path, time::Duration};

use crate::{
    causes::with_causes,
    ids::{Monotonic, NetnsId},
    snapshot::{ListenerKey, QueueSnapshot, QueueSource, UnixActiveSnapshot},
    source::bpf::Listed,
    source::diag::{Diag, DiagError, TcpConnection, TcpState, current_netns, netstat, proc_net},
};

const PROC: &str = "/proc";

/// Reading all unix sockets, or text from `/proc/net`, grows with the number of connections.
const SLOW_INTERVAL: Duration = Duration::from_secs(1);

/// A listener must not go unnoticed for longer.
const SLOWEST_INTERVAL: Duration = Duration::from_secs(5);

/// A slow reading may take up to this part of the time.
const SLOW_SHARE: u32 = 200;

/// How one protocol is read, and what came of it last.
#[derive(Debug, Default)]
struct Reading {
    /// Why sock_diag did not serve it.
    fallback: Option<DiagError>,
    /// Why nothing did.
    failure: Option<DiagError>,
    not_before: Option<Monotonic>,
}

/// What is known of the queues of one network namespace.
#[derive(Clone, Debug)]
pub struct Seen {
    pub netns: NetnsId,
    pub tcp: Option<QueueSnapshot>,
    pub unix: Option<QueueSnapshot>,
    pub unix_active: Option<UnixActiveSnapshot>,
    /// ListenOverflows, read after `tcp`.
    pub overflow_counter: Option<u64>,
    pub somaxconn: Option<u32>,
}

/// The queues of one network namespace.
#[derive(Debug)]
pub struct Queues {
    diag: Option<Diag>,
    diag_failure: Option<DiagError>,
    tcp: Reading,
    unix: Reading,
    last_drops: Vec<(ListenerKey, Option<u32>)>,
    /// No connection was in any TCP queue when they were read last.
    are_empty: bool,
    /// [`crate::source::bpf::Bpf::activity`] before TCP was read last.
    activity: Option<u64>,
    seen: Seen,
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

impl Seen {
    pub fn snapshots(&self) -> impl Iterator<Item = &QueueSnapshot> {
        [&self.tcp, &self.unix].into_iter().flatten()
    }

    /// When the last dump began that has all listeners, by protocol.
    #[must_use]
    pub fn listed(&self) -> Listed {
        let at = |snapshot: &Option<QueueSnapshot>| {
            let snapshot = snapshot.as_ref()?;
            (!snapshot.interrupted).then_some(snapshot.began)
        };
        Listed {
            tcp: at(&self.tcp),
            unix: at(&self.unix),
        }
    }
}

impl Queues {
    /// Of the network namespace of the calling thread.
    ///
    /// # Errors
    /// When not even the namespace can be told.
    pub fn open() -> Result<Self, DiagError> {
        let mut queues = Self::of(current_netns()?);
        queues.connect();
        Ok(queues)
    }

    /// Of a namespace that the calling thread need not be in yet.
    #[must_use]
    pub fn of(netns: NetnsId) -> Self {
        Self {
            diag: None,
            diag_failure: None,
            tcp: Reading::default(),
            unix: Reading::default(),
            last_drops: Vec::new(),
            are_empty: false,
            activity: None,
            seen: Seen {
                netns,
                tcp: None,
                unix: None,
                unix_active: None,
                overflow_counter: None,
                somaxconn: None,
            },
        }
    }

    /// Takes a socket of sock_diag in the namespace of the calling thread.
    pub fn connect(&mut self) {
        (self.diag, self.diag_failure) = match Diag::open() {
            Ok(diag) => (Some(diag), None),
            Err(error) => (None, Some(error)),
        };
    }

    /// Gives the socket up: it keeps its namespace alive.
    pub fn disconnect(&mut self) {
        self.diag = None;
    }

    /// Reads what is due. `activity` is a number that would have changed if a queue had grown or a
    /// listener had come or gone, where there is one. Returns whether anything was due.
    pub fn sample(&mut self, now: Monotonic, activity: Option<u64>) -> bool {
        let tcp = self.tcp.is_due(now) && !self.is_quiet(now, activity);
        if tcp {
            self.sample_tcp(now);
            self.activity = activity;
        }
        let unix = self.unix.is_due(now);
        if unix {
            self.sample_unix(now);
        }
        tcp || unix
    }

    /// All queues were empty, and nothing has joined one since. Looked at once a second all the
    /// same, for limits that have changed and for events that the programs missed.
    fn is_quiet(&self, now: Monotonic, activity: Option<u64>) -> bool {
        let Some(last) = &self.seen.tcp else {
            return false;
        };
        activity.is_some()
            && activity == self.activity
            && now.since(last.taken) < SLOW_INTERVAL
            && !last.interrupted
            && self.are_empty
    }

    fn sample_tcp(&mut self, now: Monotonic) {
        let began = Monotonic::now();
        let read = self.diag.as_mut().map(Diag::tcp_listeners);
        let netns = self.seen.netns;
        let fresh = self
            .tcp
            .take(read, || proc_net::tcp_listeners(Path::new(PROC), netns));
        self.seen.tcp = fresh;
        let Some(snapshot) = &self.seen.tcp else {
            return;
        };
        if snapshot.source == QueueSource::ProcNet {
            self.tcp.postpone(now, began);
        }
        let mut sockets = snapshot.listeners.values();
        self.are_empty = sockets.all(|socket| socket.queued == Some(0));
        let sockets = snapshot.listeners.iter();
        let drops = sockets.map(|(key, socket)| (*key, socket.drops));
        // Overflows are also drops of their listener: where none rose, the counter did not either.
        if self.seen.overflow_counter.is_none()
            || !drops.clone().eq(self.last_drops.iter().copied())
        {
            let counters = netstat::listen_counters(Path::new(PROC)).ok();
            self.seen.overflow_counter = counters.and_then(|counters| counters.overflows);
            self.last_drops.clear();
            self.last_drops.extend(drops);
        }
    }

    fn sample_unix(&mut self, now: Monotonic) {
        let began = Monotonic::now();
        let mut active = None;
        let read = self.diag.as_mut().map(|diag| {
            let (queues, counted) = diag.unix_sockets()?;
            active = Some(counted);
            Ok(queues)
        });
        let netns = self.seen.netns;
        let fresh = self.unix.take(read, || {
            let (queues, counted) = proc_net::unix_sockets(Path::new(PROC), netns)?;
            active = Some(counted);
            Ok(queues)
        });
        self.unix.postpone(now, began);
        // Read rarely, so that a change of the limit is seen all the same.
        self.seen.somaxconn = netstat::somaxconn(Path::new(PROC)).ok();
        self.seen.unix_active = active;
        self.seen.unix = fresh;
    }

    #[must_use]
    pub const fn seen(&self) -> &Seen {
        &self.seen
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
            tcp: self.tcp.state(self.seen.tcp.as_ref()),
            unix: self.unix.state(self.seen.unix.as_ref()),
            reason: fallback.map(|error| with_causes(error)),
            grant: fallback
                .and_then(DiagError::missing_module)
                .map(|module| format!("run {} as root", module.modprobe())),
            interrupted: self.seen.snapshots().any(|snapshot| snapshot.interrupted),
        }
    }
}

impl Reading {
    fn is_due(&self, now: Monotonic) -> bool {
        self.not_before.is_none_or(|time| now >= time)
    }

    /// Not again before a second has passed since `now`, or longer when the reading took long.
    fn postpone(&mut self, now: Monotonic, began: Monotonic) {
        let took = Monotonic::now().since(began);
        let interval = (took * SLOW_SHARE).clamp(SLOW_INTERVAL, SLOWEST_INTERVAL);
        self.not_before = Some(Monotonic(now.0 + interval));
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
                None
            }
        }
    }

    fn state(&self, latest: Option<&QueueSnapshot>) -> Result<QueueSource, String> {
        match (&self.failure, latest) {
            (Some(error), _) => Err(with_causes(error)),
            (None, Some(snapshot)) => Ok(snapshot.source),
            (None, None) => Err("not read yet".to_owned()),
        }
    }
}
