//! Series of listeners: one for each network namespace, protocol and address.
//!
//! Several sockets on one address (SO_REUSEPORT, or a unix path that was bound anew) are one series.
//! A sum is known only where all its parts are. What sockets have counted that are gone by now is
//! [`Continuity`]'s.

use std::collections::BTreeMap;

use super::{continuity::Continuity, netns, sample::Sample, spread::Spread};
use crate::view::{Connections, Durations, Listener, Queue, Turns, View};

/// What makes a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) netns: u32,
    pub(super) protocol: String,
    pub(super) address: String,
}

impl Key {
    pub(super) fn of(listener: &Listener) -> Self {
        Self {
            netns: listener.netns.inode,
            protocol: listener.protocol.clone(),
            address: listener.address.clone(),
        }
    }
}

/// Listeners by the series that they are in, in the order of the view.
pub(super) fn by_key(view: &View) -> BTreeMap<Key, Vec<&Listener>> {
    let mut series: BTreeMap<Key, Vec<&Listener>> = BTreeMap::new();
    for listener in &view.listeners {
        series.entry(Key::of(listener)).or_default().push(listener);
    }
    series
}

/// One series with its figures.
#[derive(Debug)]
pub(super) struct Series<'v> {
    pub(super) labels: Vec<String>,
    is_tcp: bool,
    members: Vec<&'v Listener>,
    shows_members: bool,
    pub(super) levels: Levels,
    pub(super) totals: Totals,
}

/// Those of the listeners that have some, in the order of their keys.
pub(super) fn series<'v>(view: &'v View, continuity: &Continuity) -> Vec<Series<'v>> {
    let names = netns::labels(view);
    let one = |(key, members): (Key, Vec<&'v Listener>)| {
        let kept = continuity.of_listener(&key)?;
        let totals = members.iter().map(|it| Totals::of(it));
        let totals = totals
            .reduce(|sum, more| sum.with(&more))
            .unwrap_or_default();
        let place = kept.place.clone();
        Some(Series {
            levels: levels(view, &members),
            totals: kept.on_top_of(totals),
            is_tcp: key.protocol == "tcp",
            shows_members: kept.shows_members,
            labels: vec![
                key.address,
                key.protocol,
                names.get(&key.netns).cloned().unwrap_or_default(),
                place.container,
                place.service,
            ],
            members,
        })
    };
    by_key(view).into_iter().filter_map(one).collect()
}

impl Series<'_> {
    /// A histogram. Most unix listeners of a host never count anything, and it is 17 lines.
    pub(super) fn spread(&self, which: fn(&Totals) -> Option<&Spread>) -> Option<Sample> {
        let spread = which(&self.totals)?;
        let is_shown = self.is_tcp || spread.count() > 0;
        is_shown.then(|| Sample::Spread(spread.clone()))
    }

    /// The queue of each member, where there are several, by their numbers from 0 on.
    pub(super) fn queues(&self) -> impl Iterator<Item = (String, Sample)> {
        let several = self.shows_members.then_some(&self.members);
        // By inode: in the order in which they were made, on most hosts.
        let mut members: Vec<&Listener> = several.into_iter().flatten().copied().collect();
        members.sort_by_key(|member| member.inode);
        let numbered = members.into_iter().enumerate();
        numbered.filter_map(|(number, member)| {
            Some((number.to_string(), Sample::count(member.queue.queued?)?))
        })
    }
}

/// What there is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Levels {
    pub(super) queued: Option<u64>,
    pub(super) limit: Option<u64>,
    pub(super) peak: Option<u64>,
    pub(super) active: Option<u64>,
    pub(super) half_closed: Option<u64>,
    pub(super) phases: Phases,
    pub(super) oldest_us: Option<u64>,
}

/// What a thread or the network is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Phases {
    pub(super) waiting: Option<u64>,
    pub(super) reading: Option<u64>,
    pub(super) calling: Option<u64>,
    pub(super) writing: Option<u64>,
    pub(super) blocked: Option<u64>,
}

