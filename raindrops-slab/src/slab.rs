//! A slab of this process: made, or opened, and mapped.

use alloc::{borrow::ToOwned, string::String, sync::Arc};
use core::sync::atomic::{AtomicU64, Ordering};
use std::{
    ffi::OsString,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{
        FallocateFlags, FileType, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals,
        fstat, memfd_create, open, rename, unlink,
    },
    io::Errno,
};

use crate::{
    claim::{self, Occupant, Owner, SHARED},
    field::{Invalid, Schema},
    layout::{LONGEST_HEADER, Layout, Origin, Refused, STATE_OFFSET, State},
    mapping::Mapping,
    process,
    read::{Reading, Totals},
    slot::{Claimed, Shared, Single, Slot},
};

#[derive(Debug, thiserror::Error)]
pub enum SlabError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("cannot {what} {}", place.display())]
    File {
        what: &'static str,
        place: PathBuf,
        source: io::Error,
    },
    #[error("{}: {refused}", place.display())]
    Refused { place: PathBuf, refused: Refused },
    #[error("{}: not a regular file", place.display())]
    NotAFile { place: PathBuf },
    #[error("cannot tell who this process is: /proc is needed")]
    Process(#[source] io::Error),
    #[error("all {0} slots of slab {1} are taken: create it with more")]
    Full(u32, String),
    #[error("slab {0} is closed: nobody may claim a slot of it any more")]
    Closed(String),
    #[error(
        "slab {0} was made before this boot or in another pid namespace, so that its owners cannot be told: create a new one"
    )]
    Foreign(String),
    #[error("slab {slab} has no {kind} called {field}")]
    NoField {
        slab: String,
        kind: &'static str,
        field: String,
    },
}

/// Files that this process has begun to create.
static CREATED: AtomicU64 = AtomicU64::new(0);

/// Counters in shared memory. Clones of a process, and what it forks, share it.
#[derive(Clone, Debug)]
pub struct Slab {
    mapping: Arc<Mapping>,
    layout: Arc<Layout>,
}

impl Slab {
    /// A slab without a file, for this process and those it forks. Nobody can shorten it, and it is
    /// gone with the last of them.
    ///
    /// # Errors
    /// When the kernel has no memory or descriptor for it, or `/proc` is not there.
    pub fn in_memory(schema: &Schema) -> Result<Self, SlabError> {
        let layout = Layout::new(schema, origin()?)?;
        let name = std::format!("raindrops-slab:{}", schema.name());
        let place = PathBuf::from(&name);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd =
            memfd_create(name.as_str(), flags).map_err(failed("make the memory of", &place))?;
        let slab = Self::make(fd, layout, &place)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(slab.mapping.fd(), seals).map_err(failed("seal the memory of", &place))?;
        Ok(slab)
    }

    /// A slab in a file, readable and writable for its owner only, that takes the place of what is
    /// at `path`. It appears there when it is complete.
    ///
    /// # Errors
    /// When the file cannot be made, or `/proc` is not there.
    pub fn create(path: &Path, schema: &Schema) -> Result<Self, SlabError> {
        let layout = Layout::new(schema, origin()?)?;
        let Origin {
            pid, pid_namespace, ..
        } = *layout.origin();
        // Several threads may create it at one time, and processes of one pid in several containers.
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let mut unfinished = OsString::from(".");
        unfinished.push(path.file_name().unwrap_or_default());
        unfinished.push(std::format!(".{pid_namespace}.{pid}.{number}"));
        let unfinished = path.with_file_name(unfinished);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let opened = match open(&unfinished, flags, mode) {
            // Of a process that had this pid, and died.
            Err(Errno::EXIST) => unlink(&unfinished).and_then(|()| open(&unfinished, flags, mode)),
            result => result,
        };
        let fd = opened.map_err(failed("create", path))?;
        let made = Self::make(fd, layout, path).and_then(|slab| {
            rename(&unfinished, path).map_err(failed("create", path))?;
            Ok(slab)
        });
        if made.is_err() {
            let _ = unlink(&unfinished);
        }
        made
    }

