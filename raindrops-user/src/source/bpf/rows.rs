//! Rows of listeners: made for listeners that were there before the programs, and freed when a
//! listener is gone and nothing refers to it any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::offset_of,
    net::IpAddr,
    time::Duration,
};

use raindrops_ebpf::{
    counters::{ListenerCounters, WorkerRow},
    listener::{
        AF_INET, AF_INET6, AF_UNIX, AddressKey, ListenerRow, RowRef, UNIX_NAME_LEN, row_state,
    },
    miss::Miss,
    names::map,
};

use super::{Bpf, BpfError, Dumps, GRACE, Listed, Wire};
use crate::{
    address::{Address, UnixName},
    ids::{Inode, Monotonic, NetnsId},
    snapshot::ListenerKey,
};

const BPF_NOEXIST: u64 = 1;

/// How long a network namespace that is not read any more may come back.
const PATIENCE: Duration = Duration::from_secs(30);

impl Bpf {
    /// Makes the rows agree with the listeners that the dumps have found.
    ///
    /// # Errors
    /// When a map cannot be changed.
    pub fn follow(&mut self, dumps: Dumps<'_>, now: Monotonic) -> Result<(), BpfError> {
        let rows = self.rows_in_use();
        let by_inode: BTreeMap<u64, u32> = rows
            .iter()
            .filter(|(_, row)| row.inode != 0 && row.state == row_state::LISTENING)
            .map(|(slot, row)| (row.inode, *slot))
            .collect();
        for (key, socket) in dumps.listeners {
            let slot = by_inode.get(&key.inode.0).copied();
            let row = match slot.filter(|slot| self.known.contains_key(slot)) {
                Some(slot) => Some(RowRef {
                    slot,
                    generation: rows[&slot].generation,
                }),
                None => self.make_row(*key, &socket.address, now)?,
            };
            if let Some(row) = row {
                self.point_to(row, address_key(*key, &socket.address));
            }
        }
        let inodes: BTreeSet<u64> = dumps.listeners.keys().map(|key| key.inode.0).collect();
        self.rowless.retain(|inode| inodes.contains(inode));
        for (netns, Listed { tcp, unix }) in dumps.listed {
            if let Some(read) = [*tcp, *unix].into_iter().flatten().min() {
                self.read_at.insert(*netns, read);
            }
        }
        self.read_at
            .retain(|_, read| now.since(*read) < PATIENCE * 2);
        self.retire(&rows, dumps, now)
    }

    /// Slot and description of every row that is not free.
    pub(super) fn rows_in_use(&self) -> BTreeMap<u32, ListenerRow> {
        (0..self.rows.len())
            .filter(|slot| !self.is_free(*slot))
            .map(|slot| (slot as u32, self.rows.read(slot)))
            .filter(|(_, row)| row.state != row_state::FREE)
            .collect()
    }

    fn is_free(&self, slot: usize) -> bool {
        state_in(self.rows.load(slot, offset_of!(ListenerRow, state))) == row_state::FREE
    }

    /// Takes note of which rows are in use, for [`Bpf::activity`].
    pub(super) fn note_rows(&mut self, in_use: &BTreeMap<u32, ListenerRow>) {
        self.used_rows.clear();
        self.used_rows.extend(in_use.keys());
        self.unused_rows.retain(|slot| !in_use.contains_key(slot));
        if self.used_rows.len() + self.unused_rows.len() < self.rows.len() {
            // Put back by the programs.
            let unused: BTreeSet<u32> = self.unused_rows.iter().copied().collect();
            let all = 0..self.rows.len() as u32;
            let missing = all.filter(|it| !in_use.contains_key(it) && !unused.contains(it));
            self.unused_rows.extend(missing);
        }
    }

    /// Lets an address lead to a row, unless it leads to another member of the group already: one
    /// of them is enough, but when that one closes another must take its place.
    fn point_to(&mut self, row: RowRef, address: AddressKey) {
        if address.family != AF_UNIX {
            let _ = self
                .by_address
                .insert(Wire(address), Wire(row), BPF_NOEXIST);
        }
    }

    /// `None` when there is no room, which is counted once for each listener.
    fn make_row(
        &mut self,
        key: ListenerKey,
        address: &Address,
        now: Monotonic,
    ) -> Result<Option<RowRef>, BpfError> {
        let inode = key.inode.0;
        let address_key = address_key(key, address);
        let row = match self.listeners.get(&inode, 0) {
            Ok(Wire(row)) => {
                self.revive(row, inode);
                row
            }
            Err(_) => {
                let Ok(slot) = self.free_rows.pop(0) else {
                    if self.rowless.insert(inode) {
                        self.misses.add(Miss::ListenersFull as usize, 0, 1);
                    }
                    return Ok(None);
                };
                self.unused_rows.retain(|unused| *unused != slot);
                let row = RowRef {
                    slot,
                    generation: self.rows.read(slot as usize).generation,
                };
                self.rows.write(
                    slot as usize,
                    &description(inode, row, address_key, address),
                );
                let made = self.listeners.insert(inode, Wire(row), BPF_NOEXIST);
                if made.is_err() {
                    let free = ListenerRow {
                        generation: row.generation,
                        ..ListenerRow::FREE
                    };
                    self.rows.write(slot as usize, &free);
                    let freed = self.free_rows.push(slot, 0);
                    freed.map_err(BpfError::map(map::FREE_LISTENER_ROWS))?;
                    self.unused_rows.push_back(slot);
                    return Ok(None);
                }
                if self.has_seeded && address_key.family != AF_UNIX {
                    self.late.insert(slot);
                }
                row
            }
        };
        self.known.entry(row.slot).or_insert(now);
        Ok(Some(row))
    }