impl Phases {
    /// Those that are known, by their names.
    pub(super) fn named(self) -> impl Iterator<Item = (String, Sample)> {
        let Self {
            waiting,
            reading,
            calling,
            writing,
            blocked,
        } = self;
        let all = [
            ("waiting", waiting),
            ("reading", reading),
            ("calling", calling),
            ("writing", writing),
            ("blocked", blocked),
        ];
        all.into_iter()
            .filter_map(|(name, count)| Some((name.to_owned(), Sample::count(count?)?)))
    }
}

/// A group is told as a whole: of threads that serve several of its members it is known better what
/// they are at on all of these than on each.
fn levels(view: &View, members: &[&Listener]) -> Levels {
    let group = members.first().and_then(|first| first.group.as_ref());
    let group = view.groups.iter().find(|it| Some(&it.id) == group);
    if let Some(group) = group.filter(|it| members.len() > 1 && it.members.len() == members.len()) {
        return Levels::of(
            &group.queue,
            group.connections.as_ref(),
            group.turns.as_ref(),
        );
    }
    let each = members
        .iter()
        .map(|it| Levels::of(&it.queue, it.connections.as_ref(), it.turns.as_ref()));
    each.reduce(|sum, more| sum.with(&more)).unwrap_or_default()
}

impl Levels {
    fn of(queue: &Queue, connections: Option<&Connections>, turns: Option<&Turns>) -> Self {
        Self {
            queued: queue.queued.map(u64::from),
            limit: queue.limit.map(u64::from),
            peak: queue.peak.map(u64::from),
            active: connections.and_then(|it| it.active),
            half_closed: connections.and_then(|it| it.half_closed),
            phases: turns.map_or_else(Phases::default, |it| Phases {
                waiting: it.waiting,
                reading: it.reading,
                calling: it.calling,
                writing: it.writing,
                blocked: it.blocked,
            }),
            oldest_us: turns.and_then(|it| it.oldest_us),
        }
    }

    fn with(&self, other: &Self) -> Self {
        let (mine, theirs) = (self.phases, other.phases);
        Self {
            queued: plus(self.queued, other.queued),
            limit: plus(self.limit, other.limit),
            // They need not have been at one time.
            peak: None,
            active: plus(self.active, other.active),
            half_closed: plus(self.half_closed, other.half_closed),
            phases: Phases {
                waiting: plus(mine.waiting, theirs.waiting),
                reading: plus(mine.reading, theirs.reading),
                calling: plus(mine.calling, theirs.calling),
                writing: plus(mine.writing, theirs.writing),
                blocked: plus(mine.blocked, theirs.blocked),
            },
            oldest_us: self.oldest_us.max(other.oldest_us),
        }
    }
}

/// What has been counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) overflows: Option<u64>,
    pub(super) drops: Option<u64>,
    pub(super) accepts: Option<u64>,
    pub(super) late_accepts: Option<u64>,
    pub(super) closes: Option<u64>,
    pub(super) aborted: Option<u64>,
    pub(super) turns: Option<u64>,
    pub(super) wait: Option<Spread>,
    pub(super) lifetime: Option<Spread>,
    pub(super) read_wait: Option<Spread>,
    pub(super) answer: Option<Spread>,
    pub(super) write: Option<Spread>,
}

impl Totals {
    /// Always of single sockets: the sum of a group's microseconds is rounded once, that of its
    /// members each, and what is left when one of them goes must not be less.
    pub(super) fn of(listener: &Listener) -> Self {
        let (queue, turns) = (&listener.queue, listener.turns.as_ref());
        let connections = listener.connections.as_ref();
        let spread = |durations: Option<&Durations>| durations.and_then(Spread::of);
        Self {
            overflows: queue.overflows,
            drops: queue.drops,
            accepts: connections.and_then(|it| it.accepts),
            late_accepts: connections.and_then(|it| it.late_accepts),
            closes: connections.and_then(|it| it.closes),
            aborted: connections.and_then(|it| it.aborted),
            turns: turns.map(|it| it.total),
            wait: spread(connections.and_then(|it| it.wait.as_ref())),
            lifetime: spread(connections.and_then(|it| it.lifetime.as_ref())),
            read_wait: spread(turns.and_then(|it| it.read_wait.as_ref())),
            answer: spread(turns.map(|it| &it.answer)),
            write: spread(turns.map(|it| &it.write)),
        }
    }

