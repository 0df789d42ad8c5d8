//! One look at all slabs after another, and what is kept between them: which memory each process
//! has, which files are open, and what each memory turned out to be.
//!
//! What costs is paced apart from what does not: a process's memory map is read when the process is
//! new and then at growing intervals, a few at a look; figures are copied at every look.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use raindrops_slab::{Layout, Reading, claim::Owner};
use rustix::time::{ClockId, clock_gettime};

use super::{
    declared::{self, Candidate, DeclaredError, Found, claims, directory},
    inferred::{self, Copied, Host, Mapped, Recogniser},
    maps::{Mapping, Maps},
    remote,
};
use crate::{
    config::SlabPlaces,
    ids::{Monotonic, Pid, StartTicks},
    snapshot::slabs::{
        Memory, Place, Refusal, Slab, SlabField, SlabKind, SlabSnapshot, Slots, Suspect,
    },
    source::{proc::started, watch::Watch},
};

/// Between readings of one process's memory map: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// How long memory maps are read in one look; one is in any case.
const MAPS_TIME: Duration = Duration::from_millis(2);
/// Bytes of a memory map: some 80,000 lines.
const MAPS: u64 = 8 << 20;
/// Between looks for files.
const FILES_PAUSE: Duration = Duration::from_secs(1);
/// Owners of slots that are no workers of a listener; more are taken for ownerless.
const STRANGERS: usize = 256;

/// Of those that have one memory mapped, who may be asked for it.
const HOLDERS: usize = 16;

/// How much may still be read in one look.
struct Room {
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

/// Looks again and again.
#[derive(Debug)]
pub struct Looker {
    places: SlabPlaces,
    watch: Arc<Watch>,
    own_namespace: Option<u32>,
    processes: BTreeMap<Pid, Known>,
    strangers: BTreeMap<Owner, Known>,
    files: BTreeMap<Memory, (PathBuf, Found, Layout)>,
    files_refused: Vec<Refusal>,
    files_beyond: bool,
    files_due: Monotonic,
    /// Memory without a file, or of one that is not looked for.
    mapped: BTreeMap<Memory, Result<Layout, NotDeclared>>,
    /// Room for what is copied of one slab at a time.
    reading: Reading,
    recogniser: Recogniser,
}

/// A process, and what it had mapped when that was last read.
#[derive(Debug)]
struct Known {
    started: StartTicks,
    pid_namespace: Option<u32>,
    maps: Maps,
    is_readable: bool,
    due: Monotonic,
    pause: Duration,
}

/// Why mapped memory is not a declared slab.
#[derive(Debug)]
enum NotDeclared {
    /// It does not begin as one.
    Other,
    Refused(String),
}

impl Known {
    fn new(started: StartTicks) -> Self {
        Self {
            started,
            pid_namespace: None,
            maps: Maps::default(),
            is_readable: true,
            due: Monotonic(Duration::ZERO),
            pause: FIRST_PAUSE,
        }
    }

    fn read(&mut self, pid: Pid, now: Monotonic) {
        match read_maps(pid) {
            Ok(bytes) => {
                self.maps = Maps::parse(&bytes, declared::LONGEST);
                self.is_readable = true;
            }
            Err(error) => self.is_readable = error.kind() != io::ErrorKind::PermissionDenied,
        }
        if self.pid_namespace.is_none() {
            self.pid_namespace = pid_namespace(&format!("/proc/{pid}/ns/pid"));
        }
        self.due = Monotonic(now.0 + self.pause);
        self.pause = (self.pause * 2).min(LAST_PAUSE);
    }

    fn maps(&self, memory: Memory) -> Option<&Mapping> {
        self.maps.shared.iter().find(|it| it.memory == memory)
    }
}

impl Looker {
    pub(in crate::source) fn new(places: SlabPlaces, watch: Arc<Watch>) -> Self {
        Self {
            places,
            watch,
            own_namespace: pid_namespace("/proc/self/ns/pid"),
            processes: BTreeMap::new(),
            strangers: BTreeMap::new(),
            files: BTreeMap::new(),
            files_refused: Vec::new(),
            files_beyond: false,
            files_due: Monotonic(Duration::ZERO),
            mapped: BTreeMap::new(),
            reading: Reading::default(),
            recogniser: Recogniser::new(host()),
        }
    }

    /// For a single look.
    #[must_use]
    pub fn once(places: SlabPlaces) -> Self {
        Self::new(places, Arc::default())
    }

    /// Looks at these processes and at the files.
    pub fn look(&mut self, suspects: &BTreeMap<Pid, Suspect>) -> SlabSnapshot {
        let now = Monotonic::now();
        let quarantined = self.watch.quarantined();
        self.read_maps(suspects, &quarantined, now);
        if self.files_due <= now {
            self.open_files();
            self.files_due = Monotonic(now.0 + FILES_PAUSE);
        }
        let mut snapshot = SlabSnapshot {
            taken: now,
            slabs: Vec::new(),
            refused: self.files_refused.clone(),
            beyond: self.files_beyond,
            unreadable: self
                .processes
                .iter()
                .filter(|(_, known)| !known.is_readable)
                .map(|(pid, _)| *pid)
                .collect(),
            quarantined: quarantined.clone(),
        };
        let mut room = Room::default();
        self.look_at_files(suspects, &mut room, &mut snapshot);
        self.look_at_mapped(suspects, &quarantined, &mut room, &mut snapshot);
        if self.places.inferred {
            self.infer(suspects, &quarantined, &mut snapshot);
        }
        snapshot.beyond |= snapshot.slabs.len() > declared::MOST;
        snapshot.slabs.truncate(declared::MOST);
        snapshot
            .slabs
            .sort_by(|a, b| (a.kind, &a.place, a.memory).cmp(&(b.kind, &b.place, b.memory)));
        snapshot
    }

