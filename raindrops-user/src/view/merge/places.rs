//! What the threads of a worker are at, those that are stalled and those at old turns.

use super::millis;
use crate::{
    escape::escaped,
    ids::{Pid, Tid},
    snapshot::{ProcSnapshot, Threads},
    view::{Place, Stalled},
};

/// A thread of `pid` that is stalled; `oldest`, which is at its oldest turn, rather than another.
pub(super) fn stalled(
    proc: &ProcSnapshot,
    pid: Pid,
    threads: &Threads,
    oldest: Option<(Pid, Tid)>,
) -> Option<Stalled> {
    let (tid, thread, time) = threads.stalled(oldest.map(|(_, tid)| tid))?;
    let place = proc.places.get(&(pid, tid));
    Some(Stalled {
        thread: tid.0,
        thread_name: escaped(&thread.comm),
        state: thread.state.to_string(),
        for_ms: millis(time),
        syscall: place.and_then(|place| place.syscall.clone()),
        wchan: place.and_then(|place| place.wchan.clone()),
    })
}

/// Known only of threads that somebody asked about, or that are stalled.
pub(super) fn oldest_place(proc: &ProcSnapshot, thread: (Pid, Tid)) -> Option<Place> {
    let place = proc.places.get(&thread)?;
    Some(Place {
        state: place.state.to_string(),
        syscall: place.syscall.clone(),
        wchan: place.wchan.clone(),
    })
}