    /// Opens what another process has created. Whoever may write to that file can also shorten it,
    /// which ends every process that has it mapped: open only files of users that are trusted.
    ///
    /// # Errors
    /// When it cannot be opened for reading and writing, or is not a slab.
    pub fn open(path: &Path) -> Result<Self, SlabError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(failed("open", path))?;
        Self::map(fd, path)
    }

    /// The slab of a descriptor that another process has handed over.
    ///
    /// # Errors
    /// When it is not a slab's.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SlabError> {
        Self::map(fd, Path::new("the descriptor"))
    }

    fn make(fd: OwnedFd, layout: Layout, place: &Path) -> Result<Self, SlabError> {
        let length = layout.total();
        // Memory that is promised now is not missing when a worker counts.
        fallocate(&fd, FallocateFlags::empty(), 0, length as u64)
            .map_err(failed("reserve the memory of", place))?;
        let mapping = Mapping::new(fd, length).map_err(failed("map", place))?;
        mapping.fill(0, &layout.encode());
        mapping
            .half(STATE_OFFSET)
            .store(State::Ready as u32, Ordering::Release);
        Ok(Self {
            mapping: Arc::new(mapping),
            layout: Arc::new(layout),
        })
    }

    fn map(fd: OwnedFd, place: &Path) -> Result<Self, SlabError> {
        let stat = fstat(&fd).map_err(failed("look at", place))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let place = place.to_owned();
            return Err(SlabError::NotAFile { place });
        }
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        let mut header = std::vec![0; LONGEST_HEADER.min(length as usize)];
        let read = rustix::io::pread(&fd, &mut header, 0).map_err(failed("read", place))?;
        header.truncate(read);
        let layout = Layout::decode(&header, length).map_err(|refused| SlabError::Refused {
            place: place.to_owned(),
            refused,
        })?;
        let mapping = Mapping::new(fd, layout.total()).map_err(failed("map", place))?;
        Ok(Self {
            mapping: Arc::new(mapping),
            layout: Arc::new(layout),
        })
    }

    /// Claims a slot in which only this thread counts: with a load and a store.
    ///
    /// Claim after the fork: a slot belongs to the process that claimed it.
    ///
    /// # Errors
    /// When all are taken by the living, and when the slab is closed or of another boot or pid
    /// namespace.
    pub fn claim(&self) -> Result<Slot<Single>, SlabError> {
        Ok(Slot::new(self.claimed(0)?))
    }

    /// Claims a slot in which all threads of this process may count: with atomic instructions.
    ///
    /// # Errors
    /// As [`Slab::claim`].
    pub fn claim_shared(&self) -> Result<Slot<Shared>, SlabError> {
        Ok(Slot::new(self.claimed(SHARED)?))
    }

    fn claimed(&self, flags: u64) -> Result<Claimed, SlabError> {
        let name = || self.layout.name().into();
        if self.state() != State::Ready as u32 {
            return Err(SlabError::Closed(name()));
        }
        let origin = self.layout.origin();
        let boot_id = process::boot_id().map_err(SlabError::Process)?;
        let namespace = process::own_pid_namespace().map_err(SlabError::Process)?;
        if (origin.boot_id, origin.pid_namespace) != (boot_id, namespace) {
            return Err(SlabError::Foreign(name()));
        }
        let me = process::own().map_err(SlabError::Process)?;
        let claim = claim::claim(&*self.mapping, &self.layout, me, flags, process::is_dead);
        let claim = claim.ok_or_else(|| SlabError::Full(self.layout.slot_count(), name()))?;
        Ok(Claimed {
            mapping: Arc::clone(&self.mapping),
            layout: Arc::clone(&self.layout),
            claim,
            owner: me,
        })
    }

    /// Lets nobody claim a slot any more. Counts can still be read.
    pub fn close(&self) {
        self.mapping
            .half(STATE_OFFSET)
            .store(State::Closed as u32, Ordering::Release);
    }

    fn state(&self) -> u32 {
        self.mapping.half(STATE_OFFSET).load(Ordering::Acquire)
    }

    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// To hand over to another process, which maps it with [`Slab::from_fd`].
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.mapping.fd()
    }

    /// Copies what all slots hold now.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let mut reading = Reading::default();
        let Ok(()) = reading.take(&self.layout, |at, to| {
            self.mapping.copy(at, to);
            Ok::<(), core::convert::Infallible>(())
        });
        reading
    }

    /// What all workers have counted, and the gauges of those that live. Of another pid namespace
    /// all are taken for alive, since it cannot be told; of another boot nobody is.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let origin = self.layout.origin();
        let is_this_boot = process::boot_id().map_or(true, |id| id == origin.boot_id);
        let is_own_namespace =
            process::own_pid_namespace().is_ok_and(|inode| inode == origin.pid_namespace);
        let is_live = |owner: Owner| {
            is_this_boot && !(is_own_namespace && process::is_dead(Occupant::Owner(owner)))
        };
        self.reading().totals(&self.layout, is_live)
    }
}

fn origin() -> Result<Origin, SlabError> {
    let me = process::own().map_err(SlabError::Process)?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(Origin {
        pid: me.pid,
        pid_namespace: process::own_pid_namespace().map_err(SlabError::Process)?,
        started: me.started,
        created: since_epoch.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(0)),
        boot_id: process::boot_id().map_err(SlabError::Process)?,
    })
}

fn failed<'a>(what: &'static str, place: &'a Path) -> impl FnOnce(Errno) -> SlabError + 'a {
    move |errno| SlabError::File {
        what,
        place: place.to_owned(),
        source: errno.into(),
    }
}
