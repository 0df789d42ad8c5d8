//! What a worker's connections are doing, told from what one look over them found and from how its
//! threads work. Pure.
//!
//! The thread that reads a request need not be the one that answers it: puma's reactor and Rainbows!'
//! acceptor read for a pool. There no more turns can be worked on than the pool has free threads; the
//! others wait inside the process, where the kernel sees no queue.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ids::Monotonic,
    view::{Class, WriteEnd},
};

/// A thread that has read so many turns and answered none reads for others. A thread that answers
/// what it reads has read one or two before its first answer.
const PURE_READER: u32 = 3;

/// Less than one answer in so many reads is none of a thread that answers what it reads.
const RARELY: u64 = 16;

/// A thread that waits for events of connections has done so for one of these that it read. The first
/// may have come to it before it was known.
const FRESH: u32 = 2;

/// A thread that has begun so many turns and answered none does not do them one by one.
const SEVERAL: u32 = 2;

/// What one thread has done since the daemon began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    pub id: u32,
    /// Turns that it began to read.
    pub reads: u32,
    /// Turns that it began to answer.
    pub answers: u32,
    /// The part of these that another thread had read.
    pub handed: u32,
    /// It waits for events, be it those of listeners only.
    pub waits_for_events: bool,
    /// Times that it had events of a connection told to it.
    pub registered: u32,
    /// Connections that were accepted after it was first seen, and that it has begun to read.
    pub fresh: u32,
}

/// Connections as one look found them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub connections: u64,
    pub unread: u64,
    pub reading: u64,
    /// Read and not answered, and not waited for.
    pub calling: u64,
    pub writing: u64,
    pub blocked: u64,
    pub parked: u64,
    pub unseen: u64,
    pub oldest: Option<Oldest>,
    /// Of those that are calling.
    pub oldest_calling: Option<Oldest>,
}

/// The oldest turn of some connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Oldest {
    pub began: Monotonic,
    /// Who read it, or writes its answer.
    pub thread: u32,
}

impl Found {
    pub const NONE: Self = Self {
        connections: 0,
        unread: 0,
        reading: 0,
        calling: 0,
        writing: 0,
        blocked: 0,
        parked: 0,
        unseen: 0,
        oldest: None,
        oldest_calling: None,
    };

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            unread: self.unread + other.unread,
            reading: self.reading + other.reading,
            calling: self.calling + other.calling,
            writing: self.writing + other.writing,
            blocked: self.blocked + other.blocked,
            parked: self.parked + other.parked,
            unseen: self.unseen + other.unseen,
            oldest: [self.oldest, other.oldest].into_iter().flatten().min(),
            oldest_calling: [self.oldest_calling, other.oldest_calling]
                .into_iter()
                .flatten()
                .min(),
        }
    }
}

/// The gauges of the view; `None` is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    pub waiting: Option<u64>,
    pub reading: Option<u64>,
    pub calling: Option<u64>,
    pub writing: u64,
    pub blocked: u64,
    pub idle: Option<u64>,
}

impl Gauges {
    /// Unknown as soon as one part is.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
        Self {
            waiting: sum(self.waiting, other.waiting),
            reading: sum(self.reading, other.reading),
            calling: sum(self.calling, other.calling),
            writing: self.writing + other.writing,
            blocked: self.blocked + other.blocked,
            idle: sum(self.idle, other.idle),
        }
    }

    /// None of anything.
    pub const NONE: Self = Self {
        waiting: Some(0),
        reading: Some(0),
        calling: Some(0),
        writing: 0,
        blocked: 0,
        idle: Some(0),
    };
}

impl Thread {
    /// It reads for others. Now and then such a thread answers itself: puma's reactor writes what is to
    /// be said of a request that it cannot read.
    const fn reads_for_others(&self) -> bool {
        self.reads >= PURE_READER && self.answers as u64 * RARELY <= self.reads as u64
    }

