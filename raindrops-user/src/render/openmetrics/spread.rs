//! Durations by the bounds that all histograms of durations have.

use super::sample::Seconds;
use crate::view::Durations;

/// Upper bounds in microseconds. Each is also a bound of the kernel half's histograms, so that what
/// is counted below it is exact.
pub(super) const BOUNDS_US: [u64; 14] = [
    64, 256, 1_024, 4_096, 10_240, 24_576, 49_152, 98_304, 262_144, 524_288, 1_048_576, 4_194_304,
    16_777_216, 67_108_864,
];

/// How many durations there were up to each bound, and above.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread {
    /// Between a bound and the one before; the last one is above all.
    counts: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl Spread {
    /// `None` where the buckets are not told.
    pub(super) fn of(durations: &Durations) -> Option<Self> {
        let mut spread = Self {
            sum_us: durations.sum_us,
            ..Self::default()
        };
        for (bound, count) in durations.buckets.as_ref()? {
            let index = match bound {
                Some(bound) => BOUNDS_US.partition_point(|fixed| (*fixed as f64) < *bound),
                None => BOUNDS_US.len(),
            };
            spread.counts[index] = spread.counts[index].saturating_add(*count);
        }
        Some(spread)
    }

    pub(super) fn with(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        for (count, more) in sum.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        sum.sum_us = sum.sum_us.saturating_add(other.sum_us);
        sum
    }

    /// What of these `now` does not have any more.
    pub(super) fn less(&self, now: &Self) -> Self {
        let mut lost = self.clone();
        for (count, now) in lost.counts.iter_mut().zip(now.counts) {
            *count = count.saturating_sub(now);
        }
        lost.sum_us = lost.sum_us.saturating_sub(now.sum_us);
        lost
    }

    /// Each bound with how many durations are up to it.
    pub(super) fn cumulated(&self) -> impl Iterator<Item = (Seconds, u64)> {
        let counts = self.counts.iter().scan(0u64, |sum, count| {
            *sum = sum.saturating_add(*count);
            Some(*sum)
        });
        BOUNDS_US
            .into_iter()
            .map(|micros| Seconds { micros })
            .zip(counts)
    }

    pub(super) fn count(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(super) const fn sum(&self) -> Seconds {
        Seconds {
            micros: self.sum_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use raindrops_ebpf::histogram::{BUCKETS, Histogram, bucket, upper_bound_ns};

    use super::*;
    use crate::view::durations::durations;

    #[test]
    fn every_bound_is_one_of_the_kernel_halfs() {
        let theirs: Vec<u64> = (0..BUCKETS).filter_map(upper_bound_ns).collect();
        for bound in BOUNDS_US {
            assert!(theirs.contains(&(bound * 1000)), "{bound}");
        }
    }

    #[test]
    fn what_is_below_a_bound_is_counted_exactly() {
        let mut histogram = Histogram::EMPTY;
        for bound in BOUNDS_US {
            // Just below it, at it, and in the middle of nowhere.
            for nanos in [bound * 1000 - 1, bound * 1000, bound * 1111] {
                histogram.buckets[bucket(nanos)] += 1;
                histogram.sum_ns += nanos;
            }
        }
        let spread = Spread::of(&durations(&histogram)).unwrap();
        let expected: Vec<u64> = (0u64..14).map(|index| index * 3 + 1).collect();
        let found: Vec<u64> = spread.cumulated().map(|(_, count)| count).collect();
        assert_eq!(found, expected);
        assert_eq!(spread.count(), 42);
    }

    #[test]
    fn spreads_add_up() {
        let spread = |micros: u64| {
            let mut histogram = Histogram::EMPTY;
            histogram.buckets[bucket(micros * 1000)] = 1;
            histogram.sum_ns = micros * 1000;
            Spread::of(&durations(&histogram)).unwrap()
        };
        let sum = spread(70).with(&spread(100_000_000));
        assert_eq!((sum.count(), sum.sum().micros), (2, 100_000_070));
    }
}
