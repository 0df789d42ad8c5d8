//! Counters of an application, made by the Ruby library raindrops.
//!
//! They have no names. Only those of Raindrops::Middleware are known, and only by how they behave.

use raindrops_slab::Kind as FieldKind;

use super::{Copied, Family, Found, Words, gauge, level};
use crate::{
    snapshot::slabs::{Slab, SlabField, SlabKind},
    view::servers::Kind,
};

/// Members of Raindrops::Middleware::Stats.
pub(super) const NAMES: [&str; 2] = ["calling", "writing"];
/// Counters that are shown of one memory.
const MOST: usize = 64;
/// Of each worker, those that others left behind when they were killed included.
const PLAUSIBLE: u64 = 1024;

/// Whether these may be numbers of requests that are worked on. What only rises is a counter: unless
/// one has been seen to fall they are taken for calls only where each worker has one at most.
pub(super) fn are_calls(words: &Words, fell: bool, family: &Family<'_>) -> bool {
    let workers = family
        .values()
        .filter(|it| it.process.member.role.accepts());
    let of_worker = |kind| match kind {
        _ if fell => PLAUSIBLE,
        Kind::Unicorn => 1,
        _ => 0,
    };
    let most = workers.map(|it| of_worker(it.process.member.kind)).sum();
    let sum = words.get(0).checked_add(words.get(1));
    sum.is_some_and(|sum| sum <= most)
}

pub(super) fn named(found: &Found<'_>, words: &Words, copied: Copied) -> Slab {
    let names = NAMES.map(str::to_owned).into_iter();
    slab(found, words, names.map(gauge).collect(), copied)
}

/// The first `used` counters, by their numbers.
pub(super) fn numbered(found: &Found<'_>, words: &Words, used: usize, copied: Copied) -> Slab {
    let names = (0..used.min(MOST)).map(|index| format!("counter_{index}"));
    slab(found, words, names.map(gauge).collect(), copied)
}

fn slab(found: &Found<'_>, words: &Words, fields: Vec<SlabField>, copied: Copied) -> Slab {
    debug_assert!(fields.iter().all(|field| field.kind == FieldKind::Gauge));
    let totals = (0..fields.len()).map(|index| Some(level(words.get(index))));
    let totals = totals.collect();
    found.slab(SlabKind::RaindropsRb, fields, totals, copied)
}
