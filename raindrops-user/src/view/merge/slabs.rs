//! Slabs, and what workers say of themselves in them.

use std::collections::BTreeMap;

use raindrops_slab::{Kind as FieldKind, histogram::range_of, read::Value};

use super::{Inputs, millis};
use crate::{
    escape::escaped,
    ids::{Monotonic, Pid, StartTicks},
    snapshot::slabs::{self, Place, SlabKind, SlabSnapshot},
    view::{
        Gap,
        slabs::{Distribution, Field, Number, Slab, Slots, WorkerValues},
    },
};

/// Refusals that are told one by one.
const TOLD: usize = 16;

/// The slabs of a look, as they are at `now`.
#[must_use]
pub fn slabs(snapshot: &SlabSnapshot, now: Monotonic) -> Vec<Slab> {
    let of_view = |slab| of_view(slab, now);
    snapshot.slabs.iter().map(of_view).collect()
}

fn of_view(slab: &slabs::Slab, now: Monotonic) -> Slab {
    let slabs::Slab {
        memory,
        kind,
        name,
        place,
        server,
        pids,
        fields,
        totals,
        workers,
        slots,
        read,
    } = slab;
    let distributions = fields.iter().zip(totals).filter_map(|(field, total)| {
        let distribution = distribution(total.as_ref()?)?;
        Some((field.name.clone(), distribution))
    });
    Slab {
        id: format!("{}:{}:{}", memory.major, memory.minor, memory.inode),
        kind: kind_name(*kind).to_owned(),
        name: name.clone(),
        r#where: place_name(place),
        server: server.clone(),
        pids: pids.iter().map(|pid| pid.0).collect(),
        fields: fields
            .iter()
            .map(|field| Field {
                name: field.name.clone(),
                kind: field.kind.name().to_owned(),
                unit: field.unit.clone(),
            })
            .collect(),
        counters: by_name(fields, totals),
        histograms: distributions.collect(),
        workers: workers
            .iter()
            .map(|((pid, _), values)| WorkerValues {
                pid: pid.0,
                values: by_name(fields, values),
            })
            .collect(),
        slots: slots.map(|slots| Slots {
            count: slots.count,
            claimed: slots.claimed,
            ownerless: slots.ownerless,
            unknown: slots.unknown,
        }),
        inferred: *kind != SlabKind::Declared,
        age_ms: millis(now.since(*read)),
    }
}

/// What a worker says in all its slabs; `None` where it says nothing. What it says differently in
/// different ones is not told here.
pub(super) fn of_worker(
    inputs: &Inputs<'_>,
    pid: Pid,
    started: StartTicks,
) -> Option<BTreeMap<String, Number>> {
    let mut said: BTreeMap<&str, Option<Said<'_>>> = BTreeMap::new();
    for slab in inputs.slabs.into_iter().flat_map(|it| &it.slabs) {
        let Some(values) = slab.workers.get(&(pid, started)) else {
            continue;
        };
        for (field, number) in numbers(&slab.fields, values) {
            let here = Said {
                slab: slab.name.as_deref(),
                field,
                number,
            };
            said.entry(&field.name)
                .and_modify(|before| *before = before.take().and_then(|it| it.with(&here)))
                .or_insert(Some(here));
        }
    }
    let said: BTreeMap<String, Number> = said
        .into_iter()
        .filter_map(|(name, said)| Some((name.to_owned(), said?.number)))
        .collect();
    (!said.is_empty()).then_some(said)
}

/// What a worker says of a field.
#[derive(Clone, Copy)]
struct Said<'a> {
    /// What the slab calls itself.
    slab: Option<&'a str>,
    field: &'a slabs::SlabField,
    number: Number,
}

impl Said<'_> {
    /// Both together, where they are of the same field of slabs of one name.
    fn with(self, other: &Self) -> Option<Self> {
        let is_same = self.slab.is_some() && self.slab == other.slab && self.field == other.field;
        let is_max = self.field.kind == FieldKind::Max;
        is_same.then(|| Self {
            number: self.number.with(other.number, is_max),
            ..self
        })
    }
}

