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
};

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
        let slot = match slots.keys().next() {
            None => {
                return Ok(Some(BpfConnections {
                    connections: Vec::new(),
                    complete: true,
                }));
            }
            Some(slot) if slots.len() == 1 => *slot,
            Some(_) => ANY_SLOT,
        };
        let ends_seen = turns.ends_seen;
        let workers = self.workers_by_row();
        let mut found = BpfConnections {
            connections: Vec::new(),
            complete: true,
        };
        let mut skip = 0;
        loop {
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
                if found.connections.len() == most {
                    found.complete = false;
                    return Ok(Some(found));
                }
                let worker = workers.get(&listed.worker).copied();
                let mut connection = connection(&listed, *listener, worker);
                // An answer whose end is not seen may be over.
                let is_told = |turn: &TurnState| ends_seen || turn.phase != Phase::Writing;
                connection.turn = connection.turn.filter(is_told);
                found.connections.push(connection);
            }
            if order.seen >= MOST {
                found.complete = false;
                return Ok(Some(found));
            }
            if order.listed < u64::from(LISTED) {
                return Ok(Some(found));
            }
            skip += order.listed;
        }
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
