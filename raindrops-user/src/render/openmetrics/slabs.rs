//! Series of slabs: what those of one name and one service say is summed.

use std::collections::BTreeMap;

use super::{
    continuity::Continuity,
    sample::Sample,
    workers::{Place, Who},
};
use crate::view::{
    View,
    slabs::{Field, Slab},
};

pub(super) fn fields(
    view: &View,
    continuity: &Continuity,
    is_wanted: fn(&Field) -> bool,
) -> BTreeMap<Vec<String>, Sample> {
    let who = Who::of(view);
    let mut samples: BTreeMap<Vec<String>, Sample> = BTreeMap::new();
    for slab in &view.slabs {
        let service = service(&who, continuity, slab);
        for field in slab.fields.iter().filter(|field| is_wanted(field)) {
            let Some(sample) = of_field(slab, field) else {
                continue;
            };
            let name = slab.name.as_ref().unwrap_or(&slab.kind);
            let labels = vec![name.clone(), field.name.clone(), service.clone()];
            match samples.remove(&labels) {
                None => samples.insert(labels, sample),
                Some(before) => samples.insert(labels, before.with(sample, field.kind == "max")),
            };
        }
    }
    samples
}

/// Of the server whose slab it is; empty where it is no server's.
fn service(who: &Who<'_>, continuity: &Continuity, slab: &Slab) -> String {
    let server = slab.server.as_deref();
    let kept = server.map(|server| continuity.of_server(server));
    let Place { service, .. } = who.place(slab.pids.iter().copied(), kept.as_ref(), server);
    service
}

fn of_field(slab: &Slab, field: &Field) -> Option<Sample> {
    let number = slab.counters.get(&field.name).copied();
    let histogram = || slab.histograms.get(&field.name).cloned();
    number
        .map(Sample::Number)
        .or_else(|| histogram().map(Sample::Distribution))
}
