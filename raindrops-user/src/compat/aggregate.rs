//! Samples as Ruby's library `aggregate` sums them up: what Raindrops::Watcher and LastDataRecv print.
//!
//! Memory is the same however many samples there are. One difference: a power of two is always in the
//! bucket that it begins, where the original takes a quotient of logarithms and may miss it.

use std::fmt::{self, Write as _};

/// Buckets of powers of two. A sample is a number of sockets or of milliseconds, far below the last.
const BUCKETS: usize = 48;
/// Width of a histogram.
const COLUMNS: usize = 80;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    count: u64,
    min: Option<u64>,
    max: Option<u64>,
    sum: u64,
    squares: u128,
    zeros: u64,
    high: u64,
    buckets: [u32; BUCKETS],
}

impl Default for Aggregate {
    fn default() -> Self {
        Self {
            count: 0,
            min: None,
            max: None,
            sum: 0,
            squares: 0,
            zeros: 0,
            high: 0,
            buckets: [0; BUCKETS],
        }
    }
}

impl Aggregate {
    pub fn add(&mut self, sample: u64) {
        self.add_many(sample, 1);
    }

    /// So many samples of one value.
    pub fn add_many(&mut self, sample: u64, times: u64) {
        if times == 0 {
            return;
        }
        self.count = self.count.saturating_add(times);
        self.min = Some(self.min.map_or(sample, |min| min.min(sample)));
        self.max = Some(self.max.map_or(sample, |max| max.max(sample)));
        self.sum = self.sum.saturating_add(sample.saturating_mul(times));
        let square = u128::from(sample) * u128::from(sample);
        self.squares = self
            .squares
            .saturating_add(square.saturating_mul(u128::from(times)));
        let bucket = sample.checked_ilog2().map(|bucket| bucket as usize);
        match bucket.map(|bucket| self.buckets.get_mut(bucket)) {
            None => self.zeros = self.zeros.saturating_add(times),
            Some(None) => self.high = self.high.saturating_add(times),
            Some(Some(count)) => {
                let times = u32::try_from(times).unwrap_or(u32::MAX);
                *count = count.saturating_add(times);
            }
        }
    }

    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    #[must_use]
    pub const fn min(&self) -> Option<u64> {
        self.min
    }

    #[must_use]
    pub const fn max(&self) -> Option<u64> {
        self.max
    }

    /// NaN of no samples, as in the original.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count as f64
    }

    /// NaN of fewer than two samples, as in the original.
    #[must_use]
    pub fn std_dev(&self) -> f64 {
        if self.count < 2 {
            return f64::NAN;
        }
        let (sum, count) = (self.sum as f64, self.count as f64);
        let variance = (self.squares as f64 - sum * sum / count) / (count - 1.0);
        variance.max(0.0).sqrt()
    }

    /// Samples below 1.
    #[must_use]
    pub const fn outliers_low(&self) -> u64 {
        self.zeros
    }

    #[must_use]
    pub const fn outliers_high(&self) -> u64 {
        self.high
    }
}

/// The histogram, 80 columns wide; `~` stands for buckets without samples.
impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<(usize, u32)> = (0..)
            .zip(self.buckets)
            .filter(|(_, count)| *count > 0)
            .collect();
        let (Some((first, _)), Some((last, _))) = (shown.first(), shown.last()) else {
            return f.write_str("Empty histogram");
        };
        let most = shown.iter().map(|(_, count)| *count).max().unwrap_or(1);
        let total: u64 = shown.iter().map(|(_, count)| u64::from(*count)).sum();
        let value = (1_u64 << last).to_string().len().max("value".len());
        let count = total.to_string().len().max("count".len());
        let bar = COLUMNS - (value + " |".len() + "| ".len() + count);
        let weight = (f64::from(most) / bar as f64).max(1.0);

        let line = "-".repeat(bar);
        writeln!(f, "{:>value$} |{line}| {:>count$}", "value", "count")?;
        let mut next = *first;
        for (bucket, samples) in &shown {
            if *bucket != next {
                writeln!(f, "{:value$} ~", "")?;
            }
            next = bucket + 1;
            let filled = "@".repeat((f64::from(*samples) / weight) as usize);
            writeln!(
                f,
                "{:>value$} |{filled:bar$}| {samples:>count$}",
                1_u64 << bucket
            )?;
        }
        writeln!(f, "{:value$} ~", "")?;
        writeln!(f, "{:>value$} |{line}| {total:>count$}", "Total")
    }
}

/// As Ruby prints a Float: `0.0`, `0.3333333333333333`, `1.0e-05`, `NaN`.
#[must_use]
pub fn ruby_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if value == 0.0 || (1e-4..1e15).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mut out = mantissa.to_owned();
    if !out.contains('.') {
        out.push_str(".0");
    }
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    let _ = write!(out, "e{sign}{digits:0>2}");
    out
}

#[cfg(test)]
mod tests {
    use super::{Aggregate, ruby_float};

    fn of(samples: &[u64]) -> Aggregate {
        let mut aggregate = Aggregate::default();
        for sample in samples {
            aggregate.add(*sample);
        }
        aggregate
    }

    /// Check against what `ruby -raggregate` printed for the same samples.
    #[test]
    fn a_histogram_is_what_ruby_prints() {
        let samples: Vec<u64> = (0..300).map(|n| n % 7 * (n % 11)).collect();
        assert_eq!(
            of(&samples).to_string(),
            include_str!("../../tests/data/aggregate.txt")
        );
        assert_eq!(of(&[]).to_string(), "Empty histogram");
        assert_eq!(of(&[0, 0]).to_string(), "Empty histogram");
    }

    #[test]
    fn figures_are_what_ruby_says() {
        for (samples, mean, deviation, low) in [
            (&[][..], "NaN", "NaN", 0),
            (&[0], "0.0", "NaN", 1),
            (&[1, 2, 2], "1.6666666666666667", "0.5773502691896255", 0),
            (&[0, 0, 3], "1.0", "1.7320508075688772", 2),
            (&[5, 5, 5], "5.0", "0.0", 0),
        ] {
            let aggregate = of(samples);
            assert_eq!(
                (
                    ruby_float(aggregate.mean()).as_str(),
                    ruby_float(aggregate.std_dev()).as_str(),
                    aggregate.outliers_low(),
                    aggregate.outliers_high()
                ),
                (mean, deviation, low, 0),
                "{samples:?}"
            );
        }
    }

    #[test]
    fn floats_are_written_as_ruby_writes_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (12.0, "12.0"),
            (0.0001, "0.0001"),
            (0.000_05, "5.0e-05"),
            (0.000_012_5, "1.25e-05"),
            (1e14, "100000000000000.0"),
            (1e15, "1.0e+15"),
            (1e16, "1.0e+16"),
            (f64::INFINITY, "Infinity"),
        ] {
            assert_eq!(ruby_float(value), text);
        }
    }

    #[test]
    fn no_number_of_samples_is_too_many() {
        let mut aggregate = of(&[u64::MAX, u64::MAX, 1 << 47]);
        aggregate.add_many(3, u64::MAX);
        assert_eq!(aggregate.outliers_high(), 2);
        assert!(aggregate.to_string().contains("140737488355328 |"));
    }
}
