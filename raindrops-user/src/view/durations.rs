//! Durations as the view shows them, and histograms of the ABI: counts, quantiles, buckets.

use std::time::Duration;

use raindrops_ebpf::histogram::{BUCKETS, Histogram, lower_bound_ns, upper_bound_ns};

use super::{Durations, RecentDurations};

const NANOS_PER_MICRO: u64 = 1_000;

/// As durations are published.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Counts by bucket, without the empty ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<(u8, u64)>);

impl Counts {
    #[must_use]
    pub fn of(histogram: &Histogram) -> Self {
        Self(
            (0u8..)
                .zip(histogram.buckets)
                .filter(|(_, count)| *count != 0)
                .collect(),
        )
    }

    /// Of buckets as they are published; `None` where one of them is none of ours.
    #[must_use]
    pub fn published(buckets: &[(Option<f64>, u64)]) -> Option<Self> {
        let bounds: Vec<Option<f64>> = (0..BUCKETS).map(bound_us).collect();
        let counts = buckets.iter().map(|(bound, count)| {
            let bucket = bounds.iter().position(|it| it == bound)?;
            Some((u8::try_from(bucket).ok()?, *count))
        });
        counts.collect::<Option<Vec<_>>>().map(Self)
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// What has come since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bucket: u8| {
            earlier
                .0
                .iter()
                .find(|(index, _)| *index == bucket)
                .map_or(0, |(_, count)| *count)
        };
        Self(
            self.0
                .iter()
                .map(|(bucket, count)| (*bucket, count.saturating_sub(before(*bucket))))
                .filter(|(_, count)| *count != 0)
                .collect(),
        )
    }

    /// Middle of the bucket in which the quantile lies, so within 12.5 % of it; `None` when there
    /// is nothing to take it of.
    #[must_use]
    pub fn quantile_us(&self, per_cent: u64) -> Option<u64> {
        let rank = (self.total() * per_cent).div_ceil(100).max(1);
        let mut seen = 0;
        self.0.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| middle_us(usize::from(*bucket)))
        })
    }

    fn buckets(&self) -> Vec<(Option<f64>, u64)> {
        self.0
            .iter()
            .map(|(bucket, count)| (bound_us(usize::from(*bucket)), *count))
            .collect()
    }
}

fn bound_us(bucket: usize) -> Option<f64> {
    upper_bound_ns(bucket).map(|nanos| nanos as f64 / NANOS_PER_MICRO as f64)
}

fn middle_us(bucket: usize) -> u64 {
    let lower = lower_bound_ns(bucket);
    let upper = upper_bound_ns(bucket).unwrap_or(lower);
    lower.midpoint(upper) / NANOS_PER_MICRO
}

/// The whole of a histogram.
#[must_use]
pub fn durations(histogram: &Histogram) -> Durations {
    let counts = Counts::of(histogram);
    let max = (counts.total() != 0).then(|| histogram.max_ns.div_ceil(NANOS_PER_MICRO));
    let quantile = |per_cent| Some(counts.quantile_us(per_cent)?.min(max?));
    Durations {
        count: counts.total(),
        sum_us: histogram.sum_ns / NANOS_PER_MICRO,
        p50_us: quantile(50),
        p90_us: quantile(90),
        p99_us: quantile(99),
        max_us: max,
        buckets: Some(counts.buckets()),
    }
}

/// The last seconds of a histogram.
#[must_use]
pub fn recent(counts: &Counts) -> RecentDurations {
    RecentDurations {
        count: counts.total(),
        p50_us: counts.quantile_us(50),
        p99_us: counts.quantile_us(99),
        max_us: counts.quantile_us(100),
    }
}

/// Several histograms as one.
#[must_use]
pub fn sum<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Histogram {
    histograms.fold(Histogram::EMPTY, |mut sum, histogram| {
        let Histogram {
            buckets,
            sum_ns,
            max_ns,
        } = histogram;
        for (sum, count) in sum.buckets.iter_mut().zip(buckets) {
            *sum += count;
        }
        sum.sum_ns = sum.sum_ns.wrapping_add(*sum_ns);
        sum.max_ns = sum.max_ns.max(*max_ns);
        sum
    })
}

#[cfg(test)]
mod tests {
    use raindrops_ebpf::histogram::bucket;

    use super::*;

    fn histogram(durations_us: &[u64]) -> Histogram {
        let mut histogram = Histogram::EMPTY;
        for micros in durations_us {
            let nanos = micros * NANOS_PER_MICRO;
            histogram.buckets[bucket(nanos)] += 1;
            histogram.sum_ns += nanos;
            histogram.max_ns = histogram.max_ns.max(nanos);
        }
        histogram
    }

    #[test]
    fn quantiles_lie_within_an_eighth_of_the_truth() {
        let micros: Vec<u64> = (1..=1000).collect();
        let durations = durations(&histogram(&micros));
        assert_eq!((durations.count, durations.sum_us), (1000, 500_500));
        for (found, truth) in [
            (durations.p50_us, 500),
            (durations.p90_us, 900),
            (durations.p99_us, 990),
        ] {
            let found = found.unwrap();
            assert!(found.abs_diff(truth) * 8 <= truth, "{found} for {truth}");
        }
        assert_eq!(durations.max_us, Some(1000));
    }

    #[test]
    fn nothing_has_no_quantiles() {
        let durations = durations(&Histogram::EMPTY);
        assert_eq!(
            (durations.count, durations.p50_us, durations.max_us),
            (0, None, None)
        );
    }

    #[test]
    fn buckets_carry_their_upper_bounds_and_add_up() {
        let durations = durations(&histogram(&[38, 38, 45, 100_000_000]));
        assert_eq!(
            durations.buckets.unwrap(),
            [(Some(40.0), 2), (Some(48.0), 1), (None, 1)]
        );
    }

    #[test]
    fn a_difference_leaves_out_what_was_there_before() {
        let earlier = Counts::of(&histogram(&[38, 45]));
        let later = Counts::of(&histogram(&[38, 38, 45, 900]));
        let difference = later.since(&earlier);
        assert_eq!(difference.total(), 2);
        assert_eq!(recent(&difference).p50_us, Some(36));
    }
}