    /// A unix listener that two dumps lacked is there after all.
    fn revive(&self, row: RowRef, inode: u64) {
        let there = self.rows.read(row.slot as usize);
        if there.state == row_state::CLOSED
            && there.address.family == AF_UNIX
            && (there.inode, there.generation) == (inode, row.generation)
        {
            let listening = ListenerRow {
                state: row_state::LISTENING,
                ..there
            };
            self.rows.write(row.slot as usize, &listening);
        }
    }

    /// Frees the rows of listeners that are gone, when nothing refers to them any more.
    fn retire(
        &mut self,
        rows: &BTreeMap<u32, ListenerRow>,
        dumps: Dumps<'_>,
        now: Monotonic,
    ) -> Result<(), BpfError> {
        for (slot, description) in rows {
            let row = RowRef {
                slot: *slot,
                generation: description.generation,
            };
            let seen = *self.known.entry(*slot).or_insert(now);
            if description.state == row_state::CLOSED {
                if now.since(seen) >= GRACE && self.is_idle(*slot, description) {
                    self.free(row, description)?;
                }
                continue;
            }
            let key = ListenerKey {
                netns: NetnsId(description.address.netns),
                inode: Inode(description.inode),
            };
            let is_judged = self.is_judged(description, seen, dumps, now);
            let is_there = dumps.listeners.contains_key(&key)
                || description.inode == 0
                    && dumps
                        .listeners
                        .values()
                        .any(|socket| names(description, &socket.address));
            if !is_judged || is_there {
                self.missing.remove(slot);
                continue;
            }
            let dump = dumps.listed.get(&key.netns).and_then(|listed| {
                let is_unix = description.address.family == AF_UNIX;
                if is_unix { listed.unix } else { listed.tcp }
            });
            let first = *self.missing.entry(*slot).or_insert(dump);
            if dump.is_none() || dump > first {
                // Its end was not seen by the programs: nothing tells them of a unix listener's.
                let closed = ListenerRow {
                    state: row_state::CLOSED,
                    ..*description
                };
                self.rows.write(*slot as usize, &closed);
                self.known.insert(*slot, now);
                self.missing.remove(slot);
            }
        }
        Ok(())
    }

    /// Whether the dumps can tell that a row's listener, known since `seen`, is gone.
    fn is_judged(
        &self,
        description: &ListenerRow,
        seen: Monotonic,
        dumps: Dumps<'_>,
        now: Monotonic,
    ) -> bool {
        let netns = NetnsId(description.address.netns);
        let is_unix = description.address.family == AF_UNIX;
        if let Some(Listed { tcp, unix }) = dumps.listed.get(&netns) {
            // A dump says nothing of a listener that came after it.
            return (if is_unix { *unix } else { *tcp }).is_some_and(|taken| taken > seen);
        }
        match self.read_at.get(&netns) {
            Some(read) if *read > seen => now.since(*read) >= PATIENCE,
            // Of a namespace that is not read. The end of a TCP listener is seen by the programs;
            // the row of a unix listener that lives on is made again by its next connection.
            _ => is_unix && now.since(seen) >= PATIENCE,
        }
    }

    /// Whether no connection refers to a row any more.
    fn is_idle(&mut self, slot: u32, description: &ListenerRow) -> bool {
        if description.address.family == AF_UNIX {
            return true;
        }
        let counts = self.counts(slot);
        counts.active() == 0 && counts.half_closed == 0
    }

