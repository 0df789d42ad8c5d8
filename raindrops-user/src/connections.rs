//! Accepted connections, read from the kernel for who asks for them.
//!
//! Apart from the sampler and from the server, because it can take long: the kernel takes each
//! socket's lock to tell of it, which a process in trouble can hold, and goes through the table of all
//! connections of the host. So it is done on a [`Desk`].

mod desk;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

pub use self::desk::Desk;
use crate::{
    causes::with_causes,
    ids::Monotonic,
    plan::Off,
    snapshot::{
        ListenerKey,
        connections::{BpfConnections, KernelConnections},
    },
    source::diag::{self, Bounds, DiagError},
    view::connections::{Inputs, Listing, Note, Place, Question, SCANNED, list},
};

/// Sockets that are read of the kernel's table before reading ends: those that wait in full queues are
/// among them.
const SOCKETS: usize = 16 * SCANNED;

/// Why there is no list, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error} ({hint})")]
pub struct Unlisted {
    pub error: String,
    pub hint: String,
}

/// Reads what sock_diag and the programs know, in this order: the dump gives sockets the cookies by
/// which the two are joined. Of the network namespace of the calling thread, sock_diag; `programs`, of
/// all.
///
/// # Errors
/// When nothing can be read.
pub fn read(
    question: &Question,
    programs: impl FnOnce(Vec<ListenerKey>, Duration) -> Result<BpfConnections, Off>,
    until: Instant,
) -> Result<Listing, Unlisted> {
    let mut notes = Vec::new();
    let kernel = match dumped(question, until, &mut notes) {
        Ok(kernel) => kernel,
        Err(error) => {
            notes.push(not_dumped(&error));
            None
        }
    };
    let wanted = question.wanted().map(|place| place.key).collect();
    let bpf = match programs(wanted, left(until) / 2) {
        Ok(bpf) => Some(bpf),
        Err(off) if question.worker.is_some() => return Err(no_workers(off)),
        Err(off) => {
            notes.push(no_turns(off));
            None
        }
    };
    if bpf.is_none() && question.wanted().any(|place| place.tcp.is_none()) {
        notes.push(Note {
            what: "unix".to_owned(),
            text: "connections of unix listeners are not listed without BPF".to_owned(),
            hint: None,
        });
    }
    if bpf.is_none() && kernel.is_none() && question.wanted().next().is_some() {
        return Err(nothing(notes));
    }
    Ok(list(Inputs {
        question,
        kernel: kernel.as_ref(),
        bpf: bpf.as_ref(),
        notes,
        now: Monotonic::now(),
        wall: SystemTime::now(),
    }))
}

/// What sock_diag lists; `None` where no listener that is wanted is of this namespace.
fn dumped(
    question: &Question,
    until: Instant,
    notes: &mut Vec<Note>,
) -> Result<Option<KernelConnections>, DiagError> {
    let own = diag::current_netns()?;
    let (here, elsewhere): (Vec<&Place>, Vec<&Place>) = question
        .wanted()
        .filter(|place| place.tcp.is_some())
        .partition(|place| place.key.netns == own);
    if !elsewhere.is_empty() {
        notes.push(Note {
            what: "tcp".to_owned(),
            text: "tcp_info is not read in other network namespaces than the daemon's".to_owned(),
            hint: None,
        });
    }
    let tcp = here.iter().filter_map(|place| place.tcp);
    let ports: BTreeSet<u16> = tcp.map(|(_, port)| port).collect();
    if ports.is_empty() {
        return Ok(None);
    }
    let bounds = Bounds {
        connections: SCANNED,
        sockets: SOCKETS,
        until: Instant::now() + left(until) / 2,
    };
    diag::accepted(&ports, bounds).map(Some)
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn not_dumped(error: &DiagError) -> Note {
    let module = error.missing_module();
    Note {
        what: "tcp".to_owned(),
        text: format!("tcp_info cannot be read: {}", with_causes(error)),
        hint: module.map(|module| format!("run {} as root", module.modprobe())),
    }
}

fn no_turns(off: Off) -> Note {
    Note {
        what: "turns".to_owned(),
        text: format!("worker, age and phase are not known: {}", off.reason),
        hint: off.grant,
    }
}

fn no_workers(off: Off) -> Unlisted {
    Unlisted {
        error: format!("no connection's worker is known: {}", off.reason),
        hint: off
            .grant
            .unwrap_or_else(|| "ask without the worker".to_owned()),
    }
}

fn nothing(notes: Vec<Note>) -> Unlisted {
    let (mut reasons, mut hints) = (Vec::new(), Vec::new());
    for note in notes {
        reasons.push(note.text);
        hints.extend(note.hint);
    }
    Unlisted {
        error: format!("connections cannot be listed: {}", reasons.join("; ")),
        hint: if hints.is_empty() {
            "raindrops doctor says what this host cannot show".to_owned()
        } else {
            hints.join("; ")
        },
    }
}

/// What came of a question.
pub type Answer = Result<Listing, Unlisted>;

#[cfg(test)]
mod tests;
