//! Every network namespace that is read: the own at each tick, others by [`Foreign`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    SamplerError,
    foreign::{Aim, Foreign, Published, Report},
    queues::{Health, Queues, Seen},
};
use crate::{
    fact::Fact,
    ids::{Inode, Monotonic, NetnsId},
    plan::netns::Namespaces,
    queue::{Ledger, Protocol, Scope},
    snapshot::{BpfSnapshot, ListenSocket, ListenerKey},
    source::{bpf::Listed, diag::TcpConnection},
    view::merge::Namespace,
};

/// The queues of all namespaces that are read.
#[derive(Debug)]
pub struct Watched {
    pub namespaces: Namespaces,
    /// `None` where only another namespace is asked for.
    own: Option<Queues>,
    pub foreign: Foreign,
    pub report: Option<Arc<Report>>,
    ledger: Ledger,
    /// When the last sample was taken that the ledger knows.
    folded: BTreeMap<Scope, Monotonic>,
}

impl Watched {
    /// From the namespace of the calling thread, with one reading of everything.
    ///
    /// # Errors
    /// When there is nothing to read.
    pub fn open(namespaces: Namespaces) -> Result<Self, SamplerError> {
        let foreign = Foreign::start(&namespaces)?;
        let own = match foreign.aim() {
            Aim::Nothing | Aim::All => Some(Queues::open()?),
            Aim::Name(_) | Aim::One(_) => None,
        };
        let mut watched = Self {
            namespaces,
            own,
            foreign,
            report: None,
            ledger: Ledger::default(),
            folded: BTreeMap::new(),
        };
        watched.sample(None);
        watched.take_report();
        Ok(watched)
    }

    /// Reads what is due of the own namespace; see [`Queues::sample`].
    pub fn sample(&mut self, activity: Option<u64>) {
        if let Some(own) = &mut self.own
            && own.sample(Monotonic::now(), activity)
        {
            fold(&mut self.ledger, &mut self.folded, own.seen());
        }
    }

    /// Takes what was read of the others since, and forgets namespaces that are gone.
    pub fn take_report(&mut self) {
        self.report = self.foreign.report();
        let others = self.report.iter().flat_map(|it| it.namespaces.values());
        for published in others {
            fold(&mut self.ledger, &mut self.folded, &published.seen);
        }
        let read = self.namespaces_read();
        self.ledger.retain_namespaces(|netns| read.contains(&netns));
        self.folded.retain(|scope, _| read.contains(&scope.netns));
    }

    /// Takes in the queues that the programs saw at arrivals.
    pub fn note_arrivals(&mut self, bpf: Option<&BpfSnapshot>) {
        let arrivals = bpf.map(BpfSnapshot::arrivals).unwrap_or_default();
        self.ledger
            .note_arrivals(&arrivals, Monotonic::now(), SystemTime::now());
    }

    fn namespaces_read(&self) -> BTreeSet<NetnsId> {
        self.seen().map(|seen| seen.netns).collect()
    }

    /// Forgets peaks; totals stay.
    pub fn reset_peaks(&mut self) {
        self.ledger.reset_peaks();
    }

    /// Begins a step of the history.
    pub fn begin_step(&mut self) {
        self.ledger.begin_step();
    }

    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether the own namespace is among those that are shown.
    #[must_use]
    pub const fn shows_own(&self) -> bool {
        self.own.is_some()
    }

    #[must_use]
    pub const fn own(&self) -> NetnsId {
        self.foreign.own()
    }

    /// Reads all namespaces now.
    pub fn sample_all(&mut self) {
        self.sample(None);
        if *self.foreign.aim() != Aim::Nothing {
            self.foreign.read_now();
        }
        self.take_report();
    }

    /// The only namespace that is ever read, if there is only one.
    #[must_use]
    pub const fn only(&self) -> Option<NetnsId> {
        match self.foreign.aim() {
            Aim::Nothing => Some(self.foreign.own()),
            Aim::One(netns) => Some(*netns),
            Aim::All | Aim::Name(_) => None,
        }
    }

