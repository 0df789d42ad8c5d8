//! Unix accepts that no hook saw (io_uring). Pure.
//!
//! A connection leaves a unix listener's queue by an accept only, also when its client is gone. So
//! `arrivals - accepts - queue` grows with each accept that was not seen.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    ids::Monotonic,
    snapshot::{BpfSnapshot, ListenerKey},
    source::bpf::Dumps,
};

/// How many there were at least, by listener.
#[derive(Debug, Default)]
pub struct UnseenAccepts(BTreeMap<ListenerKey, Followed>);

#[derive(Clone, Copy, Debug)]
struct Followed {
    /// What the difference may have been at most before anything was unseen: connections that were
    /// in the queue already did not arrive.
    at_first: i64,
    /// At the last look: arrivals, and when.
    arrivals: i64,
    looked: Monotonic,
    /// Arrivals before a reading of the queue, less that queue: how many had been accepted.
    accepted: Option<(i64, Monotonic)>,
    unseen: u64,
}

/// An accept may have left the queue and be stalled on its way back to the process, where the hook
/// is.
const STALL: Duration = Duration::from_secs(1);

impl UnseenAccepts {
    /// Counts what is found as late accepts. As many as there must have been: arrivals as of before
    /// the queue was read, accepts as of well after.
    pub fn find(&mut self, bpf: &mut BpfSnapshot, dumps: Dumps<'_>) {
        if !bpf.sees_arrivals {
            self.0.clear();
            return;
        }
        self.0.retain(|key, _| bpf.listeners.contains_key(key));
        for (key, counts) in &mut bpf.listeners {
            let queue = dumps.listeners.get(key).and_then(|socket| {
                let read = dumps.listed.get(&key.netns)?.unix?;
                let queued = socket.queued.filter(|_| counts.tcp_address.is_none())?;
                Some((i64::from(queued), read))
            });
            let Some((queued, read)) = queue else {
                continue;
            };
            let arrivals = counts.unix_arrivals.cast_signed();
            let followed = self.0.entry(*key).or_insert(Followed {
                at_first: arrivals - queued,
                arrivals,
                looked: bpf.taken,
                accepted: None,
                unseen: 0,
            });
            if let Some((accepted, read)) = followed.accepted
                && bpf.taken.since(read) >= STALL
            {
                let seen = counts.accepts().cast_signed();
                let least = u64::try_from(accepted - followed.at_first - seen).unwrap_or(0);
                followed.unseen = followed.unseen.max(least);
                followed.accepted = None;
            }
            if followed.accepted.is_none() && read > followed.looked {
                followed.accepted = Some((followed.arrivals - queued, read));
            }
            followed.arrivals = arrivals;
            followed.looked = bpf.taken;
            counts.late_accepts += followed.unseen;
            counts.changes = counts.changes.wrapping_add(followed.unseen);
        }
    }
}

#[cfg(test)]
mod tests;
