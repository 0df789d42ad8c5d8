//! The declared slabs of a look: of files, and of what processes have mapped.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use raindrops_slab::{Layout, claim::Owner};

use super::{
    Looker,
    process::{FIRST_PAUSE, Known, LAST_PAUSE},
    refusal,
};
use crate::{
    ids::{Monotonic, Pid, StartTicks},
    snapshot::slabs::{
        Memory, Place, Refusal, Slab, SlabField, SlabKind, SlabSnapshot, Slots, Suspect,
    },
    source::{
        proc,
        slab::{
            declared::{self, Candidate, DeclaredError, claims},
            maps::{Mapping, Maps},
            remote,
        },
    },
};

/// Owners of slots that are no workers of a listener; more are taken for ownerless.
const STRANGERS: usize = 256;
/// Of those that have one memory mapped, who may be asked for it.
const HOLDERS: usize = 16;

/// Why mapped memory is not a declared slab.
#[derive(Debug)]
pub(super) enum NotDeclared {
    /// It does not begin as one.
    Other,
    Refused(String),
}

/// How much may still be read in one look.
pub(super) struct Room {
    slabs: usize,
    bytes: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            slabs: declared::MOST,
            bytes: declared::LONGEST_TOGETHER,
        }
    }
}

impl Room {
    fn has_for(&mut self, layout: &Layout) -> bool {
        let bytes = self.bytes.checked_sub(layout.total() as u64);
        let slabs = self.slabs.checked_sub(1);
        let (Some(bytes), Some(slabs)) = (bytes, slabs) else {
            return false;
        };
        *self = Self { slabs, bytes };
        true
    }
}

impl Looker {
    pub(super) fn look_at_files(
        &mut self,
        suspects: &BTreeMap<Pid, Suspect>,
        room: &mut Room,
        snapshot: &mut SlabSnapshot,
    ) {
        let files = std::mem::take(&mut self.files);
        for (memory, (path, found, layout)) in &files {
            if !room.has_for(layout) {
                snapshot.beyond = true;
                continue;
            }
            let place = Place::File(path.clone());
            match declared::read(layout, &mut self.reading, |at, to| found.copy(at, to)) {
                Ok(()) => {
                    let slab = self.slab(*memory, place, layout, suspects, snapshot.taken);
                    snapshot.slabs.push(slab);
                }
                Err(error) => snapshot.refused.push(refusal(place, &error)),
            }
        }
        self.files = files;
    }

    /// Declared slabs that processes have mapped, and that are none of the files.
    pub(super) fn look_at_mapped(
        &mut self,
        suspects: &BTreeMap<Pid, Suspect>,
        quarantined: &BTreeSet<Pid>,
        room: &mut Room,
        snapshot: &mut SlabSnapshot,
    ) {
        let holders = self.holders(quarantined);
        let mut mapped = std::mem::take(&mut self.mapped);
        mapped.retain(|memory, _| holders.contains_key(memory));
        for (memory, holders) in &holders {
            if self.files.contains_key(memory) {
                continue;
            }
            let state = match mapped.remove(memory) {
                Some(Err(NotDeclared::Refused(_))) | None => {
                    self.first(holders, &mut snapshot.unreadable, |mapping, copy| {
                        begin(mapping.length, copy)
                    })
                }
                known => known,
            };
            // Of those that have it, none can be asked any more.
            let Some(state) = state else { continue };
            let place = match holders.first() {
                Some((
                    _,
                    Mapping {
                        path: Some(path), ..
                    },
                )) => Place::File(path.clone()),
                Some((pid, _)) => Place::Process(*pid),
                None => continue,
            };
            match &state {
                Ok(layout) if room.has_for(layout) => {
                    let mut reading = std::mem::take(&mut self.reading);
                    let read = self.first(holders, &mut snapshot.unreadable, |_, copy| {
                        declared::read(layout, &mut reading, copy)
                    });
                    self.reading = reading;
                    if read.is_some() {
                        let slab = self.slab(*memory, place, layout, suspects, snapshot.taken);
                        snapshot.slabs.push(slab);
                    }
                }
                Ok(_) => snapshot.beyond = true,
                Err(NotDeclared::Refused(reason)) => snapshot.refused.push(Refusal {
                    place,
                    reason: reason.clone(),
                }),
                Err(NotDeclared::Other) => {}
            }
            mapped.insert(*memory, state);
        }
        self.mapped = mapped;
    }

    /// What the first of those that have a memory, and can be asked, gives.
    fn first<T>(
        &self,
        holders: &[(Pid, Mapping)],
        unreadable: &mut BTreeSet<Pid>,
        mut ask: impl FnMut(
            &Mapping,
            &mut dyn FnMut(usize, &mut [u8]) -> Result<(), DeclaredError>,
        ) -> Result<T, DeclaredError>,
    ) -> Option<T> {
        for (pid, mapping) in holders {
            self.watch.begin(*pid);
            let is_there = remote::is_there(*pid, mapping);
            self.watch.end();
            if !is_there {
                continue;
            }
            let mut copy = |at: usize, to: &mut [u8]| {
                self.watch.begin(*pid);
                let copied = remote::copy(*pid, mapping.address + at as u64, to);
                self.watch.end();
                copied.map_err(DeclaredError::Read)
            };
            match ask(mapping, &mut copy) {
                Ok(answer) => return Some(answer),
                Err(DeclaredError::Read(error))
                    if error.kind() == io::ErrorKind::PermissionDenied =>
                {
                    unreadable.insert(*pid);
                }
                Err(_) => {}
            }
        }
        None
    }

