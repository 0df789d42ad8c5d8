//! What a line, or those of one histogram, say.

use std::{collections::BTreeMap, fmt};

use super::spread::Spread;
use crate::view::slabs::{Distribution, Number};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sample {
    Number(Number),
    Seconds(Seconds),
    Ratio(f64),
    /// Durations, with the fixed bounds.
    Spread(Spread),
    /// Values of an application's histogram.
    Distribution(Distribution),
}

impl Sample {
    pub(super) fn count(count: impl Into<u64>) -> Option<Self> {
        Some(Self::Number(Number::Count(count.into())))
    }

    pub(super) fn micros(micros: u64) -> Option<Self> {
        Some(Self::Seconds(Seconds { micros }))
    }

    /// What several slabs say of one field.
    pub(super) fn with(self, other: Self, is_max: bool) -> Self {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => Self::Number(a.with(b, is_max)),
            (Self::Distribution(a), Self::Distribution(b)) => Self::Distribution(merged(a, b)),
            (one, _) => one,
        }
    }
}

/// Printed without a float's rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seconds {
    pub(super) micros: u64,
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MICROS: u64 = 1_000_000;
        let (whole, part) = (self.micros / MICROS, self.micros % MICROS);
        let fraction = format!("{part:06}");
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            fraction => write!(f, "{whole}.{fraction}"),
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

#[cfg(test)]
mod tests {
    use super::Seconds;

    #[test]
    fn seconds_are_printed_to_the_microsecond() {
        for (micros, text) in [
            (0, "0"),
            (1, "0.000001"),
            (64, "0.000064"),
            (1_500_000, "1.5"),
            (67_108_864, "67.108864"),
            (u64::MAX, "18446744073709.551615"),
        ] {
            assert_eq!(Seconds { micros }.to_string(), text);
        }
    }
}
