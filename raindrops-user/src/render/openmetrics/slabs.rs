//! Series of slabs: what those of one name and one service say is summed.

use std::collections::BTreeMap;

use super::{continuity::Continuity, sample::Sample, write::Labels};
use crate::view::{
    View,
    slabs::{Field, Slab},
};

pub(super) fn fields(
    view: &View,
    continuity: &Continuity,
    is_wanted: fn(&Field) -> bool,
) -> BTreeMap<Labels, Sample> {
    let mut samples: BTreeMap<Labels, Sample> = BTreeMap::new();
    let mut ended = continuity.counted_by_ended_slabs();
    for slab in &view.slabs {
        let service = continuity.service_of(slab);
        for field in slab.fields.iter().filter(|field| is_wanted(field)) {
            let Some(sample) = of_field(slab, &field.name) else {
                continue;
            };
            let labels = vec![name(slab).to_owned(), field.name.clone(), service.clone()];
            let more = samples.remove(&labels);
            let more = more.or_else(|| ended.remove(&labels).filter(|_| is_counted(field)));
            let sum = match more {
                Some(more) => more.with(sample, field.kind == "max"),
                None => sample,
            };
            samples.insert(labels, sum);
        }
    }
    samples
}

/// What its series are called by.
pub(super) fn name(slab: &Slab) -> &str {
    slab.name.as_ref().unwrap_or(&slab.kind)
}

/// Whether it is only ever added to.
pub(super) fn is_counted(field: &Field) -> bool {
    matches!(&*field.kind, "counter" | "histogram")
}

pub(super) fn of_field(slab: &Slab, field: &str) -> Option<Sample> {
    let number = slab.counters.get(field).copied();
    let histogram = || slab.histograms.get(field).cloned();
    number
        .map(Sample::Number)
        .or_else(|| histogram().map(Sample::Distribution))
}
