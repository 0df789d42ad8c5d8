//! Leaves out the turns of listeners of which the operator wants none.
//!
//! Apart from the merge because what is left out here is in no answer, whatever it is made of.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    select::Selector,
    snapshot::{BpfSnapshot, ListenSocket, ListenerKey},
};

/// Takes out the turns of listeners whose traffic has none that could be told, and says which these
/// are.
pub(super) fn hide_turns(
    bpf: &mut BpfSnapshot,
    without: &[Selector],
    listeners: &BTreeMap<ListenerKey, ListenSocket>,
) -> BTreeSet<ListenerKey> {
    let is_hidden = |socket: &ListenSocket| {
        let address = socket.address.to_string();
        without.iter().any(|it| it.matches_address(&address))
    };
    let hidden: BTreeSet<ListenerKey> = listeners
        .iter()
        .filter(|(_, socket)| !without.is_empty() && is_hidden(socket))
        .map(|(key, _)| *key)
        .collect();
    if let Some(turns) = bpf.turns.as_mut().filter(|_| !hidden.is_empty()) {
        turns.listeners.retain(|key, _| !hidden.contains(key));
        let of_hidden = turns
            .workers
            .extract_if(.., |key, _| hidden.contains(&key.listener));
        turns.hidden_in_part = of_hidden
            .filter(|(_, counts)| counts.found.connections > 0)
            .map(|(key, _)| (key.pid, key.started))
            .collect();
    }
    hidden
}
