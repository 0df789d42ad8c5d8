//! Lists connections one by one, for who asks. Apart from the counts, because there can be very many.

use std::{collections::BTreeMap, mem::offset_of};

use raindrops_ebpf::{
    connection::{NO_WORKER, event},
    counters::WorkerRow,
    names::program,
    turns::{ANY_SLOT, LISTED, ListedConnection, LookOver, state},
};

use super::{
    Bpf,
    reconcile::{StepError, run},
    turns::MOST,
};
use crate::{
    ids::{Cookie, Inode, Monotonic, Pid, StartTicks},
    snapshot::{
        ListenerKey,
        connections::{BpfConnection, BpfConnections, Phase, TurnState},
    },
    view::connections::SCANNED,
};

/// Looks at the table for one question: twice as many as [`SCANNED`] connections take.
const LOOKS: usize = 2 * SCANNED / LISTED as usize;

impl Bpf {
    /// Accepted connections of some listeners, at most `most`; `None` where turns are not followed.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn connections(
        &mut self,
        listeners: &[ListenerKey],
        most: usize,
    ) -> Result<Option<BpfConnections>, StepError> {
        let Some(turns) = &self.turns else {
            return Ok(None);
        };
        let slots: BTreeMap<u32, ListenerKey> = turns
            .keys
            .iter()
            .filter(|(_, key)| listeners.contains(key))
            .map(|(slot, key)| (*slot, *key))
            .collect();
        let ends_seen = turns.ends_seen;
        let workers = self.workers_by_row();
        let mut found = Vec::new();
        let complete = go_over(slots.keys().copied(), |slot, skip| {
            turns.order.write(
                0,
                &LookOver {
                    look: 0,
                    most: MOST,
                    seen: 0,
                    slot: u64::from(slot),
                    skip,
                    listed: 0,
                },
            );
            run(&self.ebpf, program::LIST_CONNECTIONS, 0)?;
            let order = turns.order.read(0);
            for index in 0..order.listed as usize {
                let listed = turns.listed.read(index);
                let Some(listener) = slots.get(&listed.slot) else {
                    continue;
                };
                if found.len() == most {
                    return Ok(Looked::Enough);
                }
                let worker = workers.get(&listed.worker).copied();
                let mut connection = connection(&listed, *listener, worker);
                // An answer whose end is not seen may be over.
                let is_told = |turn: &TurnState| ends_seen || turn.phase != Phase::Writing;
                connection.turn = connection.turn.filter(is_told);
                found.push(connection);
            }
            Ok::<_, StepError>(if order.seen >= MOST {
                Looked::NotToTheEnd
            } else if order.listed < u64::from(LISTED) {
                Looked::ToTheEnd
            } else {
                Looked::Listed(order.listed)
            })
        })?;
        Ok(Some(BpfConnections {
            connections: found,
            complete,
        }))
    }

    fn workers_by_row(&self) -> BTreeMap<u32, (Pid, StartTicks)> {
        let nanos_per_tick = 1_000_000_000 / self.ticks_per_second.max(1);
        let in_use = |index: &usize| {
            let in_use = offset_of!(WorkerRow, in_use);
            self.worker_rows.load(*index, in_use) == 1
        };
        (0..self.worker_rows.len())
            .filter(in_use)
            .map(|index| {
                let key = self.worker_rows.read(index).key;
                let started = StartTicks(key.started_ns / nanos_per_tick);
                (index as u32, (Pid(key.pid), started))
            })
            .collect()
    }
}

/// What came of one look.
enum Looked {
    /// Nothing is left.
    ToTheEnd,
    /// More is there than a look goes over.
    NotToTheEnd,
    /// So many, and more may be left.
    Listed(u64),
    /// No more is wanted.
    Enough,
}

/// Has a `look` at connections of these slots until there is nothing left, but at most [`LOOKS`]: each
/// goes over the whole table, however little it lists. Returns whether nothing is left. `look` is told
/// a slot, and how many it has already listed of it.
fn go_over<E>(
    slots: impl ExactSizeIterator<Item = u32>,
    mut look: impl FnMut(u32, u64) -> Result<Looked, E>,
) -> Result<bool, E> {
    // Of many slots, more than one look for each is too much.
    let slots: Vec<u32> = if slots.len() > LOOKS / 2 {
        vec![ANY_SLOT]
    } else {
        slots.collect()
    };
    let mut looks = 0..LOOKS;
    let mut complete = true;
    for slot in slots {
        let mut skip = 0;
        loop {
            if looks.next().is_none() {
                return Ok(false);
            }
            match look(slot, skip)? {
                Looked::ToTheEnd => break,
                Looked::NotToTheEnd => {
                    complete = false;
                    break;
                }
                Looked::Listed(listed) => skip += listed,
                Looked::Enough => return Ok(false),
            }
        }
    }
    Ok(complete)
}

