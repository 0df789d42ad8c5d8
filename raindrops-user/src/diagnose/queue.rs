//! Verdicts on one listener's queue.

use std::collections::BTreeMap;

use super::{Severity, Verdict, place, subject};
use crate::{
    render::units::plural,
    view::{LimitFrom, Listener, View},
};

pub(super) fn dropping(view: &View, listener: &Listener) -> Option<Verdict> {
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
    Some(Verdict {
        verdict: "queue-dropping".to_owned(),
        severity: Severity::Critical,
        subject: subject(listener),
        since: listener.queue.full_since,
        text: format!(
            "{} dropped {about}{} (retries counted) in the last \
             {} s{total}: its queue{} was full",
            place(view, listener),
            plural(recently, "connection attempt"),
            listener.recent.overflows_over_ms.div_ceil(1000).max(1),
            limit_in_words(listener)
        ),
        evidence,
        next: next_for_a_full_queue(listener),
    })
}

pub(super) fn full(view: &View, listener: &Listener) -> Option<Verdict> {
    let (queued, limit) = (listener.queue.queued?, listener.queue.limit?);
    (queued > limit).then(|| Verdict {
        verdict: "queue-full".to_owned(),
        severity: Severity::Warning,
        subject: subject(listener),
        since: listener.queue.full_since,
        text: format!(
            "{} has {} waiting to be accepted: its queue{} is full",
            place(view, listener),
            plural(u64::from(queued), "connection"),
            limit_in_words(listener)
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
