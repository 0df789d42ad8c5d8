//! Atomic instructions. `core::sync::atomic` has no 64-bit read-modify-write for this target, so
//! these are the intrinsics behind it.

use core::intrinsics::{
    AtomicOrdering::{AcqRel, Relaxed},
    atomic_or, atomic_xadd,
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
