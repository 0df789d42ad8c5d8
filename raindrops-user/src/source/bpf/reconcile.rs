//! Has the programs compare their table of connections with the sockets, a part of it at a time.
//!
//! The keys are read one by one: while a batch of them is read the kernel runs no program of a
//! tracepoint on that CPU, and would lose accepts.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapError},
    programs::{ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use raindrops_ebpf::{
    connection::Connection,
    names::{map, program},
    overlooked::{LOOKS, Look},
};

use super::{
    Bpf, BpfError, Wire,
    load::{load_program, refused},
    shared::SharedArray,
};
use crate::{
    causes::with_causes,
    ids::Monotonic,
    reconcile::{FoundLater, Suspects},
};

/// Entries that are looked at in one step.
const STEP: usize = 1024;
/// A little less than the time between two views while nobody reads: steps come with views.
const INTERVAL: Duration = Duration::from_millis(900);
/// Steps that may fail in a row.
const FAILURES: u32 = 3;

const BPF_MAP_GET_NEXT_KEY: libc::c_int = 4;

/// The programs that compare, and how far they have got.
pub(super) struct Reconciler {
    program: &'static str,
    looks: SharedArray<Look>,
    stepped: Monotonic,
    /// Keys of the entries that were looked at last. The next step begins behind the last of them
    /// that is still there.
    last: Vec<u64>,
    suspects: Suspects,
    found: FoundLater,
    /// In a row.
    failures: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("cannot read the keys of the table of connections")]
    Keys(#[source] io::Error),
    #[error(transparent)]
    Bpf(#[from] BpfError),
    #[error("cannot run the program {0}")]
    Run(&'static str, #[source] ProgramError),
}

impl Reconciler {
    /// Loads the programs, which are attached nowhere.
    pub(super) fn load(
        ebpf: &mut Ebpf,
        program: &'static str,
        looks: SharedArray<Look>,
    ) -> Result<Self, BpfError> {
        for name in [program::LOOK, program] {
            let program: &mut RawTracePoint = load_program(ebpf, name)?;
            program.load().map_err(refused(name))?;
        }
        Ok(Self {
            program,
            looks,
            stepped: Monotonic::now(),
            last: Vec::new(),
            suspects: Suspects::default(),
            found: FoundLater::default(),
            failures: 0,
        })
    }

    fn step(&mut self, ebpf: &Ebpf, is_empty: bool, now: Monotonic) -> Result<(), StepError> {
        self.stepped = now;
        for look in self.suspects.take_due(now) {
            self.looks.write(0, &look);
            run(ebpf, self.program, 0)?;
            let made_up_for = self.looks.read(0);
            if made_up_for.overlooked != look.overlooked {
                self.suspects.clear(look);
            }
            self.found.count(made_up_for);
        }
        if is_empty {
            self.last.clear();
            return Ok(());
        }
        self.last = next_keys(ebpf, &self.last)?;
        for keys in self.last.chunks(LOOKS as usize) {
            for (index, key) in keys.iter().enumerate() {
                self.looks.write(index, &Look::at(*key));
            }
            run(ebpf, program::LOOK, keys.len())?;
            for index in 0..keys.len() {
                self.suspects.looked(self.looks.read(index), now);
            }
        }
        Ok(())
    }
}

impl Bpf {
    /// About once a second, looks at some of the connections, and makes up for events of theirs that the
    /// programs did not see.
    pub fn reconcile(&mut self, now: Monotonic) {
        let is_due = |it: &Reconciler| now.since(it.stepped) >= INTERVAL && it.failures < FAILURES;
        let is_empty = self.reconciler.as_ref().is_some_and(is_due) && self.has_no_connections();
        let Some(reconciler) = self.reconciler.as_mut().filter(|it| is_due(it)) else {
            return;
        };
        let Err(error) = reconciler.step(&self.ebpf, is_empty, now) else {
            reconciler.failures = 0;
            return;
        };
        reconciler.failures += 1;
        if reconciler.failures == FAILURES {
            let reason = with_causes(&error);
            log::error!("events that are missed will not be found later: {reason}");
            self.hooks.refused.push(format!("reconcile: {reason}"));
        }
    }

    /// Events that the programs did not see, and that were found later.
    #[must_use]
    pub fn found_later(&self) -> FoundLater {
        let reconciler = self.reconciler.as_ref();
        reconciler.map_or_else(FoundLater::default, |it| it.found)
    }
}

/// Runs a program with a number.
pub(super) fn run(ebpf: &Ebpf, name: &'static str, number: usize) -> Result<(), StepError> {
    let program: &RawTracePoint = ebpf
        .program(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(BpfError::Missing(name))?;
    let mut options = RawTracePointRunOptions::new();
    options.args[0] = number as u64;
    let result = program.test_run(options);
    result
        .map(drop)
        .map_err(|error| StepError::Run(name, error))
}

/// Keys behind those that were read last; at most to the end of the table.
fn next_keys(ebpf: &Ebpf, last: &[u64]) -> Result<Vec<u64>, StepError> {
    let connections = ebpf.map(map::CONNECTIONS);
    let missing = BpfError::Missing(map::CONNECTIONS);
    let Some(connections @ Map::HashMap(data)) = connections else {
        return Err(missing.into());
    };
    let entries: HashMap<_, u64, Wire<Connection>> = connections
        .try_into()
        .map_err(BpfError::map(map::CONNECTIONS))?;
    // Behind a key that is gone the kernel begins anew.
    let is_there = |key: &&u64| !matches!(entries.get(key, 0), Err(MapError::KeyNotFound));
    let mut previous = if last.len() < STEP {
        None
    } else {
        last.iter().rfind(is_there).copied()
    };
    let mut keys = Vec::with_capacity(last.len());
    while keys.len() < STEP {
        match next_key(data.fd().as_fd(), previous).map_err(StepError::Keys)? {
            Some(key) => keys.push(key),
            None => break,
        }
        previous = keys.last().copied();
    }
    Ok(keys)
}

fn next_key(map: BorrowedFd<'_>, previous: Option<u64>) -> io::Result<Option<u64>> {
    let mut next = 0u64;
    let from = previous
        .as_ref()
        .map_or(0, |key| std::ptr::from_ref(key).expose_provenance());
    let to = (&raw mut next).expose_provenance();
    let map = u64::from(map.as_raw_fd().cast_unsigned());
    let attributes = [map, from as u64, to as u64, 0];
    // SAFETY: the kernel reads a key of eight bytes at `from`, if that is not null, and writes one at
    // `to`; all of them live across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_GET_NEXT_KEY,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if result == 0 {
        return Ok(Some(next));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        error => Err(error),
    }
}
