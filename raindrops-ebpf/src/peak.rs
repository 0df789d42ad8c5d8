//! The longest queue and when it was that long, in one word, so that both change together.

const LENGTH_BITS: u32 = 24;
const TIME_BITS: u32 = u64::BITS - LENGTH_BITS;
/// Nanoseconds are kept in units of 2^20, about a millisecond.
const TIME_SHIFT: u32 = 20;

/// No queue has been seen.
pub const NONE: u64 = 0;

/// A longer queue than can be kept counts as the longest that can.
#[inline(always)]
#[must_use]
pub const fn pack(length: u32, at_ns: u64) -> u64 {
    let longest = (1 << LENGTH_BITS) - 1;
    let kept = if length > longest { longest } else { length };
    (kept as u64) << TIME_BITS | (at_ns >> TIME_SHIFT) & ((1 << TIME_BITS) - 1)
}

#[inline(always)]
#[must_use]
pub const fn length(peak: u64) -> u32 {
    (peak >> TIME_BITS) as u32
}

/// Nanoseconds, a millisecond too early at most.
#[must_use]
pub const fn at_ns(peak: u64) -> u64 {
    (peak & ((1 << TIME_BITS) - 1)) << TIME_SHIFT
}

#[cfg(test)]
mod tests {
    use super::{NONE, at_ns, length, pack};

    #[test]
    fn length_and_time_come_back() {
        let at = 86_400_000_000_123;
        let peak = pack(4097, at);
        assert_eq!(length(peak), 4097);
        assert!(at - at_ns(peak) < 1 << 20);
        assert_eq!(length(NONE), 0);
    }

    #[test]
    fn a_longer_queue_is_a_greater_peak_whenever_it_was() {
        assert!(pack(2, 0) > pack(1, u64::MAX));
        assert_eq!(length(pack(u32::MAX, u64::MAX)), (1 << 24) - 1);
    }
}