    /// It is one of those that answer.
    const fn is_handler(&self) -> bool {
        self.answers > 0 && !self.reads_for_others()
    }
}

/// How a process works, by what its living threads have done. `living`: how many it has, where known.
#[must_use]
pub fn class(threads: &[Thread], living: Option<u32>) -> Class {
    let handlers = || threads.iter().filter(|thread| thread.is_handler());
    let mut waiting = handlers().filter(|thread| thread.waits_for_events);
    if waiting.clone().any(|thread| thread.registered > 0) {
        return Class::Loop;
    }
    if waiting.any(|thread| thread.fresh < FRESH) {
        return Class::Learning;
    }
    let handed = threads.iter().any(|thread| thread.handed > 0);
    let readers = || threads.iter().filter(|thread| !thread.is_handler());
    if handed && readers().any(Thread::reads_for_others) {
        Class::Handoff
    } else if living == Some(1) {
        Class::Direct
    } else if handlers().next().is_none()
        || readers().any(|thread| thread.reads >= SEVERAL || handed && thread.reads > 0)
    {
        Class::Learning
    } else {
        Class::Direct
    }
}

/// Whether the thread that has read a turn is the one that is at it.
#[must_use]
pub fn works_itself(class: Class, threads: &[Thread], reader: u32) -> bool {
    match class {
        Class::Direct | Class::Loop => true,
        Class::Handoff | Class::Learning => threads
            .iter()
            .any(|thread| thread.id == reader && thread.is_handler()),
    }
}

/// Whether a thread that answers waits for events after it has done so.
#[must_use]
pub fn waits_for_events(threads: &[Thread]) -> bool {
    let mut handlers = threads.iter().filter(|thread| thread.is_handler());
    handlers.any(|thread| thread.waits_for_events)
}

/// How many threads a process has, as was `told` a moment ago: it may have had only its first one then,
/// and another has read since.
#[must_use]
pub fn living(process: u32, threads: &[Thread], told: Option<u32>) -> Option<u32> {
    let has_others = threads.iter().any(|thread| thread.id != process);
    told.filter(|told| *told > 1 || !has_others)
}

/// Threads that answer.
#[must_use]
pub fn handlers(threads: &[Thread]) -> u32 {
    let handlers = threads.iter().filter(|thread| thread.is_handler());
    u32::try_from(handlers.count()).unwrap_or(u32::MAX)
}

/// Threads of a pool: those that have answered, and those that are called as these are, but for a
/// number at the end, and have only not had to answer yet. Where some answer what others read, those
/// that are called otherwise and answer only what they read themselves are no part of it: puma's control
/// server is a pool of its own. `names`: of the process's living threads; `process`: its own name, which
/// threads without a name of theirs have.
#[must_use]
pub fn pool(threads: &[Thread], names: &BTreeMap<u32, &[u8]>, process: &[u8]) -> u32 {
    let name_of = |thread: &Thread| {
        let name = kind(names.get(&thread.id)?);
        (name != kind(process)).then_some(name)
    };
    let handlers = || threads.iter().filter(|thread| thread.is_handler());
    let for_others: BTreeSet<&[u8]> = handlers()
        .filter(|thread| thread.handed > 0)
        .filter_map(name_of)
        .collect();
    let is_of_pool = |thread: &&Thread| {
        for_others.is_empty() || name_of(thread).is_none_or(|name| for_others.contains(name))
    };
    let answered = handlers().filter(is_of_pool).count();
    let kinds: BTreeSet<&[u8]> = handlers().filter(is_of_pool).filter_map(name_of).collect();
    let only_reads = |id: u32| {
        let thread = threads.iter().find(|thread| thread.id == id);
        thread.is_some_and(|thread| !thread.is_handler() && thread.reads >= SEVERAL)
    };
    let alike = names
        .iter()
        .filter(|(id, name)| kinds.contains(kind(name)) && !only_reads(**id))
        .count();
    u32::try_from(answered.max(alike)).unwrap_or(u32::MAX)
}

