//! What the view says of the slabs as a source.

use std::collections::BTreeMap;

use super::{SLOW_LOOK, millis};
use crate::{
    ids::Monotonic,
    render::units::plural,
    snapshot::slabs::SlabSnapshot,
    view::{Source, SourceState},
};

/// `busy_since`: when the look began that has not ended.
pub fn slabs(
    snapshot: Option<&SlabSnapshot>,
    busy_since: Option<Monotonic>,
    now: Monotonic,
    may_read_others: bool,
) -> Source {
    let mut source = Source {
        name: "slab".to_owned(),
        state: SourceState::On,
        detail: BTreeMap::new(),
        reason: None,
        grant: None,
        age_ms: snapshot.map(|snapshot| millis(now.since(snapshot.taken))),
    };
    let Some(snapshot) = snapshot else {
        source.state = SourceState::Off;
        source.reason = Some("no look at slabs has finished yet".to_owned());
        return source;
    };
    let found = snapshot.slabs.len();
    source.detail.insert("found".to_owned(), found.to_string());
    let slow = busy_since
        .map(|since| now.since(since))
        .filter(|busy| *busy > SLOW_LOOK);
    let reason = if let Some(busy) = slow {
        let seconds = busy.as_secs();
        format!("a look at slabs has taken {seconds} s so far")
    } else if !snapshot.quarantined.is_empty() {
        format!(
            "{} took over a second to read, or a file; left alone for a minute",
            plural(snapshot.quarantined.len() as u64, "process")
        )
    } else if !snapshot.unreadable.is_empty() {
        source.grant = (!may_read_others).then(|| "CAP_SYS_PTRACE".to_owned());
        format!(
            "memory of {} may not be read: slabs may be missing",
            plural(snapshot.unreadable.len() as u64, "process")
        )
    } else {
        return source;
    };
    source.state = SourceState::Degraded;
    source.reason = Some(reason);
    source
}