    fn read_maps(
        &mut self,
        suspects: &BTreeMap<Pid, Suspect>,
        quarantined: &BTreeSet<Pid>,
        now: Monotonic,
    ) {
        self.processes.retain(|pid, known| {
            let suspect = suspects.get(pid);
            suspect.is_some_and(|suspect| suspect.started == known.started)
        });
        for (pid, suspect) in suspects {
            let new = || Known::new(suspect.started);
            self.processes.entry(*pid).or_insert_with(new);
        }
        // The longest overdue first.
        let mut due: Vec<(Monotonic, Pid)> = self
            .processes
            .iter()
            .filter(|(pid, known)| known.due <= now && !quarantined.contains(pid))
            .map(|(pid, known)| (known.due, *pid))
            .collect();
        due.sort_unstable();
        for (_, pid) in due {
            self.watch.begin(pid);
            if let Some(known) = self.processes.get_mut(&pid) {
                known.read(pid, now);
            }
            self.watch.end();
            if self.watch.stopped() || Monotonic::now().since(now) > MAPS_TIME {
                return;
            }
        }
    }

    /// Opens the files anew: what was deleted does not stay because it is looked at.
    fn open_files(&mut self) {
        self.files.clear();
        let directory = self.places.directory.as_deref();
        let mut listing = directory.map(directory::list).unwrap_or_default();
        let named = self.places.files.iter().map(|path| {
            let found = declared::open(None, path);
            (path.clone(), found)
        });
        self.files_beyond = listing.beyond;
        self.files_refused = std::mem::take(&mut listing.refused)
            .into_iter()
            .map(|(path, reason)| Refusal {
                place: Place::File(path),
                reason,
            })
            .collect();
        for (path, found) in named.chain(listing.files) {
            let opened = found.and_then(|found| {
                let layout = declared::layout(found.length, |at, to| found.copy(at, to))?;
                Ok((found, layout))
            });
            match opened {
                Ok((found, layout)) => {
                    let memory = found.memory;
                    self.files.entry(memory).or_insert((path, found, layout));
                }
                Err(error) => self.files_refused.push(refusal(Place::File(path), &error)),
            }
        }
    }

    fn look_at_files(
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
    fn look_at_mapped(
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

    fn infer(
        &mut self,
        suspects: &BTreeMap<Pid, Suspect>,
        quarantined: &BTreeSet<Pid>,
        snapshot: &mut SlabSnapshot,
    ) {
        let processes: BTreeMap<Pid, Mapped<'_>> = self
            .processes
            .iter()
            .filter_map(|(pid, known)| {
                let process = suspects.get(pid)?;
                let mapped = Mapped {
                    process,
                    maps: &known.maps,
                    is_read: known.is_readable && known.due.0 > Duration::ZERO,
                };
                Some((*pid, mapped))
            })
            .collect();
        let mut bytes: BTreeMap<Memory, Vec<u8>> = BTreeMap::new();
        let began = Monotonic::now();
        for (pid, mapped) in &processes {
            for mapping in &mapped.maps.shared {
                let is_worth_it = mapping.length <= inferred::LONGEST
                    && !quarantined.contains(pid)
                    && !bytes.contains_key(&mapping.memory)
                    && inferred::is_candidate(*mapped, mapping);
                if !is_worth_it {
                    continue;
                }
                let mut copy = vec![0; mapping.length as usize];
                self.watch.begin(*pid);
                let copied = remote::copy(*pid, mapping.address, &mut copy);
                self.watch.end();
                match copied {
                    Ok(()) => {
                        bytes.insert(mapping.memory, copy);
                    }
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        snapshot.unreadable.insert(*pid);
                    }
                    Err(_) => {}
                }
            }
        }
        let copied = Copied {
            began,
            ended: Monotonic::now(),
            suspended: suspended(),
        };
        let found = self.recogniser.recognise(&processes, &bytes, copied);
        snapshot.slabs.extend(found);
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
                if self::started(pid) == Some(started) {
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

fn refusal(place: Place, error: &DeclaredError) -> Refusal {
    Refusal {
        place,
        reason: error.to_string(),
    }
}

fn read_maps(pid: Pid) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/maps"))?
        .take(MAPS)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn host() -> Host {
    // SAFETY: asks for numbers.
    let (line, processors) = unsafe {
        (
            libc::sysconf(libc::_SC_LEVEL1_DCACHE_LINESIZE),
            libc::sysconf(libc::_SC_NPROCESSORS_CONF),
        )
    };
    Host {
        stride: inferred::stride(usize::try_from(line).ok(), processors == 1),
        musl_stride: inferred::stride(None, processors == 1),
        page: rustix::param::page_size(),
        ticks_per_second: rustix::param::clock_ticks_per_second(),
    }
}

/// Since the host was started.
fn suspended() -> Duration {
    let awake = clock_gettime(ClockId::Monotonic);
    let since_boot = clock_gettime(ClockId::Boottime);
    Duration::from_secs(since_boot.tv_sec.abs_diff(awake.tv_sec))
}

fn pid_namespace(link: &str) -> Option<u32> {
    u32::try_from(std::fs::metadata(link).ok()?.ino()).ok()
}
