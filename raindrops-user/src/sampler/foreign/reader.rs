//! What the thread of [`super::Foreign`] does: finds namespaces, enters each, reads, comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
    time::Duration,
};

use super::{Aim, BATCH, Cost, Found, Published, Report};
use crate::{
    ids::{Monotonic, NetnsId},
    processor_time,
    sampler::queues::Queues,
    source::{
        diag::TcpConnection,
        netns::{Home, Inhabitants, Names, VisitError, doors, last_pid},
    },
};

/// Namespaces that are read; those beyond are counted.
const MOST: usize = 256;
/// Readings take at most one part in this of one processor.
const READING_SHARE: u32 = 100;
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(5);
/// The same of looks where the processes are.
const LOOKING_SHARE: u32 = 500;
const LATEST_LOOK: Duration = Duration::from_secs(10);
/// A process enters its namespace within this time of being made, or is found by a later look.
const SETTLED: Duration = Duration::from_secs(3);
/// How old the last reading of a namespace that refuses may get.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between looks at the own namespace's name, where no other namespace is read.
const NAMED: Duration = Duration::from_secs(10);

pub(super) struct Reader {
    own: NetnsId,
    aim: Aim,
    home: Option<Home>,
    names: Names,
    inhabitants: Inhabitants,
    looked: Option<Monotonic>,
    /// The pid that was given out last, and when that was seen to have changed.
    last_pid: Option<u32>,
    last_birth: Monotonic,
    /// When this reading began.
    began: Monotonic,
    queues: BTreeMap<NetnsId, Queues>,
    cost: Cost,
    next: Monotonic,
}

/// What came of visiting a namespace.
enum Visit<T> {
    Done(T),
    Gone,
    Refused(VisitError),
}

impl Reader {
    pub fn new(own: NetnsId, aim: Aim) -> Self {
        Self {
            own,
            aim,
            home: None,
            names: Names::default(),
            inhabitants: Inhabitants::default(),
            looked: None,
            last_pid: None,
            last_birth: Monotonic::from_nanos(0),
            began: Monotonic::from_nanos(0),
            queues: BTreeMap::new(),
            cost: Cost::default(),
            next: Monotonic::from_nanos(0),
        }
    }

    /// Until the next reading.
    pub fn rest(&self) -> Duration {
        self.next.since(Monotonic::now())
    }

    /// Reads every namespace.
    ///
    /// # Errors
    /// When the thread must end.
    pub fn read(&mut self) -> Result<Report, VisitError> {
        let began = self.begin();
        let (wanted, beyond) = self.wanted();
        self.queues.retain(|netns, _| wanted.contains(netns));
        let mut refused = BTreeMap::new();
        let mut gone = BTreeSet::new();
        let started = processor_time::of_this_thread();
        for netns in &wanted {
            match self.sample(*netns, began)? {
                Visit::Done(()) => {}
                Visit::Gone => {
                    gone.insert(*netns);
                }
                Visit::Refused(error) => {
                    refused.insert(*netns, error.to_string());
                }
            }
        }
        self.cost.reading = processor_time::of_this_thread().saturating_sub(started);
        self.forget(&gone, &refused);
        let interval = match self.aim {
            Aim::Nothing => NAMED,
            _ => (self.cost.reading * READING_SHARE).clamp(SOONEST, LATEST),
        };
        self.next = Monotonic(began.0 + interval);
        Ok(Report {
            taken: began,
            own_name: self.names.of(self.own),
            namespaces: self.published(),
            is_missing: matches!(self.aim, Aim::Name(_) | Aim::One(_))
                && self.queues.is_empty()
                && refused.is_empty(),
            refused,
            beyond,
            unreadable: self.inhabitants.unreadable,
            strays: self.names.strays(),
            cost: self.cost,
        })
    }

    /// Forgets what is gone. One that refuses stays for a while, with what was read of it last: it may
    /// refuse for one reading only, and its peaks and totals would be lost.
    fn forget(&mut self, gone: &BTreeSet<NetnsId>, refused: &BTreeMap<NetnsId, String>) {
        let now = self.began;
        self.queues.retain(|netns, queues| {
            let is_young = || {
                queues
                    .seen()
                    .snapshots()
                    .any(|it| now.since(it.taken) < PATIENCE)
            };
            !gone.contains(netns) && (!refused.contains_key(netns) || is_young())
        });
    }

