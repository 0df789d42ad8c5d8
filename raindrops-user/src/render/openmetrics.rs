//! The view for Prometheus: OpenMetrics 1.0, and the older text format.
//!
//! What there is, is in [`catalogue`]: a family's name, type, unit and help are written there once.
//! A figure that is not known has no line, and a family without lines is left out. No two lines have
//! the same labels: what several slabs of one name and one service say is summed.

mod catalogue;

use std::{collections::BTreeMap, fmt::Write as _, io};

pub use self::catalogue::FAMILIES;
use self::catalogue::{Family, Type};
use crate::view::{
    SourceState, View,
    slabs::{Distribution, Field, Number, Slab},
};

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenMetrics,
    /// Version 0.0.4 of Prometheus's own.
    Prometheus,
}

pub fn view(view: &View, dialect: Dialect, out: &mut impl io::Write) -> io::Result<()> {
    let mut text = String::new();
    for family in &FAMILIES {
        let samples = samples(family, view);
        if !samples.is_empty() {
            write_family(family, &samples, dialect, &mut text);
        }
    }
    if dialect == Dialect::OpenMetrics {
        text.push_str("# EOF\n");
    }
    out.write_all(text.as_bytes())
}

/// Names and values of labels, in the order of the family's.
type Labels = Vec<String>;

/// What one line, or those of one histogram, say.
#[derive(Clone, Debug, PartialEq)]
enum Sample {
    Number(Number),
    Histogram(Distribution),
}

fn samples(family: &Family, view: &View) -> BTreeMap<Labels, Sample> {
    match family.name {
        "raindrops_slab_events" => of_slabs(view, |field| field.kind == "counter"),
        "raindrops_slab_value" => of_slabs(view, |field| matches!(&*field.kind, "gauge" | "max")),
        "raindrops_slab_observations" => of_slabs(view, |field| field.kind == "histogram"),
        "raindrops_source_up" => {
            let state = |source: &crate::view::Source| match source.state {
                SourceState::On | SourceState::Degraded => 1,
                SourceState::Off => 0,
            };
            let sources = view.sources.iter();
            sources
                .map(|it| {
                    (
                        vec![it.name.clone()],
                        Sample::Number(Number::Count(state(it))),
                    )
                })
                .collect()
        }
        "raindrops_build" => {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            [(vec![version], Sample::Number(Number::Count(1)))].into()
        }
        _ => BTreeMap::new(),
    }
}

fn of_slabs(view: &View, is_wanted: fn(&Field) -> bool) -> BTreeMap<Labels, Sample> {
    let mut samples: BTreeMap<Labels, Sample> = BTreeMap::new();
    for slab in &view.slabs {
        for field in slab.fields.iter().filter(|field| is_wanted(field)) {
            let Some(sample) = of_field(slab, field) else {
                continue;
            };
            let name = slab.name.as_ref().unwrap_or(&slab.kind);
            let labels = vec![name.clone(), field.name.clone(), service(view, slab)];
            match samples.remove(&labels) {
                None => samples.insert(labels, sample),
                Some(before) => samples.insert(labels, before.with(sample, field.kind == "max")),
            };
        }
    }
    samples
}

/// The unit that runs the server whose slab it is, else the server's kind; empty where it is no
/// server's.
fn service(view: &View, slab: &Slab) -> String {
    let mut workers = view.workers.iter();
    let worker = workers.find(|it| slab.pids.contains(&it.pid));
    let unit = worker.and_then(|worker| worker.unit.value());
    let kind = || {
        let server = slab.server.as_deref()?;
        server.split(':').next().map(str::to_owned)
    };
    unit.cloned().or_else(kind).unwrap_or_default()
}

fn of_field(slab: &Slab, field: &Field) -> Option<Sample> {
    let number = slab.counters.get(&field.name).copied();
    let histogram = || slab.histograms.get(&field.name).cloned();
    number
        .map(Sample::Number)
        .or_else(|| histogram().map(Sample::Histogram))
}

impl Sample {
    fn with(self, other: Self, is_max: bool) -> Self {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => Self::Number(a.with(b, is_max)),
            (Self::Histogram(a), Self::Histogram(b)) => Self::Histogram(merged(a, b)),
            (one, _) => one,
        }
    }
}

fn merged(a: Distribution, b: Distribution) -> Distribution {
    let mut buckets: BTreeMap<(bool, u64), u64> = BTreeMap::new();
    for (bound, count) in a.buckets.into_iter().chain(b.buckets) {
        let key = (bound.is_none(), bound.unwrap_or_default());
        let sum = buckets.entry(key).or_default();
        *sum = sum.saturating_add(count);
    }
    Distribution {
        count: a.count.saturating_add(b.count),
        sum: a.sum.wrapping_add(b.sum),
        p50: None,
        p90: None,
        p99: None,
        buckets: buckets
            .into_iter()
            .map(|((is_last, bound), count)| ((!is_last).then_some(bound), count))
            .collect(),
    }
}

