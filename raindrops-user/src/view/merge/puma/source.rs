//! How the control servers of puma fare, in words.

use std::{collections::BTreeSet, iter};

use super::super::millis;
use crate::{
    ids::Monotonic,
    plan::Off,
    snapshot::puma::ControlSeen,
    view::{Server, Source, SourceState},
};

/// `owners`: whose each control server is, in the same order.
pub(super) fn puma(controls: &[ControlSeen], owners: &[Option<&Server>], now: Monotonic) -> Source {
    let mut reasons = Vec::new();
    let mut grants = BTreeSet::new();
    let mut detail = Vec::new();
    for (control, owner) in iter::zip(controls, owners) {
        let address = control.address.to_string();
        let trouble = control.failure.clone().or_else(|| match owner {
            Some(_) => None,
            None => Some(stranger()),
        });
        if let Some(Off { reason, grant }) = trouble {
            reasons.push(format!("{address}: {reason}"));
            grants.extend(grant);
        }
        detail.extend(owner.map(|server| (address, server.id.clone())));
    }
    let state = if reasons.is_empty() {
        SourceState::On
    } else if controls.iter().all(|control| control.answer.is_none()) {
        SourceState::Off
    } else {
        SourceState::Degraded
    };
    let joined = |texts: Vec<String>| (!texts.is_empty()).then(|| texts.join("; "));
    let answers = controls.iter().filter_map(|it| it.answer.as_ref());
    let oldest = answers.map(|answer| now.since(answer.asked)).max();
    Source {
        name: "puma".to_owned(),
        state,
        detail: detail.into_iter().collect(),
        reason: joined(reasons),
        grant: joined(grants.into_iter().collect()),
        age_ms: oldest.map(millis),
    }
}

fn stranger() -> Off {
    Off {
        reason: "it answers, but which of the servers it belongs to is not to be seen".to_owned(),
        grant: None,
    }
}
