//! Histogram of durations: four linear steps per octave, from 1 µs to 2^26 µs.
//!
//! Bucket 0 holds everything below 1 µs, the last one everything from 2^26 µs (67 s) up.

/// Linear steps in each octave.
const STEPS: u64 = 4;
/// Octaves between the first bound (1 µs) and the last (2^26 µs).
const OCTAVES: u64 = 26;
/// Nanoseconds in a quarter of a microsecond, the width of the finest bucket.
const QUARTER_US: u64 = 250;

/// Number of buckets: one below the range, the range itself, one above it.
pub const BUCKETS: usize = (OCTAVES * STEPS) as usize + 2;

/// Durations counted by bucket, with their sum and their maximum.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    pub buckets: [u64; BUCKETS],
    pub sum_ns: u64,
    pub max_ns: u64,
}

const _: () = assert!(size_of::<Histogram>() == 8 * (BUCKETS + 2));

impl Histogram {
    pub const EMPTY: Self = Self {
        buckets: [0; BUCKETS],
        sum_ns: 0,
        max_ns: 0,
    };
}

/// The bucket that a duration belongs to.
#[inline(always)]
#[must_use]
pub const fn bucket(duration_ns: u64) -> usize {
    let quarters = duration_ns / QUARTER_US;
    if quarters < STEPS {
        return 0;
    }
    let octave = log2(quarters) - 2;
    if octave >= OCTAVES {
        return BUCKETS - 1;
    }
    let step = (quarters >> octave) & (STEPS - 1);
    (1 + octave * STEPS + step) as usize
}

/// Upper bound of a bucket in nanoseconds (exclusive); `None` for the last bucket, which has none.
#[must_use]
pub const fn upper_bound_ns(bucket: usize) -> Option<u64> {
    if bucket >= BUCKETS - 1 {
        return None;
    }
    let (octave, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    Some(((STEPS + step) << octave) * QUARTER_US)
}

/// Lower bound of a bucket in nanoseconds (inclusive).
#[must_use]
pub const fn lower_bound_ns(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    match upper_bound_ns(bucket - 1) {
        Some(bound) => bound,
        None => 0,
    }
}

/// Position of the highest set bit. Written out because BPF has no count-leading-zeros
/// instruction before ISA v4.
#[inline(always)]
const fn log2(value: u64) -> u64 {
    let mut value = value;
    let mut result = 0;
    if value >= 1 << 32 {
        value >>= 32;
        result += 32;
    }
    if value >= 1 << 16 {
        value >>= 16;
        result += 16;
    }
    if value >= 1 << 8 {
        value >>= 8;
        result += 8;
    }
    if value >= 1 << 4 {
        value >>= 4;
        result += 4;
    }
    if value >= 1 << 2 {
        value >>= 2;
        result += 2;
    }
    if value >= 1 << 1 {
        result += 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_within_the_bounds_of_its_bucket() {
        let around_every_power = (0..64).flat_map(|bit| {
            let power = 1u64 << bit;
            [
                power - 1,
                power,
                power + 1,
                power + power / 3,
                power.saturating_mul(250),
            ]
        });
        for duration in around_every_power.chain([0, 999, 1_000, 1_249, 1_250, u64::MAX]) {
            let index = bucket(duration);
            assert!(index < BUCKETS);
            assert!(
                lower_bound_ns(index) <= duration,
                "{duration} is below bucket {index}"
            );
            if let Some(upper) = upper_bound_ns(index) {
                assert!(duration < upper, "{duration} is above bucket {index}");
            }
        }
    }

    #[test]
    fn bounds_are_those_that_the_documentation_promises() {
        assert_eq!(upper_bound_ns(0), Some(1_000));
        assert_eq!(upper_bound_ns(1), Some(1_250));
        assert_eq!(upper_bound_ns(BUCKETS - 2), Some((1 << 26) * 1_000));
        assert_eq!(upper_bound_ns(BUCKETS - 1), None);
        assert_eq!(bucket(38_000), bucket(39_999));
        assert_eq!(upper_bound_ns(bucket(38_000)), Some(40_000));
    }

    #[test]
    fn no_bucket_in_range_is_wider_than_a_quarter_of_its_lower_bound() {
        for index in 1..BUCKETS - 1 {
            let (lower, upper) = (lower_bound_ns(index), upper_bound_ns(index).unwrap());
            assert!(
                (upper - lower) * 4 <= lower,
                "bucket {index}: {lower}..{upper}"
            );
        }
    }
}
