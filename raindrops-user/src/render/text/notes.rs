//! Lines under the workers of a server: what puma says of itself, and threads that are stuck.

use std::time::Duration;

use crate::{
    escape::printable,
    render::units::{UNKNOWN, micros},
    view::{
        Worker,
        puma::{Puma, PumaSource, PumaWorker},
    },
};

/// Of all workers together, then of those that can take no more.
pub(crate) fn puma(puma: &Puma) -> String {
    let mut text = match (puma.source, puma.age_ms) {
        (PumaSource::Estimate, _) => "puma (estimate): ".to_owned(),
        (PumaSource::Control, None) => "puma says: ".to_owned(),
        (PumaSource::Control, Some(age)) => {
            format!("puma, asked {} ago: ", micros(age.saturating_mul(1_000)))
        }
    };
    let of_server = [
        puma.phase.map(|phase| format!("phase {phase}")),
        puma.booted_workers.map(|booted| format!("{booted} booted")),
        puma.old_workers
            .filter(|old| *old > 0)
            .map(|old| format!("{old} of an earlier phase")),
    ];
    let of_server: Vec<String> = of_server.into_iter().flatten().collect();
    if !of_server.is_empty() {
        text.push_str(&format!("{}; ", of_server.join(", ")));
    }
    let figures = [
        ("backlog", sum(puma, |it| it.backlog)),
        ("running", sum(puma, |it| it.running)),
        ("busy", sum(puma, |it| it.busy_threads)),
    ];
    let figures = figures.map(|(name, figure)| format!("{name} {}", known(figure)));
    // Only puma knows how many threads it may still make.
    let capacity = |figure: Option<u64>| match puma.source {
        PumaSource::Control => format!(", capacity {}", known(figure)),
        PumaSource::Estimate => String::new(),
    };
    text.push_str(&figures.join(", "));
    text.push_str(&capacity(sum(puma, |it| it.pool_capacity)));
    let full: Vec<&PumaWorker> = puma.workers.iter().filter(|it| is_full(it)).collect();
    if full.len() < puma.workers.len() {
        for (index, worker) in full.iter().filter_map(|it| Some((it.index?, it))) {
            text.push_str(&format!(
                "; worker {index}: backlog {}{}",
                known(worker.backlog),
                capacity(worker.pool_capacity)
            ));
        }
    }
    text
}

/// Not known as soon as it is not of one worker.
fn sum(puma: &Puma, figure: fn(&PumaWorker) -> Option<u64>) -> Option<u64> {
    let sum = puma.workers.iter().map(figure).sum::<Option<u64>>();
    sum.filter(|_| !puma.workers.is_empty())
}

fn is_full(worker: &PumaWorker) -> bool {
    worker.pool_capacity == Some(0) || worker.backlog.is_some_and(|backlog| backlog > 0)
}

fn known(figure: Option<u64>) -> String {
    figure.map_or_else(|| UNKNOWN.to_owned(), |figure| figure.to_string())
}

/// What is known of the thread of a worker that sits in one place.
pub(crate) fn stalled(worker: &Worker) -> Option<String> {
    let stalled = worker.stalled.as_ref()?;
    let is = match stalled.state.as_str() {
        "D" => "cannot be interrupted (D)",
        "T" | "t" => "is stopped (T)",
        letter => &format!("sits in state {}", printable(letter)),
    };
    let age = Duration::from_millis(stalled.for_ms).as_micros();
    let age = micros(u64::try_from(age).unwrap_or(u64::MAX));
    let mut text = format!(
        "{}: thread {} ({}) {is}, for {age}",
        worker.pid,
        stalled.thread,
        printable(&stalled.thread_name)
    );
    if let Some(syscall) = &stalled.syscall {
        text.push_str(&format!(", in {}()", printable(syscall)));
    }
    if let Some(wchan) = &stalled.wchan {
        text.push_str(&format!(", at {}", printable(wchan)));
    }
    Some(text)
}
