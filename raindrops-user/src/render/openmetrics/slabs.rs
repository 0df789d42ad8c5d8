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
    for slab in &view.slabs {
        let service = continuity.service_of(slab);
        for field in slab.fields.iter().filter(|field| is_wanted(field)) {
            let Some(sample) = of_field(slab, field) else {
                continue;
            };
            let labels = labels(slab, field, &service);
            let sum = match samples.remove(&labels) {
                Some(before) => before.with(sample, field.kind == "max"),
                None => continuity
                    .counted_by_ended(&labels)
                    .fold(sample, |sum, ended| sum.with(ended.clone(), false)),
            };
            samples.insert(labels, sum);
        }
    }
    samples
}

pub(super) fn labels(slab: &Slab, field: &Field, service: &str) -> Labels {
    let name = slab.name.as_ref().unwrap_or(&slab.kind);
    vec![name.clone(), field.name.clone(), service.to_owned()]
}

pub(super) fn of_field(slab: &Slab, field: &Field) -> Option<Sample> {
    let number = slab.counters.get(&field.name).copied();
    let histogram = || slab.histograms.get(&field.name).cloned();
    number
        .map(Sample::Number)
        .or_else(|| histogram().map(Sample::Distribution))
}
