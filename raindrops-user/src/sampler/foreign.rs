//! Queues of other network namespaces than the daemon's own, at most once a second.
//!
//! On a thread of its own: one with many namespaces, or a huge one, must not delay the own
//! namespace's ten samples a second, and a thread that could not come back from a namespace has to
//! end. Nothing of another namespace stays open between two readings, so none is kept alive.

mod reader;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use self::reader::Reader;
use super::queues::{Health, Seen};
use crate::{
    causes::with_causes,
    fact::Fact,
    ids::{Monotonic, NetnsId, Pid},
    plan::netns::Namespaces,
    select::some_of,
    source::{
        diag::{DiagError, TcpConnection, current_netns},
        netns::{Names, of_process},
    },
};

/// How long the sampler waits for a reading or for all connections, at its start only.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections handed over at once.
const BATCH: usize = 1024;

/// Why a namespace that was asked for cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    #[error("cannot look at the network namespace")]
    Own(#[from] DiagError),
    #[error("no network namespace is named {name:?} ({existing})")]
    NoName { name: String, existing: String },
    #[error("cannot tell the network namespace of process {pid} ({existing})")]
    NoProcess {
        pid: Pid,
        source: io::Error,
        existing: String,
    },
}

/// What is read besides the own namespace, or instead of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    Nothing,
    All,
    /// Whichever has this name.
    Name(String),
    One(NetnsId),
}

/// One namespace, as last read.
#[derive(Clone, Debug)]
pub struct Published {
    pub name: Fact<String>,
    pub seen: Seen,
    pub health: Health,
}

/// What a reading of all namespaces found.
#[derive(Clone, Debug)]
pub struct Report {
    pub taken: Monotonic,
    pub own_name: Fact<String>,
    pub namespaces: BTreeMap<NetnsId, Published>,
    /// Those that could not be entered, and why.
    pub refused: BTreeMap<NetnsId, String>,
    /// Namespaces that were not read because there are too many.
    pub beyond: usize,
    /// Processes whose namespace may not be known.
    pub unreadable: usize,
    /// Files among the names that are no namespaces.
    pub strays: usize,
    /// The only namespace that was asked for is not there.
    pub is_missing: bool,
    pub cost: Cost,
}

/// Processor time of the last reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Of all namespaces that were read.
    pub reading: Duration,
    /// Of the last look where all processes are.
    pub looking: Duration,
    pub processes: usize,
}

enum Order {
    /// Read all of them now; the channel closes when it is done.
    Read(#[expect(dead_code, reason = "nothing is sent: it is dropped")] SyncSender<()>),
    Connections(SyncSender<Found>),
}

/// Part of the answer to [`Order::Connections`].
enum Found {
    Some(Vec<TcpConnection>),
    /// No more; whether that was all.
    End {
        complete: bool,
    },
}

/// The thread that reads other namespaces.
#[derive(Debug)]
pub struct Foreign {
    own: NetnsId,
    aim: Aim,
    orders: mpsc::Sender<Order>,
    latest: Arc<Mutex<Option<Arc<Report>>>>,
    thread: JoinHandle<()>,
}

impl Foreign {
    /// Starts the thread from the namespace of the calling one, and waits for its first reading.
    ///
    /// # Errors
    /// When the one namespace that is asked for is not there.
    pub fn start(namespaces: &Namespaces) -> Result<Self, ForeignError> {
        let own = current_netns()?;
        let aim = aim(namespaces)?;
        let latest = Arc::default();
        let (orders, ordered) = mpsc::channel();
        let thread = {
            let (latest, aim) = (Arc::clone(&latest), aim.clone());
            thread::Builder::new()
                .name("netns".to_owned())
                .spawn(move || read_on(Reader::new(own, aim), &ordered, &latest))
                .map_err(ForeignError::Thread)?
        };
        let foreign = Self {
            own,
            aim,
            orders,
            latest,
            thread,
        };
        foreign.read_now();
        Ok(foreign)
    }

    #[must_use]
    pub const fn own(&self) -> NetnsId {
        self.own
    }

    #[must_use]
    pub const fn aim(&self) -> &Aim {
        &self.aim
    }

    /// The last finished reading. `None` before the first, and when the thread has ended: nobody
    /// can tell any more how old it would be.
    #[must_use]
    pub fn report(&self) -> Option<Arc<Report>> {
        if self.has_ended() {
            return None;
        }
        lock(&self.latest).clone()
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Has all namespaces read again, and waits for it.
    pub fn read_now(&self) {
        let (done, finished) = mpsc::sync_channel(0);
        if self.orders.send(Order::Read(done)).is_ok() {
            let _ = finished.recv_timeout(PATIENCE);
        }
    }

    /// Hands every open TCP connection of all namespaces that are read to `each`. `false` when
    /// some may be missing.
    pub fn open_connections(&self, mut each: impl FnMut(&TcpConnection)) -> bool {
        let (to, found) = mpsc::sync_channel(4);
        if self.orders.send(Order::Connections(to)).is_err() {
            return false;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match found.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Found::Some(connections)) => connections.iter().for_each(&mut each),
                Ok(Found::End { complete }) => return complete,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

fn lock(latest: &Mutex<Option<Arc<Report>>>) -> std::sync::MutexGuard<'_, Option<Arc<Report>>> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's life: until nobody can order anything any more, or it cannot come home.
fn read_on(
    mut reader: Reader,
    ordered: &mpsc::Receiver<Order>,
    latest: &Mutex<Option<Arc<Report>>>,
) {
    let mut next = Duration::MAX;
    loop {
        let order = match ordered.recv_timeout(next) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let result = match &order {
            Some(Order::Connections(to)) => reader.open_connections(to),
            Some(Order::Read(_)) | None => reader.read().map(|report| {
                *lock(latest) = Some(Arc::new(report));
            }),
        };
        // Whoever waits for the reading learns of it by this.
        drop(order);
        if let Err(error) = result {
            let reason = with_causes(&error);
            log::error!("other network namespaces are read no more: {reason}");
            return;
        }
        next = reader.rest();
    }
}

fn aim(namespaces: &Namespaces) -> Result<Aim, ForeignError> {
    let existing = || existing(&Names::read("/".as_ref()));
    match namespaces {
        Namespaces::All => Ok(Aim::All),
        Namespaces::Own(_) => Ok(Aim::Nothing),
        Namespaces::Name(name) => match Names::read("/".as_ref()).find(name) {
            Some(_) => Ok(Aim::Name(name.clone())),
            None => Err(ForeignError::NoName {
                name: name.clone(),
                existing: existing(),
            }),
        },
        // A name may be a number too.
        Namespaces::Pid(pid) if Names::read("/".as_ref()).find(&pid.to_string()).is_some() => {
            Ok(Aim::Name(pid.to_string()))
        }
        Namespaces::Pid(pid) => match of_process(*pid) {
            Ok(netns) => Ok(Aim::One(netns)),
            Err(source) => Err(ForeignError::NoProcess {
                pid: *pid,
                source,
                existing: existing(),
            }),
        },
    }
}

fn existing(names: &Names) -> String {
    match some_of(names.iter().map(|(_, name)| name)) {
        none if none.is_empty() => "none has a name".to_owned(),
        some => format!("named: {some}"),
    }
}