    fn free(&mut self, row: RowRef, description: &ListenerRow) -> Result<(), BpfError> {
        let inode = description.inode;
        if self
            .listeners
            .get(&inode, 0)
            .is_ok_and(|there| there.0 == row)
        {
            let _ = self.listeners.remove(&inode);
        }
        if description.address.family == AF_UNIX {
            self.forget_unix_sock(row);
        }
        let address = Wire(description.address);
        if self
            .by_address
            .get(&address, 0)
            .is_ok_and(|there| there.0 == row)
        {
            let _ = self.by_address.remove(&address);
        }
        // The new generation first: whatever still refers to the row is turned away from now on.
        let generation = row.generation.wrapping_add(1);
        let slot = row.slot as usize;
        self.rows.write(
            slot,
            &ListenerRow {
                generation,
                ..ListenerRow::FREE
            },
        );
        for shard in 0..self.shards {
            self.counters
                .write(slot * self.shards + shard, &ListenerCounters::EMPTY);
        }
        self.cached[slot] = None;
        if let Some(turns) = &mut self.turns {
            turns.forget_listener(slot, self.shards);
        }
        for index in 0..self.worker_rows.len() {
            if self.worker_rows.load(index, offset_of!(WorkerRow, in_use)) == 1
                && self.worker_rows.read(index).key.slot == row.slot
            {
                self.free_worker_row(index)?;
            }
        }
        self.known.remove(&row.slot);
        self.late.remove(&row.slot);
        self.missing.remove(&row.slot);
        self.free_rows
            .push(row.slot, 0)
            .map_err(BpfError::map(map::FREE_LISTENER_ROWS))?;
        self.unused_rows.push_back(row.slot);
        Ok(())
    }

    /// The programs, whom nothing tells of a unix listener's end, remember the address of its socket.
    fn forget_unix_sock(&mut self, row: RowRef) {
        let socks: Vec<u64> = self
            .by_sock
            .iter()
            .filter_map(|entry| entry.ok().filter(|(_, there)| there.0 == row))
            .map(|(sock, _)| sock)
            .collect();
        for sock in socks {
            let _ = self.by_sock.remove(&sock);
        }
    }

    pub(super) fn free_worker_row(&mut self, index: usize) -> Result<(), BpfError> {
        let row = self.worker_rows.read(index);
        let _ = self.workers.remove(&Wire(row.key));
        self.worker_rows.write(index, &WorkerRow::EMPTY);
        if let Some(turns) = &mut self.turns {
            turns.forget_worker(index);
        }
        self.free_worker_rows
            .push(index as u32, 0)
            .map_err(BpfError::map(map::FREE_WORKER_ROWS))
    }
}

/// The state in the word of a row's description that has it.
pub(super) fn state_in(word: u64) -> u32 {
    const AT: usize = offset_of!(ListenerRow, state) % size_of::<u64>();
    let bytes = word.to_ne_bytes();
    u32::from_ne_bytes([bytes[AT], bytes[AT + 1], bytes[AT + 2], bytes[AT + 3]])
}

/// Whether a row that was made from an accepted unix connection is this listener's.
pub(super) fn names(description: &ListenerRow, address: &Address) -> bool {
    matches!(address, Address::Unix(name) if *name == unix_name(description))
}

/// Whether it is called by a path.
pub(super) fn is_path(description: &ListenerRow) -> bool {
    matches!(unix_name(description), UnixName::Path(_))
}

fn unix_name(description: &ListenerRow) -> UnixName {
    let length = (description.unix_name_len as usize).min(UNIX_NAME_LEN);
    UnixName::from_sun_path(&description.unix_name[..length])
}

fn description(inode: u64, row: RowRef, key: AddressKey, address: &Address) -> ListenerRow {
    let mut unix_name = [0; UNIX_NAME_LEN];
    let mut unix_name_len = 0;
    if let Address::Unix(name) = address {
        let (start, bytes): (usize, &[u8]) = match name {
            UnixName::Path(path) => (0, path),
            UnixName::Abstract(name) => (1, name),
            UnixName::Unnamed => (0, &[]),
        };
        let bytes = &bytes[..bytes.len().min(UNIX_NAME_LEN - start)];
        unix_name[start..start + bytes.len()].copy_from_slice(bytes);
        unix_name_len = if bytes.is_empty() {
            0
        } else {
            (start + bytes.len()) as u32
        };
    }
    ListenerRow {
        inode,
        generation: row.generation,
        state: row_state::LISTENING,
        address: key,
        unix_name_len,
        unix_name,
    }
}

/// The address of a listener as the programs see it.
pub(super) fn address_key(key: ListenerKey, address: &Address) -> AddressKey {
    let netns = key.netns.0;
    match address {
        Address::Tcp { ip, port } => {
            let (family, address) = ip_bytes(*ip);
            AddressKey {
                netns,
                family,
                port: *port,
                address,
            }
        }
        Address::Unix(_) => AddressKey {
            netns,
            family: AF_UNIX,
            port: 0,
            address: [0; 16],
        },
    }
}

/// The address of a TCP listener as the programs keep it; `None` for unix.
pub(super) fn tcp_address(key: &AddressKey) -> Option<(IpAddr, u16)> {
    let [a, b, c, d, ..] = key.address;
    match key.family {
        AF_INET => Some((IpAddr::from([a, b, c, d]), key.port)),
        AF_INET6 => Some((IpAddr::from(key.address), key.port)),
        _ => None,
    }
}

/// Family and bytes of an address as the programs keep them.
pub(super) fn ip_bytes(ip: IpAddr) -> (u16, [u8; 16]) {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            (AF_INET, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        IpAddr::V6(ip) => (AF_INET6, ip.octets()),
    }
}
