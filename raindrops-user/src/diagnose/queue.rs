//! Verdicts on one listener's queue.

use std::collections::BTreeMap;

use super::{
    Severity,
    finding::{Code, Finding},
    scene::PATIENCE,
    words::{self, place, subject},
};
use crate::{
    render::units::plural,
    view::{LimitFrom, Listener, View},
};

pub(super) fn findings(view: &View) -> impl Iterator<Item = Finding> {
    let listeners = view.listeners.iter();
    listeners.filter_map(|it| dropping(view, it).or_else(|| full(view, it)))
}

fn dropping(view: &View, listener: &Listener) -> Option<Finding> {
    let recently = listener.recent.overflows.filter(|count| *count > 0)?;
    let queue = &listener.queue;
    let mut evidence = queue_evidence(listener);
    let recently = queue.overflows.map_or(recently, |all| all.min(recently));
    evidence.insert("recent_overflows".to_owned(), recently);
    let total = match queue.overflows {
        Some(overflows) => {
            evidence.insert("overflows".to_owned(), overflows);
            format!(
                ", {overflows} since {}",
                humantime::format_rfc3339_seconds(view.since)
            )
        }
        None => String::new(),
    };
    let about = if queue.overflows_exact == Some(true) {
        ""
    } else {
        "about "
    };
    let was_full = match queue.full_since {
        Some(since) => format!(
            "has been full since {}",
            humantime::format_rfc3339_seconds(since)
        ),
        None => "was full".to_owned(),
    };
    Some(Finding {
        code: Code::QueueDropping,
        amount: recently,
        severity: Severity::Critical,
        subject: subject(listener),
        since: listener.queue.full_since,
        text: format!(
            "{} dropped {about}{} (retries counted) in the last \
             {} s{total}: its queue{} {was_full}",
            place(view, listener),
            plural(recently, "connection attempt"),
            listener.recent.overflows_over_ms.div_ceil(1000).max(1),
            limit_in_words(listener)
        ),
        evidence,
        next: next_for_a_full_queue(listener),
    })
}

/// A queue that has only just become full may be worked off before anything is dropped.
fn full(view: &View, listener: &Listener) -> Option<Finding> {
    let (queued, limit) = (listener.queue.queued?, listener.queue.limit?);
    let since = listener.queue.full_since;
    let lasted = since.and_then(|since| view.taken_at.duration_since(since).ok());
    (queued > limit).then(|| Finding {
        code: Code::QueueFull,
        amount: u64::from(queued),
        severity: if lasted.is_some_and(|lasted| lasted < PATIENCE) {
            Severity::Info
        } else {
            Severity::Warning
        },
        subject: subject(listener),
        since,
        text: format!(
            "{} has {} waiting to be accepted: its queue{} is full{}",
            place(view, listener),
            plural(u64::from(queued), "connection"),
            limit_in_words(listener),
            lasted.map_or(String::new(), |lasted| format!(
                ", for {} in every sample",
                words::time(lasted)
            ))
        ),
        evidence: queue_evidence(listener),
        next: next_for_a_full_queue(listener),
    })
}

fn queue_evidence(listener: &Listener) -> BTreeMap<String, u64> {
    [
        ("queued", listener.queue.queued),
        ("limit", listener.queue.limit),
        ("peak", listener.recent.peak),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), u64::from(value?))))
    .collect()
}

/// ` of 8 (the app's listen backlog)`, or nothing.
fn limit_in_words(listener: &Listener) -> String {
    match (listener.queue.limit, listener.queue.limit_from) {
        (None, _) => String::new(),
        (Some(limit), LimitFrom::App) => format!(" of {limit} (the app's listen backlog)"),
        (Some(limit), LimitFrom::AtSomaxconn) => format!(" of {limit} (net.core.somaxconn)"),
        (Some(limit), LimitFrom::Unknown) => format!(" of {limit}"),
    }
}

fn next_for_a_full_queue(listener: &Listener) -> String {
    if listener.queue.limit_from == LimitFrom::AtSomaxconn {
        return "see whether its workers are stuck or too few; a longer queue needs a higher \
                net.core.somaxconn and a restart of the server"
            .to_owned();
    }
    let kind = listener
        .server
        .value()
        .and_then(|server| server.split(':').next());
    let setting = match kind {
        Some("unicorn") => " (unicorn: listen …, backlog: N)",
        Some("rainbows") => " (Rainbows!: listen …, backlog: N)",
        Some("puma") => " (puma: bind '…?backlog=N')",
        Some("nginx") => " (nginx: listen … backlog=N)",
        Some("gunicorn") => " (gunicorn: --backlog N)",
        _ => "",
    };
    format!(
        "see whether its workers are stuck or too few; then raise the app's listen backlog{setting} \
         or add workers"
    )
}
