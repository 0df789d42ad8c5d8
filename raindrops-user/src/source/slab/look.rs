//! One look at all slabs after another, and what is kept between them: which memory each process
//! has, which files are open, and what each memory turned out to be.
//!
//! What costs is paced apart from what does not: a process's memory map is read when the process is
//! new and then at growing intervals, a few at a look; figures are copied at every look.

mod declared;
mod inferred;
mod owners;
mod process;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use raindrops_slab::{Layout, Reading, claim::Owner};

use self::{
    declared::{NotDeclared, Room},
    process::{Known, pid_namespace},
};
use super::{
    declared::{DeclaredError, Found, MOST, directory, layout, open},
    inferred::Recogniser,
};
use crate::{
    config::SlabPlaces,
    ids::{Monotonic, Pid},
    snapshot::slabs::{Memory, Place, Refusal, SlabSnapshot, Suspect},
    source::watch::Watch,
};

/// How long memory maps are read in one look; one is in any case.
const MAPS_TIME: Duration = Duration::from_millis(2);
/// Between looks for files.
const FILES_PAUSE: Duration = Duration::from_secs(1);

/// In whose place files are watched and left alone, when one of them hangs.
const FILES: Pid = Pid(0);

/// Looks again and again.
#[derive(Debug)]
pub struct Looker {
    places: SlabPlaces,
    watch: Arc<Watch>,
    own_namespace: Option<u32>,
    processes: BTreeMap<Pid, Known>,
    strangers: BTreeMap<Owner, Known>,
    /// How long strangers have been looked for in this look.
    strangers_time: Duration,
    /// Those that were named first.
    files: Vec<(Memory, PathBuf, Found, Layout)>,
    files_refused: Vec<Refusal>,
    files_beyond: bool,
    files_due: Monotonic,
    /// Memory without a file, or of one that is not looked for.
    mapped: BTreeMap<Memory, Result<Layout, NotDeclared>>,
    /// Room for what is copied of one slab at a time.
    reading: Reading,
    recogniser: Recogniser,
}

impl Looker {
    pub(in crate::source) fn new(places: SlabPlaces, watch: Arc<Watch>) -> Self {
        Self {
            places,
            watch,
            own_namespace: pid_namespace("/proc/self/ns/pid"),
            processes: BTreeMap::new(),
            strangers: BTreeMap::new(),
            strangers_time: Duration::ZERO,
            files: Vec::new(),
            files_refused: Vec::new(),
            files_beyond: false,
            files_due: Monotonic(Duration::ZERO),
            mapped: BTreeMap::new(),
            reading: Reading::default(),
            recogniser: Recogniser::new(inferred::host()),
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
        self.forget_strangers(now);
        if quarantined.contains(&FILES) {
            self.files.clear();
        } else if self.files_due <= now {
            self.watch.begin(FILES);
            self.open_files();
            self.watch.end();
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
        snapshot.beyond |= snapshot.slabs.len() > MOST;
        snapshot.slabs.truncate(MOST);
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
            let found = open(None, path);
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
                let layout = layout(found.length, |at, to| found.copy(at, to))?;
                Ok((found, layout))
            });
            match opened {
                Ok((found, layout)) => {
                    let memory = found.memory;
                    if !self.files.iter().any(|(other, ..)| *other == memory) {
                        self.files.push((memory, path, found, layout));
                    }
                }
                Err(error) => self.files_refused.push(refusal(Place::File(path), &error)),
            }
        }
    }
}

fn refusal(place: Place, error: &DeclaredError) -> Refusal {
    Refusal {
        place,
        reason: error.to_string(),
    }
}
