//! Which listeners and workers have series.
//!
//! Any user may bind sockets and start processes, and Prometheus keeps each series that it has ever
//! seen. So there are at most so many; the others are counted. Apart from [`super::continuity`], which
//! keeps what was chosen, because the choice is a decision of its own. Pure.

use std::collections::BTreeMap;

use crate::view::Listener;

/// Listeners that have series, where nobody says otherwise.
pub const USUAL_LISTENERS: u32 = 500;

/// Workers, for each listener that may have series.
const WORKERS: usize = 2;
/// Sockets that have a line of their own because they share an address.
const MEMBERS: usize = 4;

/// How many may have series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub(super) listeners: usize,
    pub(super) workers: usize,
    pub(super) members: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self::of(USUAL_LISTENERS)
    }
}

impl Bounds {
    #[must_use]
    pub fn of(listeners: u32) -> Self {
        let listeners = usize::try_from(listeners).unwrap_or(usize::MAX);
        Self {
            listeners,
            workers: listeners.saturating_mul(WORKERS),
            members: listeners.saturating_mul(MEMBERS),
        }
    }
}

/// What is wanted first comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Of a kind of server that is known.
    Server,
    Tcp,
    /// Something was counted at it, or waits.
    Used,
    #[default]
    Rest,
}

impl Rank {
    /// Of the listeners of one address.
    pub(super) fn of(members: &[&Listener]) -> Self {
        if members.iter().any(|it| is_known(it.server.value())) {
            Self::Server
        } else if members.iter().any(|it| it.protocol == "tcp") {
            Self::Tcp
        } else if members.iter().any(|it| is_used(it)) {
            Self::Used
        } else {
            Self::Rest
        }
    }
}

/// Whether the id of a server is of a kind that has a name.
pub(super) fn is_known(server: Option<&String>) -> bool {
    server.is_some_and(|server| !server.starts_with("other:"))
}

fn is_used(listener: &Listener) -> bool {
    let connections = listener.connections.as_ref();
    let figures = [
        listener.queue.queued.map(u64::from),
        listener.queue.peak.map(u64::from),
        connections.and_then(|it| it.accepts),
        connections.and_then(|it| it.active),
    ];
    figures.into_iter().flatten().any(|figure| figure > 0)
}

/// What could have series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<K> {
    /// Best first; while it has series it does not fall, so that these do not come and go.
    pub(super) rank: Rank,
    /// Has had series in the view before.
    pub(super) is_shown: bool,
    pub(super) key: K,
    /// How much of the room it takes.
    pub(super) size: usize,
}

/// What has series, and how much has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen<K: Ord> {
    pub(super) shown: BTreeMap<K, Rank>,
    pub(super) left_out: u64,
}

impl<K: Clone + Ord> Chosen<&K> {
    pub(super) fn owned(self) -> Chosen<K> {
        let shown = self.shown.into_iter();
        Chosen {
            shown: shown.map(|(key, rank)| (key.clone(), rank)).collect(),
            left_out: self.left_out,
        }
    }
}

/// Takes as many as there is room for: by rank; of one rank those first that were there before.
pub(super) fn choose<K: Ord>(mut candidates: Vec<Candidate<K>>, room: usize) -> Chosen<K> {
    let size: usize = candidates.iter().map(|it| it.size).sum();
    if size > room {
        candidates.sort_by(|a, b| {
            let order = |it: &Candidate<K>| (it.rank, !it.is_shown);
            order(a).cmp(&order(b)).then_with(|| a.key.cmp(&b.key))
        });
    }
    let mut room = room;
    let mut chosen = Chosen {
        shown: BTreeMap::new(),
        left_out: 0,
    };
    for candidate in candidates {
        match room.checked_sub(candidate.size) {
            Some(rest) => {
                room = rest;
                chosen.shown.insert(candidate.key, candidate.rank);
            }
            None => chosen.left_out += 1,
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Rank, choose};

    #[test]
    fn the_best_have_series_and_of_equals_those_that_had_them() {
        let candidate = |key, rank, is_shown, size| Candidate {
            rank,
            is_shown,
            key,
            size,
        };
        let candidates = || {
            vec![
                candidate("a", Rank::Rest, true, 1),
                candidate("b", Rank::Tcp, false, 1),
                candidate("c", Rank::Tcp, true, 1),
                candidate("d", Rank::Used, false, 1),
                candidate("e", Rank::Server, false, 3),
            ]
        };
        for (room, expected) in [
            (0, ""),
            (1, "c"),
            (2, "bc"),
            (3, "e"),
            (4, "ce"),
            (5, "bce"),
            (6, "bcde"),
            (7, "abcde"),
        ] {
            let chosen = choose(candidates(), room);
            let shown: String = chosen.shown.keys().copied().collect();
            assert_eq!(shown, expected, "{room}");
            assert_eq!(chosen.left_out, 5 - shown.len() as u64, "{room}");
        }
    }
}
