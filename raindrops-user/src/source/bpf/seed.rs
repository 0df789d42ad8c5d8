//! Tells the programs of the connections that are older than they are.
//!
//! Order: rows of listeners, [`Bpf::begin_seeding`], attach, one dump of all connections with
//! [`Bpf::seed`] for each, [`Bpf::finish_seeding`]. While it lasts, a connection is counted by
//! whoever inserts its cookie first, this code or the programs; and the programs note the ends of
//! each connection that is born, so that one that they follow already is not seeded.

use std::{mem::offset_of, net::IpAddr};

use raindrops_ebpf::{
    connection::{Connection, FlowKey, event, seeding},
    counters::ListenerCounters,
    listener::{AF_INET, AF_INET6, AddressKey, RowRef},
    names::map,
};

use super::{Bpf, BpfError, Wire, rows::ip_bytes, sizes::BORN_WHILE_SEEDING};
use crate::ids::{Cookie, NetnsId};

const BPF_NOEXIST: u64 = 1;

/// A connection as a dump saw it, in state ESTABLISHED or CLOSE_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenConnection {
    pub netns: NetnsId,
    pub cookie: Cookie,
    pub local: (IpAddr, u16),
    pub remote: (IpAddr, u16),
    /// A process has it; otherwise it waits in the accept queue.
    pub accepted: bool,
    /// The client has closed (CLOSE_WAIT).
    pub half_closed: bool,
}

impl Bpf {
    /// From now on the programs count older connections whose event comes before their seed.
    ///
    /// # Errors
    /// When a map cannot be changed.
    pub fn begin_seeding(&mut self) -> Result<(), BpfError> {
        self.set_seeding(seeding::LEARNING)
    }

    /// Takes note of one connection of the dump. Those that are not of a known listener, and those
    /// that the programs know already, are passed over. `false` when there was no room.
    pub fn seed(&mut self, connection: &OpenConnection) -> bool {
        let Some(listener) = self.listener_of(connection) else {
            return true;
        };
        if self
            .born_while_seeding
            .get(&Wire(flow(connection)), 0)
            .is_ok()
        {
            return true;
        }
        let mut events = event::SEEDED;
        if connection.accepted {
            events |= event::ACCEPTED;
        }
        if connection.half_closed {
            events |= event::HALF_CLOSED;
        }
        let seed = Connection {
            events,
            listener,
            ..Connection::born(0)
        };
        let cookie = connection.cookie.0;
        if self.seeds.insert(cookie, Wire(seed), BPF_NOEXIST).is_err() {
            return self.seeds.get(&cookie, 0).is_ok();
        }
        if connection.accepted {
            self.add(listener, offset_of!(ListenerCounters, seeded));
            let gauge = if connection.half_closed {
                offset_of!(ListenerCounters, half_closed)
            } else {
                offset_of!(ListenerCounters, unattributed)
            };
            self.add(listener, gauge);
            self.add(listener, offset_of!(ListenerCounters, changes));
        }
        true
    }

    /// The dump is done. `complete` when it was not interrupted and every connection had room.
    ///
    /// # Errors
    /// When a map cannot be read or changed.
    pub fn finish_seeding(&mut self, complete: bool) -> Result<(), BpfError> {
        self.set_seeding(seeding::LEARNT)?;
        let keys = self.seeds.keys().collect::<Result<Vec<_>, _>>();
        for cookie in keys.map_err(BpfError::map(map::SEEDS))? {
            if self
                .seeds
                .get(&cookie, 0)
                .is_ok_and(|seed| seed.0.settled == 1)
            {
                let _ = self.seeds.remove(&cookie);
            }
        }
        let born = self
            .born_while_seeding
            .keys()
            .collect::<Result<Vec<_>, _>>();
        let born = born.map_err(BpfError::map(map::BORN_WHILE_SEEDING))?;
        for flow in &born {
            let _ = self.born_while_seeding.remove(flow);
        }
        // Those that were not noted may have been counted twice.
        self.has_seeded = true;
        self.seeding_complete = complete && born.len() < BORN_WHILE_SEEDING as usize;
        Ok(())
    }

    /// Ends the look for older connections by their cookie once there are none left.
    ///
    /// # Errors
    /// When the map cannot be changed.
    pub fn end_seeding(&mut self) -> Result<(), BpfError> {
        if !self.has_seeded || self.no_seeds_left || self.seeds.keys().next().is_some() {
            return Ok(());
        }
        self.no_seeds_left = true;
        self.set_seeding(seeding::OFF)
    }

    fn set_seeding(&mut self, phase: u32) -> Result<(), BpfError> {
        self.seeding
            .set(0, phase, 0)
            .map_err(BpfError::map(map::SEEDING))
    }

    fn add(&self, listener: RowRef, offset: usize) {
        self.counters
            .add(listener.slot as usize * self.shards, offset, 1);
    }

    /// As the programs find it by address: exact, then the wildcard, then `[::]` for IPv4.
    fn listener_of(&self, connection: &OpenConnection) -> Option<RowRef> {
        let (family, address) = ip_bytes(connection.local.0);
        let port = connection.local.1;
        let exact = AddressKey {
            netns: connection.netns.0,
            family,
            port,
            address,
        };
        let wildcard = AddressKey {
            address: [0; 16],
            ..exact
        };
        let dual_stack = (family == AF_INET).then_some(AddressKey {
            family: AF_INET6,
            ..wildcard
        });
        [Some(exact), Some(wildcard), dual_stack]
            .into_iter()
            .flatten()
            .find_map(|key| self.by_address.get(&Wire(key), 0).ok())
            .map(|row| row.0)
    }
}

fn flow(connection: &OpenConnection) -> FlowKey {
    let (family, local) = ip_bytes(connection.local.0);
    let (_, remote) = ip_bytes(connection.remote.0);
    FlowKey {
        netns: connection.netns.0,
        family,
        local_port: connection.local.1,
        remote_port: connection.remote.1,
        reserved: 0,
        local,
        remote,
    }
}