    /// Hands every open connection of the namespaces of the last reading to `to`.
    ///
    /// # Errors
    /// When the thread must end.
    pub fn open_connections(&mut self, to: &SyncSender<Found>) -> Result<(), VisitError> {
        self.begin();
        let mut complete = true;
        let namespaces: Vec<NetnsId> = self.queues.keys().copied().collect();
        for netns in namespaces {
            let mut batch = Vec::with_capacity(BATCH);
            let mut send = |connection: &TcpConnection| {
                batch.push(*connection);
                if batch.len() == BATCH {
                    let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                    // Fails when the sampler waits no more.
                    let _ = to.send(Found::Some(full));
                }
            };
            let visit = self.visit(netns, |queues| queues.open_connections(&mut send))?;
            let _ = to.send(Found::Some(batch));
            complete &= match visit {
                Visit::Done(complete) => complete,
                Visit::Gone => true,
                Visit::Refused(_) => false,
            };
        }
        let _ = to.send(Found::End { complete });
        Ok(())
    }

    /// Finds out which namespaces there are, as far as that is due.
    fn begin(&mut self) -> Monotonic {
        self.began = Monotonic::now();
        self.names = Names::read(Path::new("/"));
        if self.aim != Aim::Nothing && self.must_look() {
            self.look();
        }
        self.began
    }

    /// While no process is made, hardly any can have gone elsewhere.
    fn must_look(&mut self) -> bool {
        let last_pid = last_pid(Path::new("/proc"));
        if last_pid.is_none() || last_pid != self.last_pid {
            self.last_pid = last_pid;
            self.last_birth = self.began;
        }
        let Some(looked) = self.looked else {
            return true;
        };
        let soonest = (self.cost.looking * LOOKING_SHARE).clamp(SOONEST, LATEST_LOOK);
        let is_quiet = self.began.since(self.last_birth) >= SETTLED;
        let interval = if is_quiet { LATEST_LOOK } else { soonest };
        self.began.since(looked) >= interval
    }

    fn look(&mut self) {
        let started = processor_time::of_this_thread();
        self.inhabitants = Inhabitants::look(Path::new("/proc"));
        self.cost.looking = processor_time::of_this_thread().saturating_sub(started);
        self.cost.processes = self.inhabitants.processes;
        self.looked = Some(self.began);
    }

    /// Namespaces to read, and how many there are beyond.
    fn wanted(&self) -> (BTreeSet<NetnsId>, usize) {
        match &self.aim {
            Aim::Nothing => (BTreeSet::new(), 0),
            Aim::Name(name) => (self.names.find(name).into_iter().collect(), 0),
            Aim::One(netns) => ([*netns].into(), 0),
            Aim::All => {
                let named = || self.names.iter().map(|(netns, _)| netns);
                let all: BTreeSet<NetnsId> = named()
                    .chain(self.inhabitants.namespaces())
                    .filter(|netns| *netns != self.own)
                    .collect();
                // Those that were read stay, so that their figures do.
                let first = self.queues.keys().copied().chain(named());
                chosen(&all, first)
            }
        }
    }

    fn sample(&mut self, netns: NetnsId, now: Monotonic) -> Result<Visit<()>, VisitError> {
        self.visit(netns, |queues| {
            queues.sample(now, None);
        })
    }

    /// By the first way in that works. What a namespace's processes were may be old: before it
    /// counts as gone they are looked for again.
    fn visit<T>(
        &mut self,
        netns: NetnsId,
        mut read: impl FnMut(&mut Queues) -> T,
    ) -> Result<Visit<T>, VisitError> {
        let ways = doors(netns, &self.names, &self.inhabitants);
        let visit = self.enter(netns, &ways, &mut read)?;
        if !matches!(visit, Visit::Gone) || self.looked == Some(self.began) {
            return Ok(visit);
        }
        self.look();
        let ways = doors(netns, &self.names, &self.inhabitants);
        self.enter(netns, &ways, &mut read)
    }

