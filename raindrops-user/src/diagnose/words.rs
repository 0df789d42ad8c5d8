//! What verdicts call things: addresses, servers, workers, durations.

use std::time::{Duration, SystemTime};

use super::{Subject, scene::Waiting};
use crate::{
    render::units::{micros, plural},
    view::{Listener, View, Worker},
};

/// Where it listens, with the network namespace where that is not the daemon's own.
pub(super) fn place(view: &View, listener: &Listener) -> String {
    match view.other_netns(listener) {
        Some(netns) => format!(
            "{} in network namespace {}",
            listener.address,
            netns.label()
        ),
        None => listener.address.clone(),
    }
}

pub(super) fn subject(listener: &Listener) -> Subject {
    Subject {
        listener: Some(listener.id.clone()),
        address: Some(listener.address.clone()),
        server: listener.server.value().cloned(),
        pid: None,
    }
}

/// `worker 14390 of unicorn:14387`; a server of one process is named once.
pub(super) fn worker(view: &View, worker: &Worker) -> String {
    let pid = worker.pid;
    let Some(id) = worker.server.value() else {
        return format!("process {pid} ({})", worker.comm);
    };
    let label = view.server_label(id);
    if id.rsplit(':').next() == Some(pid.to_string().as_str()) {
        format!("process {label}")
    } else {
        format!("worker {pid} of {label}")
    }
}

/// `1 worker of puma:900`, `2 workers of puma:900`.
pub(super) fn workers(view: &View, count: usize, server: Option<&String>) -> String {
    let of = server.map_or(String::new(), |id| format!(" of {}", view.server_label(id)));
    format!("{}{of}", plural(count as u64, "worker"))
}

/// `1 connection waits`, `3 connections wait`.
pub(super) fn wait(count: u64, thing: &str) -> String {
    match count {
        1 => format!("1 {thing} waits"),
        count => format!("{count} {thing}s wait"),
    }
}

/// Connections in a kernel's queue. Which of them has waited for how long is not known.
pub(super) fn in_queue(queue: Waiting) -> String {
    format!(
        "{} in its queue, which has not been empty for {}",
        wait(queue.count, "connection"),
        time(queue.lasted)
    )
}

/// What waits now, at a place if one is given. Every look found some, not so many, nor the same ones.
pub(super) fn waits_now(waiting: Waiting, thing: &str, place: &str) -> String {
    format!(
        "{}{place} now, some have in every look for {}",
        wait(waiting.count, thing),
        time(waiting.lasted)
    )
}

pub(super) fn time(duration: Duration) -> String {
    micros(to_micros(duration))
}

pub(super) fn to_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// When that began which has lasted so long.
pub(super) fn began(view: &View, lasted: Duration) -> Option<SystemTime> {
    view.taken_at.checked_sub(lasted)
}
