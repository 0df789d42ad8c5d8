//! Atomic instructions. `core::sync::atomic` has no 64-bit read-modify-write for this target, so
//! these are the intrinsics behind it.

use core::intrinsics::{
    AtomicOrdering::{AcqRel, Acquire, Relaxed},
    atomic_cxchg, atomic_or, atomic_xadd,
};

/// Adds, wrapping.
#[inline(always)]
pub fn add(counter: *mut u64, value: u64) {
    // SAFETY: callers pass a pointer into a map value, which the verifier checks.
    unsafe { atomic_xadd::<u64, u64, { Relaxed }>(counter, value) };
}

/// Subtracts, wrapping.
#[inline(always)]
pub fn subtract(counter: *mut u64, value: u64) {
    add(counter, value.wrapping_neg());
}

/// CPUs that share a shard and meet here more often than this give up.
const RAISE_ATTEMPTS: usize = 4;

/// Makes a word at least `value`, by the order of `rank`. Linux 5.12.
#[inline(always)]
pub fn raise(word: *mut u64, value: u64, rank: impl Fn(u64) -> u32) {
    for _ in 0..RAISE_ATTEMPTS {
        // SAFETY: callers pass a pointer into a map value, which the verifier checks.
        let before = unsafe { word.read_volatile() };
        if rank(before) >= rank(value) {
            return;
        }
        // SAFETY: as above.
        let (_, raised) =
            unsafe { atomic_cxchg::<u64, { AcqRel }, { Acquire }>(word, before, value) };
        if raised {
            return;
        }
    }
}

/// How bits are or-ed into a connection's event word.
pub trait EventWord {
    /// Sets `bits` and returns what was there before.
    fn set(word: *mut u64, bits: u64) -> u64;
}

/// With an instruction that returns the old value (Linux 5.12): concurrent events get an order.
pub struct Ordered;

impl EventWord for Ordered {
    #[inline(always)]
    fn set(word: *mut u64, bits: u64) -> u64 {
        // SAFETY: callers pass a pointer into a map value, which the verifier checks.
        unsafe { atomic_or::<u64, u64, { AcqRel }>(word, bits) }
    }
}

/// With a load and a store, for kernels that refuse the other: two events of one connection that
/// meet within nanoseconds on two CPUs may not see each other.
pub struct Plain;

impl EventWord for Plain {
    #[inline(always)]
    fn set(word: *mut u64, bits: u64) -> u64 {
        // SAFETY: callers pass a pointer into a map value, which the verifier checks.
        let before = unsafe { word.read_volatile() };
        // SAFETY: as above.
        unsafe { word.write_volatile(before | bits) };
        before
    }
}