    fn enter<T>(
        &mut self,
        netns: NetnsId,
        ways: &[PathBuf],
        read: &mut impl FnMut(&mut Queues) -> T,
    ) -> Result<Visit<T>, VisitError> {
        let home = match self.home.take() {
            Some(home) => home,
            None => match Home::here() {
                Ok(home) => home,
                Err(error) => return Ok(Visit::Refused(error)),
            },
        };
        let home = self.home.insert(home);
        let queues = self
            .queues
            .entry(netns)
            .or_insert_with(|| Queues::of(netns));
        let mut outcome = Visit::Gone;
        for door in ways {
            let result = home.visit(netns, door, || {
                queues.connect();
                let result = read(queues);
                queues.disconnect();
                result
            });
            match result {
                Ok(result) => return Ok(Visit::Done(result)),
                Err(VisitError::Gone) => {}
                Err(error @ VisitError::Stranded(_)) => return Err(error),
                Err(error) => outcome = Visit::Refused(error),
            }
        }
        Ok(outcome)
    }

    fn published(&self) -> BTreeMap<NetnsId, Published> {
        let published = |(netns, queues): (&NetnsId, &Queues)| {
            let published = Published {
                name: self.names.of(*netns),
                seen: queues.seen().clone(),
                health: queues.health(),
            };
            (*netns, published)
        };
        self.queues.iter().map(published).collect()
    }
}

/// At most [`MOST`] of `all`, preferably those that come `first`, and how many are left.
fn chosen(
    all: &BTreeSet<NetnsId>,
    first: impl Iterator<Item = NetnsId>,
) -> (BTreeSet<NetnsId>, usize) {
    let mut chosen = BTreeSet::new();
    for netns in first
        .filter(|netns| all.contains(netns))
        .chain(all.iter().copied())
    {
        if chosen.len() == MOST {
            break;
        }
        chosen.insert(netns);
    }
    let beyond = all.len() - chosen.len();
    (chosen, beyond)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        time::Duration,
    };

    use super::{Aim, MOST, PATIENCE, Reader, chosen};
    use crate::{
        ids::{Monotonic, NetnsId},
        sampler::queues::Queues,
    };

    #[test]
    fn a_namespace_that_refuses_keeps_its_last_reading_for_a_while() {
        let read = Monotonic::now();
        let mut reader = Reader::new(NetnsId(1), Aim::All);
        for netns in [NetnsId(2), NetnsId(3)] {
            let mut queues = Queues::open().unwrap();
            queues.sample(read, None);
            reader.queues.insert(netns, queues);
        }
        // Never read.
        reader.queues.insert(NetnsId(4), Queues::of(NetnsId(4)));
        let why = "not permitted".to_owned();
        let refused = BTreeMap::from([(NetnsId(2), why.clone()), (NetnsId(4), why)]);
        let kept = |reader: &Reader| reader.published().into_keys().collect::<Vec<_>>();

        reader.began = Monotonic(read.0 + PATIENCE - Duration::from_secs(1));
        reader.forget(&BTreeSet::new(), &refused);
        assert_eq!(kept(&reader), [NetnsId(2), NetnsId(3)]);
        reader.forget(&[NetnsId(3)].into(), &refused);
        assert_eq!(kept(&reader), [NetnsId(2)]);
        reader.began = Monotonic(Monotonic::now().0 + PATIENCE);
        reader.forget(&BTreeSet::new(), &refused);
        assert_eq!(kept(&reader), []);
    }

    #[test]
    fn of_too_many_the_known_and_the_named_are_read() {
        let most = u32::try_from(MOST).unwrap();
        let all: BTreeSet<NetnsId> = (0..most + 10).map(NetnsId).collect();
        let known = [most + 9, most + 3, most + 20].map(NetnsId);
        let (read, beyond) = chosen(&all, known.into_iter());
        assert_eq!((read.len(), beyond), (MOST, 10));
        assert!(read.contains(&NetnsId(most + 9)) && read.contains(&NetnsId(most + 3)));
        assert!(!read.contains(&NetnsId(most + 20)));
        let few = [1, 2].map(NetnsId).into();
        assert_eq!(chosen(&few, known.into_iter()), (few.clone(), 0));
    }
}