/// A thread's name without its number among those of one kind: `puma srv tp 003`, `worker-3`. Not that
/// of a line, as in `client.rb:36`.
fn kind(name: &[u8]) -> &[u8] {
    let digits = name
        .iter()
        .rev()
        .take_while(|it| it.is_ascii_digit())
        .count();
    let rest = &name[..name.len() - digits];
    match rest {
        [kind @ .., b' ' | b'-' | b'_' | b'#'] if digits > 0 => kind,
        _ => name,
    }
}

/// Threads of a pool that could begin a turn, or have one. `None` where more connections are written to
/// or waited for than there are threads: then others than they do so, and how many is not known (a
/// response that the application has taken over, a websocket).
fn free_for_calls(handlers: u32, found: &Found) -> Option<u64> {
    u64::from(handlers).checked_sub(found.writing + found.parked)
}

/// The gauges of one process, over all its listeners.
///
/// Where the end of an answer is not seen, the end of a request is not either. What was found as
/// writing may then be idle, so it tells nothing of which threads of a pool are free.
#[must_use]
pub fn gauges(class: Class, handlers: u32, found: &Found, write_end: WriteEnd) -> Gauges {
    let calling = match class {
        Class::Direct | Class::Loop => Some(found.calling),
        Class::Handoff | Class::Learning if found.calling == 0 => Some(0),
        Class::Handoff if write_end == WriteEnd::Seen => {
            free_for_calls(handlers, found).map(|free| found.calling.min(free))
        }
        Class::Handoff | Class::Learning => None,
    };
    with_calling(calling, found, write_end)
}

/// Of what was found, `calling` is worked on; what else was read waits.
fn with_calling(calling: Option<u64>, found: &Found, write_end: WriteEnd) -> Gauges {
    let sees_ends = write_end == WriteEnd::Seen;
    let busy = found.unread + found.reading + found.calling + found.writing;
    Gauges {
        waiting: calling.map(|calling| found.unread + (found.calling - calling)),
        reading: sees_ends.then_some(found.reading),
        calling,
        writing: found.writing,
        blocked: found.blocked,
        idle: (sees_ends || found.writing == 0).then(|| found.connections.saturating_sub(busy)),
    }
}

/// The part of one listener in the gauges of a process that has `whole` on all its listeners. Which of
/// the turns that were read for a pool are being worked on is not known, so where there are such of
/// several listeners, and more than the pool can work on, the part is not known either.
#[must_use]
pub fn part(
    class: Class,
    handlers: u32,
    part: &Found,
    whole: &Found,
    write_end: WriteEnd,
) -> Gauges {
    if class != Class::Handoff || part.calling == 0 || write_end == WriteEnd::NextRead {
        return gauges(class, handlers, part, write_end);
    }
    let is_only_one = part.calling == whole.calling;
    let calling = free_for_calls(handlers, whole).and_then(|free| {
        let is_certain = is_only_one || whole.calling <= free;
        is_certain.then(|| part.calling.min(free))
    });
    with_calling(calling, part, write_end)
}

/// Threads that are in a turn; `None` for event loops, where one thread has many, and while it is not
/// known which threads answer, or others than those of the pool do.
#[must_use]
pub fn busy_threads(class: Class, handlers: u32, gauges: &Gauges) -> Option<u32> {
    let busy = gauges.calling? + gauges.writing;
    let threads = |busy: u64| u32::try_from(busy).unwrap_or(u32::MAX);
    match class {
        // It is the thread itself that waits for the rest of a request.
        Class::Direct => Some(threads(busy + gauges.reading?)),
        Class::Handoff => Some(threads(busy)).filter(|busy| *busy <= handlers),
        Class::Loop | Class::Learning => None,
    }
}

#[cfg(test)]
mod tests;
