//! Which connections seem to have missed an event, and since when.
//!
//! A single look may fall between an event and its being counted, or on memory that is just being
//! used again. So an event is made up for only when every look has found the same for a while. Pure.

use std::{collections::BTreeMap, time::Duration};

use raindrops_ebpf::overlooked::{Look, Overlooked};

use crate::ids::Monotonic;

/// How long the same must be found.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for an accept: it is told only when the system call returns, and the process that made
/// it may have to wait for a processor or for memory until then.
pub const PATIENCE_WITH_ACCEPTS: Duration = Duration::from_secs(2);
/// More connections than this are not suspected at one time.
const MAX_SUSPECTS: usize = 256;

/// Connections that seem to have missed an event, by the key of their entry.
#[derive(Clone, Debug, Default)]
pub struct Suspects {
    watched: BTreeMap<u64, Suspect>,
    /// Births of entries that were not what they seemed: they are left to their end.
    cleared: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    look: Look,
    since: Monotonic,
}

/// Events that the programs did not see, and that were found later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoundLater {
    pub accepts: u64,
    pub half_closes: u64,
    pub ends: u64,
}

impl Suspects {
    /// Takes in what a look has found.
    pub fn looked(&mut self, look: Look, now: Monotonic) {
        if look.overlooked == Overlooked::Nothing as u64 {
            self.watched.remove(&look.key);
            self.cleared.remove(&look.key);
            return;
        }
        if self.cleared.get(&look.key) == Some(&look.born_ns)
            && look.overlooked == Overlooked::Accept as u64
        {
            return;
        }
        let suspect = Suspect { look, since: now };
        if let Some(known) = self.watched.get_mut(&look.key) {
            if known.look != look {
                *known = suspect;
            }
        } else if self.watched.len() < MAX_SUSPECTS {
            self.watched.insert(look.key, suspect);
        }
    }

    /// What was due turned out to be nothing.
    pub fn clear(&mut self, look: Look) {
        if self.cleared.len() >= MAX_SUSPECTS {
            self.cleared.pop_first();
        }
        self.cleared.insert(look.key, look.born_ns);
    }

    /// Takes out those whose event is to be made up for now.
    pub fn take_due(&mut self, now: Monotonic) -> Vec<Look> {
        let is_due =
            |_: &u64, suspect: &mut Suspect| now.since(suspect.since) >= patience(suspect.look);
        self.watched
            .extract_if(.., is_due)
            .map(|(_, it)| it.look)
            .collect()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }
}

fn patience(look: Look) -> Duration {
    if look.overlooked == Overlooked::Accept as u64 {
        PATIENCE_WITH_ACCEPTS
    } else {
        PATIENCE
    }
}

impl FoundLater {
    /// Counts what has been made up for. The removal of an entry is no event.
    pub fn count(&mut self, look: Look) {
        for (overlooked, count) in [
            (Overlooked::Accept, &mut self.accepts),
            (Overlooked::HalfClose, &mut self.half_closes),
            (Overlooked::End, &mut self.ends),
        ] {
            *count += u64::from(look.overlooked == overlooked as u64);
        }
    }

    #[must_use]
    pub const fn total(&self) -> u64 {
        let Self {
            accepts,
            half_closes,
            ends,
        } = self;
        *accepts + *half_closes + *ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    fn look(key: u64, overlooked: Overlooked) -> Look {
        Look {
            key,
            born_ns: 7,
            overlooked: overlooked as u64,
        }
    }

    #[test]
    fn what_every_look_finds_for_a_while_is_due_once() {
        let mut suspects = Suspects::default();
        let (end, accept) = (look(1, Overlooked::End), look(2, Overlooked::Accept));
        suspects.looked(end, at(0));
        suspects.looked(accept, at(0));
        suspects.looked(end, at(900));
        assert_eq!(suspects.take_due(at(999)), []);
        assert_eq!(suspects.take_due(at(1000)), [end]);
        assert_eq!(suspects.take_due(at(1999)), []);
        assert_eq!(suspects.take_due(at(2000)), [accept]);
        assert!(suspects.is_empty());
    }

    #[test]
    fn a_look_that_finds_otherwise_begins_anew() {
        let mut suspects = Suspects::default();
        suspects.looked(look(1, Overlooked::End), at(0));
        suspects.looked(look(1, Overlooked::Nothing), at(500));
        assert!(suspects.is_empty());
        suspects.looked(look(1, Overlooked::HalfClose), at(600));
        suspects.looked(look(1, Overlooked::End), at(700));
        assert_eq!(suspects.take_due(at(1600)), []);
        let later = Look {
            born_ns: 8,
            ..look(1, Overlooked::End)
        };
        suspects.looked(later, at(1650));
        assert_eq!(suspects.take_due(at(1700)), []);
        assert_eq!(suspects.take_due(at(2650)), [later]);
    }

    #[test]
    fn suspects_are_bounded() {
        let mut suspects = Suspects::default();
        for key in 0..1000 {
            suspects.looked(look(key, Overlooked::End), at(0));
        }
        assert_eq!(suspects.take_due(at(1000)).len(), MAX_SUSPECTS);
    }

    #[test]
    fn events_are_counted_by_kind() {
        let mut found = FoundLater::default();
        for overlooked in [
            Overlooked::Accept,
            Overlooked::HalfClose,
            Overlooked::End,
            Overlooked::End,
            Overlooked::Removal,
        ] {
            found.count(look(1, overlooked));
        }
        let expected = FoundLater {
            accepts: 1,
            half_closes: 1,
            ends: 2,
        };
        assert_eq!((found, found.total()), (expected, 4));
    }
}
