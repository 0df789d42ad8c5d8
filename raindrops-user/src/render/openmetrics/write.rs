//! Families as text, in either dialect. Knows no figure of raindrops.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Dialect,
    catalogue::{Family, Type},
    sample::Sample,
    spread::Spread,
};
use crate::view::slabs::Distribution;

/// Values of labels, in the order of the family's.
pub(super) type Labels = Vec<String>;

pub(super) fn family(
    family: &Family,
    samples: &BTreeMap<Labels, Sample>,
    dialect: Dialect,
    text: &mut String,
) {
    let Family {
        name,
        kind,
        unit,
        help,
        labels: names,
        ..
    } = family;
    let (suffix, kind_name) = match (kind, dialect) {
        (Type::Counter, _) => ("_total", "counter"),
        (Type::Gauge, _) => ("", "gauge"),
        (Type::Histogram, _) => ("", "histogram"),
        (Type::Info, Dialect::OpenMetrics) => ("_info", "info"),
        (Type::Info, Dialect::Prometheus) => ("_info", "gauge"),
    };
    // The older format knows a family by the name of its lines, and no units.
    let family_name = match dialect {
        Dialect::OpenMetrics => (*name).to_owned(),
        Dialect::Prometheus => format!("{name}{suffix}"),
    };
    let _ = writeln!(text, "# TYPE {family_name} {kind_name}");
    if let Some(unit) = unit.filter(|_| dialect == Dialect::OpenMetrics) {
        let _ = writeln!(text, "# UNIT {family_name} {unit}");
    }
    let _ = writeln!(text, "# HELP {family_name} {help}");
    for (values, sample) in samples {
        let labels: Vec<String> = names
            .iter()
            .zip(values)
            .map(|(name, value)| format!("{name}=\"{}\"", quoted(value)))
            .collect();
        let line = Line {
            name,
            labels: labels.join(","),
        };
        match sample {
            Sample::Number(number) => line.write(suffix, None, number, text),
            Sample::Seconds(seconds) => line.write(suffix, None, seconds, text),
            Sample::Ratio(ratio) => line.write(suffix, None, ratio, text),
            Sample::Spread(spread) => durations(&line, spread, text),
            Sample::Distribution(distribution) => values_of(&line, distribution, text),
        }
    }
}

struct Line<'a> {
    name: &'a str,
    labels: String,
}

impl Line<'_> {
    fn write(
        &self,
        suffix: &str,
        bound: Option<&str>,
        value: impl std::fmt::Display,
        text: &mut String,
    ) {
        let Self { name, labels } = self;
        let _ = write!(text, "{name}{suffix}");
        let comma = if labels.is_empty() { "" } else { "," };
        let _ = match bound {
            Some(bound) => writeln!(text, "{{{labels}{comma}le=\"{bound}\"}} {value}"),
            None if labels.is_empty() => writeln!(text, " {value}"),
            None => writeln!(text, "{{{labels}}} {value}"),
        };
    }
}

fn durations(line: &Line<'_>, spread: &Spread, text: &mut String) {
    for (bound, count) in spread.cumulated() {
        line.write("_bucket", Some(&bound.to_string()), count, text);
    }
    let count = spread.count();
    line.write("_bucket", Some("+Inf"), count, text);
    line.write("_count", None, count, text);
    line.write("_sum", None, spread.sum(), text);
}

/// Buckets end at the greatest values of each doubling, so that there are few and the same ones
/// whatever was recorded.
fn values_of(line: &Line<'_>, distribution: &Distribution, text: &mut String) {
    let finite = distribution.buckets.iter().filter_map(|(bound, _)| *bound);
    let highest = finite.max().unwrap_or(0);
    for power in 0..u64::BITS {
        let bound = u64::MAX >> (63 - power);
        let below: u64 = distribution
            .buckets
            .iter()
            .filter(|(greatest, _)| greatest.is_some_and(|greatest| greatest <= bound))
            .fold(0, |sum, (_, count)| sum.saturating_add(*count));
        line.write("_bucket", Some(&format!("{bound}.0")), below, text);
        if bound >= highest {
            break;
        }
    }
    let Distribution { count, sum, .. } = distribution;
    line.write("_bucket", Some("+Inf"), count, text);
    line.write("_count", None, count, text);
    line.write("_sum", None, sum, text);
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
    use super::quoted;

    #[test]
    fn what_ends_a_value_is_escaped() {
        assert_eq!(quoted("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }
}