/// What is not read although it may have been meant to be.
pub(super) fn gaps(inputs: &Inputs<'_>) -> Vec<Gap> {
    let Some(snapshot) = inputs.slabs else {
        return Vec::new();
    };
    let told = snapshot.refused.iter().take(TOLD).map(|refusal| Gap {
        what: "slab-refused".to_owned(),
        text: format!("slab {}: {}", place_name(&refusal.place), refusal.reason),
        count: 1,
        hint: "none of its figures is shown: have its application make it anew".to_owned(),
        ..Gap::default()
    });
    let mut gaps: Vec<Gap> = told.collect();
    let more = snapshot.refused.len().saturating_sub(TOLD);
    if more > 0 {
        gaps.push(Gap {
            what: "slabs-refused".to_owned(),
            text: format!("{more} more files are not read as slabs"),
            count: more as u64,
            hint: "see what is in the directory of slabs".to_owned(),
            ..Gap::default()
        });
    }
    if snapshot.beyond {
        gaps.push(Gap {
            what: "slabs-not-read".to_owned(),
            text: "there are more slabs, or more figures of workers in one, than are read"
                .to_owned(),
            count: 1,
            hint: "remove files that nobody uses from the directory of slabs".to_owned(),
            ..Gap::default()
        });
    }
    gaps
}

const fn kind_name(kind: SlabKind) -> &'static str {
    match kind {
        SlabKind::Declared => "raindrops",
        SlabKind::RaindropsRb => "raindrops-rb",
        SlabKind::UnicornTick => "unicorn-tick",
        SlabKind::NginxStub => "nginx-stub",
        SlabKind::RainbowsN => "rainbows-n",
    }
}

fn place_name(place: &Place) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    match place {
        Place::File(path) => escaped(path.as_os_str().as_bytes()),
        Place::Process(pid) => format!("pid {pid}"),
    }
}

fn numbers<'a>(
    fields: &'a [slabs::SlabField],
    values: &'a [Option<Value>],
) -> impl Iterator<Item = (&'a slabs::SlabField, Number)> {
    fields.iter().zip(values).filter_map(|(field, value)| {
        let number = match value.as_ref()? {
            Value::Counter(count) | Value::Max(count) => Number::Count(*count),
            Value::Gauge(level) => match u64::try_from(*level) {
                Ok(count) => Number::Count(count),
                Err(_) => Number::Level(*level),
            },
            Value::Histogram { .. } => return None,
        };
        Some((field, number))
    })
}

fn by_name(fields: &[slabs::SlabField], values: &[Option<Value>]) -> BTreeMap<String, Number> {
    numbers(fields, values)
        .map(|(field, number)| (field.name.clone(), number))
        .collect()
}

fn distribution(value: &Value) -> Option<Distribution> {
    let Value::Histogram { sum, buckets } = value else {
        return None;
    };
    let count = buckets.iter().fold(0_u64, |sum, it| sum.wrapping_add(*it));
    let last = buckets.len().saturating_sub(1);
    let quantile = |per_cent: u64| {
        let rank = (count.saturating_mul(per_cent)).div_ceil(100).max(1);
        let mut seen = 0_u64;
        let bucket = buckets.iter().position(|it| {
            seen = seen.saturating_add(*it);
            seen >= rank
        })?;
        let (least, greatest) = range_of(u32::try_from(bucket).ok()?);
        (bucket < last).then(|| least + (greatest - least) / 2)
    };
    Some(Distribution {
        count,
        sum: *sum,
        p50: quantile(50).filter(|_| count > 0),
        p90: quantile(90).filter(|_| count > 0),
        p99: quantile(99).filter(|_| count > 0),
        buckets: (0..)
            .zip(buckets)
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| {
                let is_last = bucket as usize == last;
                ((!is_last).then(|| range_of(bucket).1), *count)
            })
            .collect(),
    })
}
