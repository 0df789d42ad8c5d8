//! The declared slabs of a look: of files, and of what processes have mapped.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use raindrops_slab::{Kind as FieldKind, Layout, layout::Placed};

use super::{FILES, Looker, refusal};
use crate::{
    ids::{Monotonic, Pid},
    snapshot::slabs::{
        Memory, Place, Refusal, Slab, SlabField, SlabKind, SlabSnapshot, Slots, Suspect,
    },
    source::slab::{
        declared::{self, DeclaredError, Judged, claims},
        maps::Mapping,
        remote,
    },
};

/// Figures of workers that are shown of one slab.
const WORKER_FIGURES: usize = 16 * 1024;
/// Between questions whether memory has become a slab.
const OTHER_PAUSE: Duration = Duration::from_secs(5);
/// Of those that have one memory mapped, who may be asked for it.
const HOLDERS: usize = 16;

/// Why mapped memory is not a declared slab.
#[derive(Debug)]
pub(super) enum NotDeclared {
    /// It does not begin as one, and is asked again at this time.
    Other(Monotonic),
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
        for (memory, path, found, layout) in &files {
            if !room.has_for(layout) {
                snapshot.beyond = true;
                continue;
            }
            let place = Place::File(path.clone());
            self.watch.begin(FILES);
            let read = declared::read(layout, &mut self.reading, |at, to| found.copy(at, to));
            self.watch.end();
            match read {
                Ok(()) => {
                    self.add(*memory, place, layout, suspects, snapshot);
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
        let files: BTreeSet<Memory> = self.files.iter().map(|(memory, ..)| *memory).collect();
        let mut mapped = std::mem::take(&mut self.mapped);
        mapped.retain(|memory, _| holders.contains_key(memory));
        for (memory, holders) in &holders {
            if files.contains(memory) {
                continue;
            }
            let state = match mapped.remove(memory) {
                Some(Err(NotDeclared::Other(again))) if again > snapshot.taken => {
                    Some(Err(NotDeclared::Other(again)))
                }
                Some(Err(_)) | None => {
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
                        declared::is_still(layout, &mut *copy)?;
                        declared::read(layout, &mut reading, copy)
                    });
                    self.reading = reading;
                    // Gone, or another one by now: looked at anew.
                    let Some(()) = read else { continue };
                    self.add(*memory, place, layout, suspects, snapshot);
                }
                Ok(_) => snapshot.beyond = true,
                Err(NotDeclared::Refused(reason)) => snapshot.refused.push(Refusal {
                    place,
                    reason: reason.clone(),
                }),
                Err(NotDeclared::Other(_)) => {}
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

    /// Adds the slab that was copied last.
    fn add(
        &mut self,
        memory: Memory,
        place: Place,
        layout: &Layout,
        suspects: &BTreeMap<Pid, Suspect>,
        snapshot: &mut SlabSnapshot,
    ) {
        let pids: BTreeSet<Pid> = self
            .processes
            .iter()
            .filter(|(_, known)| known.maps(memory).is_some())
            .map(|(pid, _)| *pid)
            .collect();
        let owners = self.owners(memory, layout, suspects, &snapshot.quarantined);
        let judge = |owner| owners.get(&owner).copied().unwrap_or(Judged::Unknown);
        let claims = claims(layout, &self.reading, judge);
        let is_told = |field: &Placed| claims.unknown == 0 || field.field.kind != FieldKind::Gauge;
        let of_servers: BTreeSet<&String> = pids
            .iter()
            .filter_map(|pid| suspects.get(pid)?.member.server.as_ref())
            .collect();
        let known = |values: Vec<_>| values.into_iter().map(Some).collect();
        let most_workers = WORKER_FIGURES / layout.fields().len();
        snapshot.beyond |= claims.workers.len() > most_workers;
        snapshot.slabs.push(Slab {
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
            totals: layout
                .fields()
                .iter()
                .zip(&claims.totals.values)
                .map(|(placed, (_, value))| is_told(placed).then(|| value.clone()))
                .collect(),
            workers: claims
                .workers
                .into_iter()
                .take(most_workers)
                .map(|(worker, values)| (worker, known(values)))
                .collect(),
            slots: Some(Slots {
                count: layout.slot_count(),
                claimed: claims.claimed,
                ownerless: claims.ownerless,
                unknown: claims.unknown,
            }),
            read: snapshot.taken,
        });
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
        let again = Monotonic(Monotonic::now().0 + OTHER_PAUSE);
        return Ok(Err(NotDeclared::Other(again)));
    }
    match declared::layout(length, copy) {
        Ok(layout) => Ok(Ok(layout)),
        Err(error @ DeclaredError::Read(_)) => Err(error),
        Err(error) => Ok(Err(NotDeclared::Refused(error.to_string()))),
    }
}