fn write_family(
    family: &Family,
    samples: &BTreeMap<Labels, Sample>,
    dialect: Dialect,
    text: &mut String,
) {
    let Family {
        name,
        kind,
        help,
        labels: names,
    } = family;
    let (suffix, kind_name) = match (kind, dialect) {
        (Type::Counter, _) => ("_total", "counter"),
        (Type::Gauge, _) => ("", "gauge"),
        (Type::Histogram, _) => ("", "histogram"),
        (Type::Info, Dialect::OpenMetrics) => ("_info", "info"),
        (Type::Info, Dialect::Prometheus) => ("_info", "gauge"),
    };
    // The older format knows a family by the name of its lines.
    let family_name = match dialect {
        Dialect::OpenMetrics => (*name).to_owned(),
        Dialect::Prometheus => format!("{name}{suffix}"),
    };
    let _ = writeln!(text, "# TYPE {family_name} {kind_name}");
    let _ = writeln!(text, "# HELP {family_name} {help}");
    for (values, sample) in samples {
        let labels: Vec<String> = names
            .iter()
            .zip(values)
            .map(|(name, value)| format!("{name}=\"{}\"", quoted(value)))
            .collect();
        let labels = labels.join(",");
        match sample {
            Sample::Number(number) => {
                let _ = writeln!(text, "{name}{suffix}{{{labels}}} {number}");
            }
            Sample::Histogram(distribution) => {
                write_histogram(name, &labels, distribution, text);
            }
        }
    }
}

/// Buckets end at the greatest values of each doubling, so that there are few and the same ones
/// whatever was recorded.
fn write_histogram(name: &str, labels: &str, distribution: &Distribution, text: &mut String) {
    let finite = distribution.buckets.iter().filter_map(|(bound, _)| *bound);
    let highest = finite.max().unwrap_or(0);
    for power in 0..u64::BITS {
        let bound = u64::MAX >> (63 - power);
        let below: u64 = distribution
            .buckets
            .iter()
            .filter(|(greatest, _)| greatest.is_some_and(|greatest| greatest <= bound))
            .fold(0, |sum, (_, count)| sum.saturating_add(*count));
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}.0\"}} {below}");
        if bound >= highest {
            break;
        }
    }
    let Distribution { count, sum, .. } = distribution;
    let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
    let _ = writeln!(text, "{name}_count{{{labels}}} {count}");
    let _ = writeln!(text, "{name}_sum{{{labels}}} {sum}");
}

/// A label's value between its quotes.
fn quoted(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::{Dialect, quoted, view};
    use crate::view::{View, slabs::Number};

    fn example() -> View {
        serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap()
    }

    fn lines(of: &View, dialect: Dialect, prefix: &str) -> Vec<String> {
        let mut out = Vec::new();
        view(of, dialect, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().filter(|line| line.contains(prefix));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn counters_gauges_and_maxima_of_slabs_have_their_families() {
        let open = lines(&example(), Dialect::OpenMetrics, "raindrops_slab_events");
        assert_eq!(
            open,
            [
                "# TYPE raindrops_slab_events counter",
                "# HELP raindrops_slab_events Counters that applications keep in slabs, in the field's own unit.",
                "raindrops_slab_events_total{slab=\"shop\",field=\"body\",service=\"app.service\"} 1048576",
                "raindrops_slab_events_total{slab=\"shop\",field=\"requests\",service=\"app.service\"} 18446744073709551615",
            ]
        );
        let old = lines(&example(), Dialect::Prometheus, "raindrops_slab_events");
        assert_eq!(old[0], "# TYPE raindrops_slab_events_total counter");
        let values = lines(&example(), Dialect::OpenMetrics, "raindrops_slab_value{");
        assert_eq!(
            values,
            [
                "raindrops_slab_value{slab=\"shop\",field=\"calling\",service=\"app.service\"} -1",
                "raindrops_slab_value{slab=\"shop\",field=\"longest\",service=\"app.service\"} 71000",
            ]
        );
    }

    #[test]
    fn slabs_of_one_name_are_summed() {
        let mut view = example();
        let mut other = view.slabs[0].clone();
        other
            .counters
            .insert("requests".to_owned(), Number::Count(3));
        other
            .counters
            .insert("longest".to_owned(), Number::Count(5));
        view.slabs[0]
            .counters
            .insert("requests".to_owned(), Number::Count(4));
        view.slabs.push(other);
        let field = |field| lines(&view, Dialect::OpenMetrics, field);
        let requests = "raindrops_slab_events_total{slab=\"shop\",field=\"requests\",service=\"app.service\"} 7";
        assert_eq!(field("\"requests\","), [requests]);
        let longest =
            "raindrops_slab_value{slab=\"shop\",field=\"longest\",service=\"app.service\"} 71000";
        assert_eq!(field("\"longest\","), [longest]);
        let count = "raindrops_slab_observations_count{slab=\"shop\",field=\"answer\",service=\"app.service\"} 6";
        assert_eq!(field("_count{"), [count]);
    }

    #[test]
    fn buckets_of_a_histogram_add_up() {
        let buckets = lines(&example(), Dialect::OpenMetrics, "_bucket{");
        let last = buckets.len() - 1;
        assert!(buckets[8].ends_with("le=\"511.0\"} 1"), "{}", buckets[8]);
        assert!(buckets[9].ends_with("le=\"1023.0\"} 2"), "{}", buckets[9]);
        assert!(
            buckets[last - 1].ends_with("le=\"131071.0\"} 3"),
            "{}",
            buckets[last - 1]
        );
        assert!(
            buckets[last].ends_with("le=\"+Inf\"} 3"),
            "{}",
            buckets[last]
        );
    }

    #[test]
    fn it_ends_as_it_has_to() {
        assert_eq!(lines(&example(), Dialect::OpenMetrics, "# EOF").len(), 1);
        assert!(lines(&example(), Dialect::Prometheus, "# EOF").is_empty());
        assert_eq!(quoted("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }
}
