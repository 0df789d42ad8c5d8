//! Which bucket a value falls into.
//!
//! Four equal steps for each doubling: bucket n < 4 is of the value n alone; from 4 on a bucket is a
//! quarter of the span from a power of two to the next. The last bucket is of everything above. Word
//! 0 of the field is the sum of all values, the buckets follow.

/// Buckets that tell all 64-bit values apart as well as this scheme can.
pub const MOST_BUCKETS: u32 = 252;

/// Which of `buckets` a value falls into.
#[must_use]
pub const fn bucket_of(value: u64, buckets: u32) -> u32 {
    let bucket = if value < 4 {
        value as u32
    } else {
        let power = value.ilog2();
        4 * (power - 1) + ((value >> (power - 2)) & 3) as u32
    };
    if bucket < buckets {
        bucket
    } else {
        buckets - 1
    }
}

/// The least and the greatest value of a bucket, where it is not the last.
#[must_use]
pub const fn range_of(bucket: u32) -> (u64, u64) {
    if bucket < 4 {
        return (bucket as u64, bucket as u64);
    }
    let shift = bucket / 4 - 1;
    let least = ((4 + bucket % 4) as u64) << shift;
    (least, least + ((1 << shift) - 1))
}

/// Words of a field that tells values up to `highest` apart.
#[must_use]
pub const fn words_for(highest: u64) -> u32 {
    let last = bucket_of(highest, MOST_BUCKETS);
    // One more for everything above, one for the sum.
    let buckets = last + 2;
    1 + if buckets < MOST_BUCKETS {
        buckets
    } else {
        MOST_BUCKETS
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_BUCKETS, bucket_of, range_of, words_for};

    #[test]
    fn buckets_follow_each_other_without_a_hole() {
        for bucket in 1..MOST_BUCKETS {
            assert_eq!(range_of(bucket).0, range_of(bucket - 1).1 + 1);
        }
        assert_eq!(range_of(MOST_BUCKETS - 1).1, u64::MAX);
    }

    #[test]
    fn both_ends_of_a_bucket_fall_into_it() {
        for bucket in 0..MOST_BUCKETS {
            let (least, greatest) = range_of(bucket);
            assert_eq!(bucket_of(least, MOST_BUCKETS), bucket);
            assert_eq!(bucket_of(greatest, MOST_BUCKETS), bucket);
        }
    }

    #[test]
    fn what_is_above_falls_into_the_last() {
        assert_eq!(bucket_of(u64::MAX, 10), 9);
        assert_eq!(bucket_of(9, 10), 8);
    }

    #[test]
    fn words_tell_the_highest_from_what_is_above() {
        for highest in [0, 1, 3, 4, 7, 1000, 60_000_000, 1 << 40] {
            let buckets = words_for(highest) - 1;
            let (_, greatest) = range_of(bucket_of(highest, buckets));
            assert_eq!(bucket_of(greatest + 1, buckets), buckets - 1);
            assert!(bucket_of(highest, buckets) < buckets - 1);
        }
        assert_eq!(words_for(u64::MAX), 1 + MOST_BUCKETS);
    }
}
