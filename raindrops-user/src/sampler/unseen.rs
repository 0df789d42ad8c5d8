//! Unix accepts that no hook saw (io_uring). Pure.
//!
//! A connection leaves a unix listener's queue by an accept only, also when its client is gone. So
//! `arrivals - accepts - queue` grows with each accept that was not seen. All three change while
//! they are read: what is told is how many there must have been.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    ids::Monotonic,
    reconcile::PATIENCE_WITH_ACCEPTS,
    snapshot::{BpfSnapshot, ListenerKey},
    source::bpf::Dumps,
};

/// How many there were at least, by listener.
#[derive(Debug, Default)]
pub struct UnseenAccepts(BTreeMap<ListenerKey, Followed>);

#[derive(Clone, Copy, Debug)]
struct Followed {
    last: Look,
    /// What the difference was at most before any accept was unseen: connections that were in the
    /// queue already did not arrive.
    at_first: i64,
    /// Arrivals before a reading of the queue, less that queue: how many had been accepted at least.
    accepted: Option<(i64, Monotonic)>,
    unseen: u64,
}

/// What the programs had counted at some time.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Monotonic,
    arrivals: i64,
    accepts: i64,
}

/// An accept may have left the queue and be stalled on its way back to the process, where the hook
/// is.
const STALL: Duration = PATIENCE_WITH_ACCEPTS;

impl UnseenAccepts {
    /// Counts what is found as late accepts.
    pub fn find(&mut self, bpf: &mut BpfSnapshot, dumps: Dumps<'_>) {
        self.0.retain(|key, _| bpf.listeners.contains_key(key));
        for (key, counts) in &mut bpf.listeners {
            let Some(arrivals) = counts
                .unix_arrivals
                .filter(|_| counts.tcp_address.is_none())
            else {
                continue;
            };
            let look = Look {
                at: bpf.taken,
                arrivals: arrivals.cast_signed(),
                accepts: counts.accepts().cast_signed(),
            };
            let queue = dumps.listeners.get(key).and_then(|socket| {
                let began = dumps.listed.get(&key.netns)?.unix?;
                Some((i64::from(socket.queued?), began))
            });
            let followed = match self.0.get_mut(key) {
                // The row was another's, or begins anew.
                Some(followed) if !followed.last.is_before(look) => {
                    self.0.remove(key);
                    None
                }
                followed => followed,
            };
            match (followed, queue) {
                (Some(followed), queue) => followed.step(look, queue),
                (None, Some((queued, _))) => {
                    self.0.insert(*key, Followed::new(look, queued));
                }
                (None, None) => {}
            }
            let unseen = self.0.get(key).map_or(0, |followed| followed.unseen);
            counts.late_accepts += unseen;
            counts.changes = counts.changes.wrapping_add(unseen);
        }
    }
}

impl Look {
    fn is_before(self, later: Self) -> bool {
        self.arrivals <= later.arrivals && self.accepts <= later.accepts
    }
}

impl Followed {
    fn new(look: Look, queued: i64) -> Self {
        Self {
            last: look,
            at_first: look.arrivals - queued,
            accepted: None,
            unseen: 0,
        }
    }

    /// `queue`: its length, and when it began to be read.
    fn step(&mut self, look: Look, queue: Option<(i64, Monotonic)>) {
        if let Some((accepted, at)) = self.accepted
            && look.at.since(at) >= STALL
        {
            let least = u64::try_from(accepted - self.at_first - look.accepts).unwrap_or(0);
            self.unseen = self.unseen.max(least);
            self.accepted = None;
        }
        // Read between the two looks.
        if let Some((queued, began)) = queue
            && began > self.last.at
        {
            let most = look.arrivals - queued - self.last.accepts;
            if most < self.at_first {
                self.at_first = most;
                self.accepted = None;
            }
            if self.accepted.is_none() {
                self.accepted = Some((self.last.arrivals - queued, look.at));
            }
        }
        self.last = look;
    }
}

#[cfg(test)]
mod tests;
