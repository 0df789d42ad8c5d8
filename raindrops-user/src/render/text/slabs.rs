//! Counters that applications keep, in the text for a person: totals, then each worker's part.

use std::{collections::BTreeMap, io, time::Duration};

use super::{Style, paragraph, workers::server};
use crate::{
    escape::printable,
    render::{
        table::Paint,
        units::{micros, plural},
    },
    view::{
        View,
        slabs::{Distribution, Field, Number, Slab},
    },
};

/// Workers whose figures are shown one by one.
const MOST_WORKERS: usize = 64;

pub(super) fn write(view: &View, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    if view.slabs.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", Paint::Bold.on("Slabs", style.color))?;
    for slab in &view.slabs {
        let of_server = slab.server.as_deref().map(|id| server(view, id));
        write_one(slab, of_server.as_deref(), None, style, out)?;
    }
    Ok(())
}

/// `server`: how to call the one whose processes have it mapped. `before`: an earlier reading of it,
/// and how long ago that was.
pub(super) fn write_one(
    slab: &Slab,
    server: Option<&str>,
    before: Option<(&Slab, Duration)>,
    style: Style,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let mut about: Vec<String> = Vec::new();
    if slab.inferred {
        about.push("inferred".to_owned());
    } else if slab.name.is_some() {
        about.push(slab.kind.clone());
    }
    about.push(slab.r#where.clone());
    about.extend(server.map(str::to_owned));
    if let Some(slots) = slab.slots {
        about.push(format!("{} of {} slots", slots.claimed, slots.count));
        if slots.ownerless > 0 {
            about.push(format!("{} ownerless", slots.ownerless));
        }
        if slots.unknown > 0 {
            about.push(format!("{} of owners who cannot be told", slots.unknown));
        }
    }
    let name = slab.name.as_deref().unwrap_or(&slab.kind);
    let before = before.filter(|(before, _)| before.id == slab.id);
    let totals = figures(&slab.fields, &slab.counters, &slab.histograms, before);
    let colon = if totals.is_empty() { "" } else { ": " };
    let about = about.join(", ");
    let line = printable(&format!("{name} ({about}){colon}{totals}"));
    paragraph(out, &line, 2, style)?;
    for worker in slab.workers.iter().take(MOST_WORKERS) {
        let values = figures(&slab.fields, &worker.values, &BTreeMap::new(), None);
        let line = printable(&format!("  {}: {values}", worker.pid));
        paragraph(out, &line, 4, style)?;
    }
    let more = slab.workers.len().saturating_sub(MOST_WORKERS) as u64;
    if more > 0 {
        let text = format!("  and {}", plural(more, "other worker"));
        paragraph(out, &text, 4, style)?;
    }
    Ok(())
}

/// What is known of the fields, in their order.
fn figures(
    fields: &[Field],
    numbers: &BTreeMap<String, Number>,
    histograms: &BTreeMap<String, Distribution>,
    before: Option<(&Slab, Duration)>,
) -> String {
    let rate = |name: &str, now: u64, then: fn(&Slab, &str) -> Option<u64>| {
        let (before, elapsed) = before?;
        let more = now.checked_sub(then(before, name)?)?;
        Some(format!(" (+{:.1}/s)", more as f64 / elapsed.as_secs_f64()))
    };
    let of_field = |field: &Field| {
        let unit = field.unit.as_deref();
        if let Some(number) = numbers.get(&field.name) {
            let rate = match number {
                Number::Count(now) if field.kind == "counter" => rate(&field.name, *now, count),
                _ => None,
            };
            let number = of_unit(*number, unit);
            let rate = rate.unwrap_or_default();
            return Some(format!("{} {number}{rate}", field.name));
        }
        let histogram = histograms.get(&field.name)?;
        let rate = rate(&field.name, histogram.count, |slab, name| {
            Some(slab.histograms.get(name)?.count)
        });
        let rate = rate.unwrap_or_default();
        let mut text = format!("{} {}{rate}", field.name, histogram.count);
        for (name, value) in [("p50", histogram.p50), ("p99", histogram.p99)] {
            if let Some(value) = value {
                text.push_str(&format!(" {name} {}", of_unit(Number::Count(value), unit)));
            }
        }
        Some(text)
    };
    let figures: Vec<String> = fields.iter().filter_map(of_field).collect();
    figures.join(", ")
}

fn count(slab: &Slab, name: &str) -> Option<u64> {
    match slab.counters.get(name)? {
        Number::Count(count) => Some(*count),
        Number::Level(_) => None,
    }
}

fn of_unit(number: Number, unit: Option<&str>) -> String {
    match (unit, number) {
        (Some("us"), Number::Count(us)) => micros(us),
        (Some("s"), number) => format!("{number}s"),
        (Some(unit), number) => format!("{number} {unit}"),
        (None, number) => number.to_string(),
    }
}