fn connection(
    listed: &ListedConnection,
    listener: ListenerKey,
    worker: Option<(Pid, StartTicks)>,
) -> BpfConnection {
    let ListedConnection {
        cookie,
        inode,
        events,
        established_ns,
        accepted_ns,
        state,
        data_ns,
        read_ns,
        first_write_ns,
        last_write_ns,
        bytes_in,
        bytes_out,
        turns,
        slot: _,
        worker: row,
        reader,
        writer,
    } = *listed;
    let at = |nanos: u64| (nanos != 0).then(|| Monotonic::from_nanos(nanos));
    let thread = |thread: u32| (thread != 0).then_some(thread);
    let (phase, since) = match state {
        state::UNREAD => (Phase::Waiting, at(data_ns)),
        state::READING => (Phase::Reading, at(read_ns)),
        state::CALLING => (Phase::Calling, at(read_ns)),
        // One long write that has not returned began with its turn, as far as is known.
        state::WRITING | state::BLOCKED => (Phase::Writing, at(first_write_ns.max(read_ns))),
        _ => (Phase::Idle, at(last_write_ns).or(at(accepted_ns))),
    };
    BpfConnection {
        listener,
        cookie: (cookie != 0).then_some(Cookie(cookie)),
        inode: (inode != 0).then_some(Inode(inode)),
        worker: worker.filter(|_| row != NO_WORKER),
        established: at(established_ns),
        accepted: at(accepted_ns),
        half_closed: events & event::HALF_CLOSED != 0,
        turn: Some(TurnState {
            phase,
            blocked: state == state::BLOCKED,
            since,
            turns,
            bytes_in,
            bytes_out,
            reader_thread: thread(reader),
            writer_thread: thread(writer),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::{ANY_SLOT, LISTED, LOOKS, Looked, go_over};

    const FULL: u64 = LISTED as u64;

    /// Slots that were looked at, what was skipped there, and whether that was all, where each slot
    /// has as many connections as `has` says.
    fn looks(slots: u32, has: impl Fn(u32) -> u64) -> (Vec<(u32, u64)>, bool) {
        let mut looks = Vec::new();
        let complete = go_over(0..slots, |slot, skip| {
            looks.push((slot, skip));
            let left = has(slot) - skip;
            Ok::<_, Infallible>(if left < FULL {
                Looked::ToTheEnd
            } else {
                Looked::Listed(FULL)
            })
        });
        (looks, complete.unwrap())
    }

    #[test]
    fn each_slot_is_looked_at_until_it_has_no_more() {
        assert_eq!(looks(0, |_| 0), (vec![], true));
        assert_eq!(looks(1, |_| 0), (vec![(0, 0)], true));
        let has = |slot| [FULL - 1, 2 * FULL, 3][slot as usize];
        let expected = [(0, 0), (1, 0), (1, FULL), (1, 2 * FULL), (2, 0)];
        assert_eq!(looks(3, has), (expected.to_vec(), true));
    }

    #[test]
    fn there_are_only_so_many_looks() {
        let (many, complete) = looks(1, |_| 100 * FULL);
        assert_eq!((many.len(), complete), (LOOKS, false));
        let (many, complete) = looks(LOOKS as u32 / 2, |_| 3 * FULL);
        assert_eq!((many.len(), complete), (LOOKS, false));
        // All slots at once, where there are many.
        let (many, complete) = looks(1000, |_| FULL);
        assert_eq!(
            (many, complete),
            (vec![(ANY_SLOT, 0), (ANY_SLOT, FULL)], true)
        );
    }

    #[test]
    fn what_is_cut_is_not_complete() {
        let of = |what: fn() -> Looked| {
            let mut looks = 0;
            let complete = go_over(0..3, |_, _| {
                looks += 1;
                Ok::<_, Infallible>(what())
            });
            (complete.unwrap(), looks)
        };
        assert_eq!(of(|| Looked::Enough), (false, 1));
        assert_eq!(of(|| Looked::NotToTheEnd), (false, 3));
        assert_eq!(of(|| Looked::ToTheEnd), (true, 3));
        assert_eq!(go_over(0..3, |_, _| Err("ended")), Err("ended"));
    }
}
