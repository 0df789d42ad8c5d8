//! What has become of sockets from one view to the next, and which of what is there processes serve.
//!
//! Apart from [`super`], which keeps what follows from it.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{
        bound::{Rank, is_known},
        listeners::{Key, has_fallen},
    },
    Kept,
};
use crate::view::{Listener, View, Worker};

/// By the addresses of the sockets.
#[derive(Debug, Default)]
pub(super) struct Changes<'v>(BTreeMap<Key, OfAddress<'v>>);

#[derive(Debug, Default)]
pub(super) struct OfAddress<'v> {
    pub(super) gone: Vec<&'v Listener>,
    /// Sockets as they were and as they are, with less.
    anew: Vec<(&'v Listener, &'v Listener)>,
}

impl<'v> Changes<'v> {
    pub(super) fn between(before: Option<&'v View>, view: &'v View) -> Self {
        let there: BTreeMap<&str, &Listener> = view
            .listeners
            .iter()
            .map(|listener| (listener.id.as_str(), listener))
            .collect();
        let mut changes = Self::default();
        for was in before.into_iter().flat_map(|before| &before.listeners) {
            match there.get(was.id.as_str()) {
                None => changes.of(was).gone.push(was),
                Some(now) if has_fallen(was, now) => changes.of(was).anew.push((was, now)),
                Some(_) => {}
            }
        }
        changes
    }

    fn of(&mut self, listener: &Listener) -> &mut OfAddress<'v> {
        self.0.entry(Key::of(listener)).or_default()
    }

    pub(super) fn take(&mut self, key: &Key) -> OfAddress<'v> {
        self.0.remove(key).unwrap_or_default()
    }
}

impl OfAddress<'_> {
    /// `since_ns`: when the sockets were last seen.
    pub(super) fn apply(&self, kept: &mut Arc<Kept>, since_ns: u64) {
        for gone in &self.gone {
            Arc::make_mut(kept).part_with(gone, since_ns);
        }
        for (was, now) in &self.anew {
            Arc::make_mut(kept).begin_anew(was, now);
        }
    }
}

/// Which processes serve listeners that have series.
#[derive(Debug)]
pub(super) struct Served<'v> {
    listeners: BTreeMap<&'v str, OfListener>,
    workers: BTreeMap<u32, Vec<OfListener>>,
}

#[derive(Clone, Copy, Debug)]
struct OfListener {
    is_shown: bool,
    is_tcp: bool,
}

impl<'v> Served<'v> {
    pub(super) fn of(
        there: &BTreeMap<Key, Vec<&'v Listener>>,
        is_shown: impl Fn(&Key) -> bool,
    ) -> Self {
        let mut served = Self {
            listeners: BTreeMap::new(),
            workers: BTreeMap::new(),
        };
        for (key, members) in there {
            let of_it = OfListener {
                is_shown: is_shown(key),
                is_tcp: key.protocol == "tcp",
            };
            for member in members {
                served.listeners.insert(&member.id, of_it);
                for pid in member.workers.iter().flatten() {
                    served.workers.entry(*pid).or_default().push(of_it);
                }
            }
        }
        served
    }

    /// `None` where none of the listeners that it serves has series.
    pub(super) fn rank(&self, worker: &Worker) -> Option<Rank> {
        let parts = worker.listeners.iter();
        let parts = parts.filter_map(|part| self.listeners.get(part.id.as_str()));
        let others = self.workers.get(&worker.pid).into_iter().flatten();
        let all = parts.chain(others);
        let mut shown = all.clone().filter(|it| it.is_shown).peekable();
        if shown.peek().is_none() && all.count() > 0 {
            return None;
        }
        Some(if is_known(worker.server.value()) {
            Rank::Server
        } else if shown.any(|it| it.is_tcp) {
            Rank::Tcp
        } else if worker.accepts.is_some_and(|accepts| accepts > 0) {
            Rank::Used
        } else {
            Rank::Rest
        })
    }
}
