//! Connections of one listener.

use std::time::Duration;

use super::{Inputs, Row, millis};
use crate::{
    address::Address,
    snapshot::ListenerCounts,
    view::{Connections, durations::durations},
};

pub(super) fn connections(inputs: &Inputs<'_>, row: &Row<'_>) -> Option<Connections> {
    let unix_active = row.namespace.unix_active.and_then(|snapshot| {
        Some((
            snapshot.active.get(&row.key)?.len() as u64,
            inputs.now.since(snapshot.taken),
        ))
    });
    match (&row.socket.address, row.counts) {
        (Address::Tcp { .. }, Some(counts)) => Some(tcp_connections(counts)),
        (Address::Tcp { .. }, None) => None,
        (Address::Unix(_), counts) => {
            if counts.is_none() && unix_active.is_none() {
                return None;
            }
            let all_reported = inputs.bpf.is_some_and(|bpf| bpf.skipped_accepts == 0);
            let mut connections = unix_connections(counts, unix_active);
            connections.complete &= all_reported;
            Some(connections)
        }
    }
}

pub(super) fn tcp_connections(counts: &ListenerCounts) -> Connections {
    Connections {
        active: Some(counts.active()),
        half_closed: Some(counts.half_closed),
        seeded: Some(counts.seeded),
        accepts: Some(counts.accepts()),
        late_accepts: Some(counts.late_accepts),
        closes: Some(counts.closes()),
        aborted: Some(counts.aborted),
        wait: Some(durations(&counts.wait)),
        wait_unknown: Some(counts.wait_unknown),
        lifetime: Some(durations(&counts.lifetime)),
        // Late accepts were active before they were found out.
        complete: counts.complete && counts.attributed && counts.late_accepts == 0,
        source: "bpf".to_owned(),
        active_age_ms: None,
    }
}

/// The programs see unix accepts and, where the kernel tells, how long they waited; the number of
/// open connections is counted by sock_diag.
fn unix_connections(
    counts: Option<&ListenerCounts>,
    active: Option<(u64, Duration)>,
) -> Connections {
    let wait = counts
        .filter(|counts| counts.accepts() == 0 || counts.wait_unknown < counts.accepts())
        .map(|counts| durations(&counts.wait));
    Connections {
        active: active.map(|(active, _)| active),
        half_closed: None,
        seeded: None,
        accepts: counts.map(ListenerCounts::accepts),
        late_accepts: counts.map(|counts| counts.late_accepts),
        closes: None,
        aborted: None,
        wait_unknown: counts.map(|counts| counts.wait_unknown),
        wait,
        lifetime: None,
        // Nothing tells which workers have the late ones.
        complete: counts.is_some_and(|counts| counts.complete && counts.late_accepts == 0)
            && active.is_some(),
        source: if counts.is_some() { "bpf" } else { "sock_diag" }.to_owned(),
        active_age_ms: active.map(|(_, age)| millis(age)),
    }
}