    fn published(&self) -> impl Iterator<Item = &Published> {
        self.report
            .iter()
            .flat_map(|report| report.namespaces.values())
    }

    fn seen(&self) -> impl Iterator<Item = &Seen> {
        let others = self.published().map(|published| &published.seen);
        self.own.iter().map(Queues::seen).chain(others)
    }

    /// Every listener of the latest readings.
    #[must_use]
    pub fn listeners(&self) -> BTreeMap<ListenerKey, ListenSocket> {
        self.seen()
            .flat_map(Seen::snapshots)
            .flat_map(|snapshot| &snapshot.listeners)
            .map(|(key, socket)| (*key, socket.clone()))
            .collect()
    }

    #[must_use]
    pub fn inodes(&self) -> BTreeSet<Inode> {
        self.seen()
            .flat_map(Seen::snapshots)
            .flat_map(|snapshot| snapshot.listeners.keys())
            .map(|key| key.inode)
            .collect()
    }

    /// When and how completely the listeners of each namespace were listed.
    #[must_use]
    pub fn listed(&self) -> BTreeMap<NetnsId, Listed> {
        self.seen()
            .map(|seen| (seen.netns, seen.listed()))
            .collect()
    }

    /// Hands every open TCP connection to `each`. `false` when some may be missing.
    pub fn open_connections(&mut self, mut each: impl FnMut(&TcpConnection)) -> bool {
        let own = self
            .own
            .as_mut()
            .is_none_or(|own| own.open_connections(&mut each));
        let others = match self.foreign.aim() {
            Aim::Nothing => true,
            _ => self.foreign.open_connections(each),
        };
        own && others
    }

    /// How well the own namespace is known, or the only one that is asked for.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        match &self.own {
            Some(own) => Some(own.health()),
            None => self.published().next().map(|it| it.health.clone()),
        }
    }

    /// How old that is: the older of TCP and unix.
    #[must_use]
    pub fn age(&self, now: Monotonic) -> Option<Duration> {
        let seen = self.seen().next()?;
        let ages = seen.snapshots().map(|snapshot| now.since(snapshot.taken));
        ages.max()
    }

    /// Whether sockets changed while the kernel listed them.
    #[must_use]
    pub fn was_interrupted(&self) -> bool {
        self.seen()
            .flat_map(Seen::snapshots)
            .any(|snapshot| snapshot.interrupted)
    }

    #[must_use]
    pub fn for_view(&self) -> Vec<Namespace<'_>> {
        let own_name = self
            .report
            .as_ref()
            .map_or(Fact::Unknown, |report| report.own_name.clone());
        let own = self.own.iter().map(|own| (own.seen(), own_name.clone()));
        let others = self
            .published()
            .map(|published| (&published.seen, published.name.clone()));
        own.chain(others)
            .map(|(seen, name)| Namespace {
                netns: seen.netns,
                name,
                is_own: self.own.is_some() && seen.netns == self.own(),
                tcp: seen.tcp.as_ref(),
                unix: seen.unix.as_ref(),
                unix_active: seen.unix_active.as_ref(),
                somaxconn: seen.somaxconn,
            })
            .collect()
    }
}

/// Takes in the samples that are new.
fn fold(ledger: &mut Ledger, folded: &mut BTreeMap<Scope, Monotonic>, seen: &Seen) {
    let samples = [
        (Protocol::Tcp, &seen.tcp, seen.overflow_counter),
        (Protocol::Unix, &seen.unix, None),
    ];
    for (protocol, sample, counter) in samples {
        let scope = Scope {
            netns: seen.netns,
            protocol,
        };
        let Some(sample) = sample else { continue };
        if folded.insert(scope, sample.taken) != Some(sample.taken) {
            let age = Monotonic::now().since(sample.taken);
            let now = SystemTime::now();
            let taken = now.checked_sub(age).unwrap_or(now);
            ledger.fold(scope, sample, taken, counter);
        }
    }
}
