//! Slabs that do not say what they are, recognised by who has them mapped and what is in them.
//!
//! From processes and bytes to slabs: nothing is read here and no clock asked. What cannot be told
//! is not shown, and what was told once is kept while the memory is the same: a slab in which all is
//! zero says nothing by itself.

mod clients;
mod counters;
mod found;
mod host;
mod nginx;
#[cfg(test)]
mod tests;
mod ticks;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use self::host::{Host, stride};
use self::{
    found::{Found, found, gauge, is_anonymous, is_in_memory, is_memfd, level},
    ticks::{Ticks, Verdict, Writers},
    words::Words,
};
use super::maps::{Mapping, Maps};
use crate::{
    ids::{Monotonic, Pid},
    snapshot::slabs::{Memory, Slab, SlabKind, Suspect},
    view::servers::{Kind, Role},
};

/// The longest that is read of such memory.
pub const LONGEST: u64 = 64 * 1024;

/// A process, and what it has mapped.
#[derive(Clone, Copy, Debug)]
pub struct Mapped<'a> {
    pub process: &'a Suspect,
    pub maps: &'a Maps,
    /// That is known, and not merely not read yet.
    pub is_read: bool,
}

impl Mapped<'_> {
    fn is(self, kind: Kind) -> bool {
        self.process.member.kind == kind
    }

    fn is_worker(self) -> bool {
        self.process.member.role == Role::Worker
    }
}

/// When the bytes were copied.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    pub began: Monotonic,
    pub ended: Monotonic,
    /// How long the host has slept since it was started, which processes' start times include.
    pub suspended: Duration,
}

/// Whether such memory of a process is worth reading.
#[must_use]
pub fn is_candidate(process: Mapped<'_>, mapping: &Mapping) -> bool {
    if mapping.length > LONGEST {
        return false;
    }
    let is_of_nginx = process.is(Kind::Nginx) && process.maps.has_nginx && is_anonymous(mapping);
    let is_of_raindrops = process.maps.has_raindrops
        && (is_anonymous(mapping) || !is_in_memory(mapping) || is_memfd(mapping));
    is_of_nginx || is_of_raindrops
}

/// Tells what memory is, and remembers what it told.
#[derive(Debug)]
pub struct Recogniser {
    host: Host,
    known: BTreeMap<Memory, Known>,
    /// Servers whose workers count their clients, by id.
    counts_clients: BTreeSet<String>,
    /// When the bytes of the last look were begun to be copied.
    last: Option<Monotonic>,
}

/// What has been seen of one memory.
#[derive(Debug, Default)]
struct Known {
    words: Option<Words>,
    /// Counters up to the last that was ever other than zero.
    used: usize,
    /// One of the first two has been seen to fall.
    fell: bool,
    /// All workers that a server had at one time have it mapped.
    was_whole: bool,
    ticks: Ticks,
    is_nginx: bool,
    was_shown: bool,
}

/// All processes of a server.
type Family<'a> = BTreeMap<Pid, Mapped<'a>>;

impl Recogniser {
    #[must_use]
    pub const fn new(host: Host) -> Self {
        Self {
            host,
            known: BTreeMap::new(),
            counts_clients: BTreeSet::new(),
            last: None,
        }
    }

