//! SO_REUSEPORT groups, summed.

use std::collections::BTreeMap;

use super::{
    Inputs, Row,
    connections::tcp_connections,
    queue,
    turns::{self, Processes},
};
use crate::{
    address::Address,
    snapshot::{ListenerCounts, ListenerKey},
    view::{Connections, Group, LimitFrom, Queue, durations::sum},
};

/// Listeners that share a namespace and an address, which only SO_REUSEPORT allows.
pub(super) fn groups(
    inputs: &Inputs<'_>,
    processes: &Processes,
    rows: &[Row<'_>],
    ids: &BTreeMap<ListenerKey, String>,
) -> Vec<Group> {
    let mut by_address: BTreeMap<_, Vec<&Row<'_>>> = BTreeMap::new();
    for row in rows
        .iter()
        .filter(|row| matches!(row.socket.address, Address::Tcp { .. }))
    {
        by_address
            .entry((row.key.netns, &row.socket.address))
            .or_default()
            .push(row);
    }
    by_address
        .into_iter()
        .filter(|(_, members)| members.len() > 1)
        .map(|((netns, address), members)| Group {
            id: format!("{netns}:{address}"),
            address: address.to_string(),
            members: members.iter().map(|row| ids[&row.key].clone()).collect(),
            queue: group_queue(inputs, &members),
            connections: group_connections(&members),
            turns: turns::of_listeners(inputs, processes, &members),
        })
        .collect()
}

/// Sums over the members; a sum is unknown as soon as one of its parts is. Peaks are not summed:
/// the members' need not have been at one time.
fn group_queue(inputs: &Inputs<'_>, members: &[&Row<'_>]) -> Queue {
    let queues: Vec<Queue> = members
        .iter()
        .map(|row| {
            queue(
                inputs,
                row,
                inputs.ledger.and_then(|ledger| ledger.get(&row.key)),
            )
        })
        .collect();
    let first = &queues[0];
    Queue {
        queued: queues.iter().map(|queue| queue.queued).sum(),
        limit: queues.iter().map(|queue| queue.limit).sum(),
        limit_from: if queues
            .iter()
            .all(|queue| queue.limit_from == first.limit_from)
        {
            first.limit_from
        } else {
            LimitFrom::Unknown
        },
        peak: None,
        peak_at: None,
        peak_exact: None,
        full_since: None,
        waiting_since: None,
        overflows: queues.iter().map(|queue| queue.overflows).sum(),
        overflows_exact: queues
            .iter()
            .map(|queue| queue.overflows_exact)
            .try_fold(true, |all, exact| Some(all && exact?)),
        drops: queues.iter().map(|queue| queue.drops).sum(),
        defer_accept: queues
            .iter()
            .all(|queue| queue.defer_accept == first.defer_accept)
            .then_some(first.defer_accept)
            .flatten(),
        source: first.source.clone(),
        age_ms: queues.iter().filter_map(|queue| queue.age_ms).max(),
    }
}

fn group_connections(members: &[&Row<'_>]) -> Option<Connections> {
    let counts: Vec<&ListenerCounts> = members
        .iter()
        .map(|row| row.counts)
        .collect::<Option<_>>()?;
    let total =
        |figure: fn(&ListenerCounts) -> u64| counts.iter().map(|counts| figure(counts)).sum();
    let summed = ListenerCounts {
        tcp_address: None,
        changes: total(|counts| counts.changes),
        late_accepts: total(|counts| counts.late_accepts),
        wait_unknown: total(|counts| counts.wait_unknown),
        lifetime_unknown: total(|counts| counts.lifetime_unknown),
        half_closed: total(|counts| counts.half_closed),
        seeded: total(|counts| counts.seeded),
        aborted: total(|counts| counts.aborted),
        unattributed: total(|counts| counts.unattributed),
        unix_arrivals: None,
        wait: sum(counts.iter().map(|counts| &counts.wait)),
        lifetime: sum(counts.iter().map(|counts| &counts.lifetime)),
        // Which member a connection belongs to does not matter to their sum.
        longest_queue: None,
        complete: counts.iter().all(|counts| counts.seeding_complete),
        seeding_complete: counts.iter().all(|counts| counts.seeding_complete),
        attributed: true,
    };
    Some(tcp_connections(&summed))
}