    /// Processes that have each shared memory, and where.
    fn holders(&self, quarantined: &BTreeSet<Pid>) -> BTreeMap<Memory, Vec<(Pid, Mapping)>> {
        let mut holders: BTreeMap<Memory, Vec<(Pid, Mapping)>> = BTreeMap::new();
        for (pid, known) in &self.processes {
            if quarantined.contains(pid) || !known.is_readable {
                continue;
            }
            for mapping in &known.maps.shared {
                let of_memory = holders.entry(mapping.memory).or_default();
                if of_memory.len() < HOLDERS {
                    of_memory.push((*pid, mapping.clone()));
                }
            }
        }
        holders
    }

    fn slab(
        &mut self,
        memory: Memory,
        place: Place,
        layout: &Layout,
        suspects: &BTreeMap<Pid, Suspect>,
        now: Monotonic,
    ) -> Slab {
        let pids: BTreeSet<Pid> = self
            .processes
            .iter()
            .filter(|(_, known)| known.maps(memory).is_some())
            .map(|(pid, _)| *pid)
            .collect();
        let mut candidates: Vec<Candidate> = pids
            .iter()
            .filter_map(|pid| {
                let (suspect, known) = (suspects.get(pid)?, self.processes.get(pid)?);
                Some(Candidate {
                    pid: *pid,
                    started: known.started,
                    ns_pid: suspect.ns_pid?,
                    pid_namespace: known.pid_namespace?,
                })
            })
            .collect();
        if self.own_namespace == Some(layout.origin().pid_namespace) {
            self.find_strangers(memory, layout, &mut candidates, now);
        }
        let claims = claims(layout, &self.reading, &candidates);
        let of_servers: BTreeSet<&String> = pids
            .iter()
            .filter_map(|pid| suspects.get(pid)?.member.server.as_ref())
            .collect();
        let known = |values: Vec<_>| values.into_iter().map(Some).collect();
        Slab {
            memory,
            kind: SlabKind::Declared,
            name: Some(layout.name().to_owned()),
            place,
            server: (of_servers.len() == 1)
                .then(|| of_servers.first().map(|id| (*id).clone()))
                .flatten(),
            pids,
            fields: layout
                .fields()
                .iter()
                .map(|placed| SlabField {
                    name: placed.field.name.clone(),
                    kind: placed.field.kind,
                    unit: Some(placed.field.unit.as_str().to_owned()).filter(|it| !it.is_empty()),
                })
                .collect(),
            totals: claims
                .totals
                .values
                .into_iter()
                .map(|(_, value)| Some(value))
                .collect(),
            workers: claims
                .workers
                .into_iter()
                .map(|(worker, values)| (worker, known(values)))
                .collect(),
            slots: Some(Slots {
                count: layout.slot_count(),
                claimed: claims.claimed,
                ownerless: claims.ownerless,
            }),
            read: now,
        }
    }

    /// Owners that serve no listener, of the daemon's own pid namespace.
    fn find_strangers(
        &mut self,
        memory: Memory,
        layout: &Layout,
        candidates: &mut Vec<Candidate>,
        now: Monotonic,
    ) {
        let known: BTreeSet<Pid> = candidates.iter().map(|it| it.pid).collect();
        let slots = self.reading.slots(layout);
        let owners: BTreeSet<Owner> = slots.filter_map(|slot| slot.owner()).collect();
        self.strangers
            .retain(|_, stranger| now.since(stranger.due) < LAST_PAUSE);
        for owner in owners {
            let pid = Pid(owner.pid);
            if known.contains(&pid) {
                continue;
            }
            if !self.strangers.contains_key(&owner) && self.strangers.len() >= STRANGERS {
                return;
            }
            let started = StartTicks(owner.started);
            let new = || Known::new(started);
            let stranger = self.strangers.entry(owner).or_insert_with(new);
            if stranger.due <= now {
                self.watch.begin(pid);
                stranger.maps = Maps::default();
                if proc::started(pid) == Some(started) {
                    stranger.read(pid, now);
                }
                stranger.due = Monotonic(now.0 + FIRST_PAUSE);
                self.watch.end();
            }
            if stranger.maps(memory).is_some()
                && let Some(pid_namespace) = stranger.pid_namespace
            {
                candidates.push(Candidate {
                    pid,
                    started,
                    ns_pid: pid,
                    pid_namespace,
                });
            }
        }
    }
}

/// What mapped memory is. Only what went wrong in copying is an error.
fn begin(
    length: u64,
    mut copy: impl FnMut(usize, &mut [u8]) -> Result<(), DeclaredError>,
) -> Result<Result<Layout, NotDeclared>, DeclaredError> {
    let mut magic = [0; raindrops_slab::layout::MAGIC.len()];
    copy(0, &mut magic)?;
    if magic != raindrops_slab::layout::MAGIC {
        return Ok(Err(NotDeclared::Other));
    }
    match declared::layout(length, copy) {
        Ok(layout) => Ok(Ok(layout)),
        Err(error @ DeclaredError::Read(_)) => Err(error),
        Err(error) => Ok(Err(NotDeclared::Refused(error.to_string()))),
    }
}