    /// Tells what each memory is, where it can be told. `bytes` has what was read of each candidate.
    #[must_use]
    pub fn recognise(
        &mut self,
        processes: &BTreeMap<Pid, Mapped<'_>>,
        bytes: &BTreeMap<Memory, Vec<u8>>,
        copied: Copied,
    ) -> Vec<Slab> {
        let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
        for (pid, mapped) in processes {
            let member = &mapped.process.member;
            if let (Some(server), true) = (&member.server, member.role != Role::Holder) {
                families.entry(server).or_default().insert(*pid, *mapped);
            }
        }
        let mapped: BTreeSet<Memory> = processes
            .values()
            .flat_map(|it| it.maps.shared.iter().map(|it| it.memory))
            .collect();
        self.known.retain(|memory, _| mapped.contains(memory));
        self.counts_clients
            .retain(|server| families.contains_key(server.as_str()));

        let mut slabs = Vec::new();
        let mut by_server: BTreeMap<Option<&str>, Vec<Found<'_>>> = BTreeMap::new();
        for (memory, bytes) in bytes {
            let found = found(processes, *memory, bytes);
            by_server
                .entry(found.as_ref().and_then(|it| it.server))
                .or_default()
                .extend(found);
        }
        for (server, found) in by_server {
            let family = server.and_then(|server| families.get(server));
            let (of_nginx, of_raindrops): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|it| it.holders.values().all(|it| it.is(Kind::Nginx)));
            slabs.extend(self.of_nginx(&of_nginx, copied));
            slabs.extend(self.of_raindrops(family, &of_raindrops, copied));
        }
        self.last = Some(copied.began);
        slabs
    }

    /// The figures of `stub_status`, of which a server has one memory.
    fn of_nginx(&mut self, found: &[Found<'_>], copied: Copied) -> Option<Slab> {
        let mut are = Vec::new();
        for it in found {
            if it.server.is_none() || !is_anonymous(it.mapping) {
                continue;
            }
            let known = self.known.entry(it.memory).or_default();
            let figures = nginx::figures(it.bytes);
            known.is_nginx = figures
                .as_ref()
                .is_some_and(|figures| known.is_nginx || figures.are_counted());
            if let (true, Some(figures)) = (known.is_nginx, figures) {
                are.push((it, figures));
            }
        }
        let [(it, figures)] = &are[..] else {
            return None;
        };
        let (fields, totals) = figures.as_fields();
        Some(it.slab(SlabKind::NginxStub, fields, totals, copied))
    }

    fn of_raindrops(
        &mut self,
        family: Option<&Family<'_>>,
        found: &[Found<'_>],
        copied: Copied,
    ) -> Vec<Slab> {
        let mut verdicts = Vec::new();
        for it in found {
            let stride = self.host.stride_of(it);
            let known = self.known.entry(it.memory).or_default();
            let Some(words) = Words::of(it.bytes, stride) else {
                // Another time it may be a file that was written anew.
                *known = Known::default();
                continue;
            };
            known.note(&words, it, family);
            let verdict = if self.host.may_be_ticks(it) {
                let writers = Writers::of(it, family, &self.host, copied);
                let before = known.words.as_ref().zip(self.last);
                known.ticks.look(&words, before, &writers, copied)
            } else {
                Verdict::No
            };
            known.words = Some(words);
            verdicts.push((it, verdict));
        }

        let mut slabs = Vec::new();
        let ticks = verdicts.iter().filter(|(_, it)| *it == Verdict::Yes);
        let has_one = ticks.count() == 1;
        let clients = self.clients(family, &verdicts);
        let named = self.named(family, &verdicts);
        // Who else has it is not known before.
        let are_read = family.is_none_or(|it| it.values().all(|it| it.is_read));
        for (it, verdict) in &verdicts {
            let Some(known) = self.known.get_mut(&it.memory) else {
                continue;
            };
            let Some(words) = &known.words else { continue };
            if !are_read && !known.was_shown {
                continue;
            }
            let slab = match verdict {
                Verdict::Yes if has_one => Some(ticks::slab(it, words, copied)),
                Verdict::Yes | Verdict::Perhaps => None,
                Verdict::No => match clients.get(&it.memory) {
                    Some(true) => Some(clients::slab(it, words, copied)),
                    Some(false) => None,
                    None if named == Some(it.memory) => Some(counters::named(it, words, copied)),
                    None if known.used == 0 => None,
                    None => Some(counters::numbered(it, words, known.used, copied)),
                },
            };
            known.was_shown |= slab.is_some();
            slabs.extend(slab);
        }
        slabs
    }

    /// Memory that is a worker's count of its clients, and such as may be.
    fn clients(
        &mut self,
        family: Option<&Family<'_>>,
        found: &[(&Found<'_>, Verdict)],
    ) -> BTreeMap<Memory, bool> {
        let private: Vec<&Found<'_>> = found
            .iter()
            .map(|(it, _)| *it)
            .filter(|it| self.host.is_page(it) && clients::is_of_one_worker(it))
            .collect();
        let (Some(family), Some(server)) = (family, private.first().and_then(|it| it.server))
        else {
            return BTreeMap::new();
        };
        let of_known = |it: &Found<'_>| self.known.get(&it.memory);
        let candidates = clients::candidates(family, &private, |it| {
            of_known(it).is_some_and(|known| known.used <= 1)
        });
        // Who has one thread has one call at most.
        let are_several = candidates.iter().any(|it| {
            let words = of_known(it).and_then(|known| known.words.as_ref());
            words.is_some_and(|words| words.get(0) >= 2)
        });
        if are_several {
            self.counts_clients.insert(server.to_owned());
        }
        let are = self.counts_clients.contains(server);
        candidates.iter().map(|it| (it.memory, are)).collect()
    }

    /// The memory of Middleware's counters, when only one can be that.
    fn named(
        &self,
        family: Option<&Family<'_>>,
        found: &[(&Found<'_>, Verdict)],
    ) -> Option<Memory> {
        let family = family?;
        let candidates: Vec<Memory> = found
            .iter()
            .filter(|(it, verdict)| {
                *verdict == Verdict::No
                    && is_anonymous(it.mapping)
                    && self.host.is_page(it)
                    && self.known.get(&it.memory).is_some_and(|known| {
                        known.was_whole
                            && (1..=counters::NAMES.len()).contains(&known.used)
                            && known
                                .words
                                .as_ref()
                                .is_some_and(|words| counters::are_calls(words, known.fell, family))
                    })
            })
            .map(|(it, _)| it.memory)
            .collect();
        match candidates[..] {
            [only] => Some(only),
            _ => None,
        }
    }
}

impl Known {
    fn note(&mut self, words: &Words, found: &Found<'_>, family: Option<&Family<'_>>) {
        self.used = self.used.max(words.used());
        if let Some(before) = &self.words {
            let fell = |index| words.get(index).cast_signed() < before.get(index).cast_signed();
            self.fell |= (0..counters::NAMES.len()).any(fell);
        }
        self.was_whole |= family.is_some_and(|family| {
            let mut workers = family
                .iter()
                .filter(|(_, it)| it.process.member.role.accepts());
            workers.all(|(pid, _)| found.holders.contains_key(pid))
        });
    }
}