    /// The sum, where both are known.
    pub(super) fn with(&self, other: &Self) -> Self {
        self.joined(other, plus, |a, b| Some(a.as_ref()?.with(b.as_ref()?)))
    }

    /// These, and `more` where that is known.
    pub(super) fn and(&self, more: &Self) -> Self {
        self.joined(
            more,
            |mine, more| plus(mine, more.or(Some(0))),
            |mine, more| match (mine, more) {
                (Some(mine), Some(more)) => Some(mine.with(more)),
                (mine, _) => mine.clone(),
            },
        )
    }

    /// The sum of what is known.
    pub(super) fn either(&self, other: &Self) -> Self {
        self.joined(
            other,
            |a, b| a.map_or(b, |a| Some(a.saturating_add(b.unwrap_or(0)))),
            |a, b| match (a, b) {
                (Some(a), Some(b)) => Some(a.with(b)),
                (a, b) => a.clone().or_else(|| b.clone()),
            },
        )
    }

    /// What of these `now` does not have any more.
    pub(super) fn less(&self, now: &Self) -> Self {
        self.joined(
            now,
            |was, now| Some(was?.saturating_sub(now?)),
            |was, now| Some(was.as_ref()?.less(now.as_ref()?)),
        )
    }

    pub(super) fn is_nothing(&self) -> bool {
        let numbers = [
            self.overflows,
            self.drops,
            self.accepts,
            self.late_accepts,
            self.closes,
            self.aborted,
            self.turns,
        ];
        let spreads = [
            &self.wait,
            &self.lifetime,
            &self.read_wait,
            &self.answer,
            &self.write,
        ];
        let mut counts = spreads.into_iter().flatten().map(Spread::count);
        numbers.into_iter().flatten().all(|number| number == 0) && counts.all(|count| count == 0)
    }

    fn joined(
        &self,
        other: &Self,
        number: impl Fn(Option<u64>, Option<u64>) -> Option<u64>,
        spread: impl Fn(&Option<Spread>, &Option<Spread>) -> Option<Spread>,
    ) -> Self {
        Self {
            overflows: number(self.overflows, other.overflows),
            drops: number(self.drops, other.drops),
            accepts: number(self.accepts, other.accepts),
            late_accepts: number(self.late_accepts, other.late_accepts),
            closes: number(self.closes, other.closes),
            aborted: number(self.aborted, other.aborted),
            turns: number(self.turns, other.turns),
            wait: spread(&self.wait, &other.wait),
            lifetime: spread(&self.lifetime, &other.lifetime),
            read_wait: spread(&self.read_wait, &other.read_wait),
            answer: spread(&self.answer, &other.answer),
            write: spread(&self.write, &other.write),
        }
    }
}

/// Whether a socket has counted less than it had.
pub(super) fn has_fallen(was: &Listener, now: &Listener) -> bool {
    counts(was)
        .into_iter()
        .zip(counts(now))
        .any(|(was, now)| was.zip(now).is_some_and(|(was, now)| now < was))
}

/// All numbers of the totals, without looking at buckets.
fn counts(listener: &Listener) -> [Option<u64>; 12] {
    let (queue, turns) = (&listener.queue, listener.turns.as_ref());
    let connections = listener.connections.as_ref();
    let count = |durations: Option<&Durations>| durations.map(|it| it.count);
    [
        queue.overflows,
        queue.drops,
        connections.and_then(|it| it.accepts),
        connections.and_then(|it| it.late_accepts),
        connections.and_then(|it| it.closes),
        connections.and_then(|it| it.aborted),
        turns.map(|it| it.total),
        count(connections.and_then(|it| it.wait.as_ref())),
        count(connections.and_then(|it| it.lifetime.as_ref())),
        count(turns.and_then(|it| it.read_wait.as_ref())),
        count(turns.map(|it| &it.answer)),
        count(turns.map(|it| &it.write)),
    ]
}

fn plus(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    Some(a?.saturating_add(b?))
}
