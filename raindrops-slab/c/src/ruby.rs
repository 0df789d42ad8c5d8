//! Functions that Ruby can call as methods of its own.
//!
//! A call through Fiddle takes several times as long as counting. A method whose body is a C function
//! does not, and `rb_define_method` takes the address of any. These need nothing of Ruby itself but
//! how CRuby hands over small integers: doubled, and one more. Everything else has the last bit 0,
//! and `false` is 0.

use std::sync::atomic::{AtomicU64, Ordering};

use slab::{Kind, histogram::bucket_of};

/// What Ruby calls a value.
type Value = usize;

const FALSE: Value = 0;

/// A small integer.
const fn integer(value: Value) -> Option<isize> {
    if value & 1 == 1 {
        Some((value.cast_signed()) >> 1)
    } else {
        None
    }
}

/// Where a field counts, and of what kind it is: an address, which ends with three bits that are 0,
/// and in them the number of the kind.
#[derive(Clone, Copy)]
struct Handle(isize);

impl Handle {
    fn of_kind(value: Value, kinds: &[Kind]) -> Option<Self> {
        let handle = integer(value)?;
        let is_one = |kind: &Kind| handle & 7 == *kind as isize;
        kinds.iter().any(is_one).then_some(Self(handle))
    }

    /// # Safety
    /// It was made of an address that `raindrops_slot_word` or `raindrops_slot_histogram` has given,
    /// of a field that has so many words.
    unsafe fn word<'a>(self, index: usize) -> &'a AtomicU64 {
        let first = (self.0 & !7) as *const AtomicU64;
        // SAFETY: by the caller; words are accessed through atomics only.
        unsafe { &*first.add(index) }
    }
}

/// Adds to a counter or gauge and returns the amount, or `false` where it cannot.
///
/// # Safety
/// Called by Ruby; an integer as `handle` is one of a slot that is claimed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_ruby_add(_: Value, handle: Value, amount: Value) -> Value {
    let handle = Handle::of_kind(handle, &[Kind::Counter, Kind::Gauge]);
    let Some((handle, by)) = handle.zip(integer(amount)) else {
        return FALSE;
    };
    if by < 0 && handle.0 & 7 == Kind::Counter as isize {
        return FALSE;
    }
    // SAFETY: by the caller.
    let word = unsafe { handle.word(0) };
    word.fetch_add(by as u64, Ordering::Relaxed);
    amount
}

/// Takes from a gauge.
///
/// # Safety
/// As `raindrops_ruby_add`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_ruby_subtract(_: Value, handle: Value, amount: Value) -> Value {
    let handle = Handle::of_kind(handle, &[Kind::Gauge]);
    let Some((handle, by)) = handle.zip(integer(amount)) else {
        return FALSE;
    };
    // SAFETY: by the caller.
    let word = unsafe { handle.word(0) };
    word.fetch_sub(by as u64, Ordering::Relaxed);
    amount
}

/// Sets a gauge.
///
/// # Safety
/// As `raindrops_ruby_add`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_ruby_set(_: Value, handle: Value, level: Value) -> Value {
    let handle = Handle::of_kind(handle, &[Kind::Gauge]);
    let Some((handle, to)) = handle.zip(integer(level)) else {
        return FALSE;
    };
    // SAFETY: by the caller.
    let word = unsafe { handle.word(0) };
    word.store(to as u64, Ordering::Relaxed);
    level
}

/// Raises a max to a value that is not negative.
///
/// # Safety
/// As `raindrops_ruby_add`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_ruby_raise(_: Value, handle: Value, value: Value) -> Value {
    let handle = Handle::of_kind(handle, &[Kind::Max]);
    let Some((handle, to)) = handle.zip(not_negative(value)) else {
        return FALSE;
    };
    // SAFETY: by the caller.
    let word = unsafe { handle.word(0) };
    word.fetch_max(to, Ordering::Relaxed);
    value
}

/// Records a value that is not negative in a histogram of so many buckets.
///
/// # Safety
/// As `raindrops_ruby_add`, and the histogram has so many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_ruby_record(
    _: Value,
    handle: Value,
    buckets: Value,
    value: Value,
) -> Value {
    let handle = Handle::of_kind(handle, &[Kind::Histogram]);
    let buckets = integer(buckets).and_then(|it| u32::try_from(it).ok());
    let buckets = buckets.filter(|it| *it > 0);
    let Some(((handle, buckets), number)) = handle.zip(buckets).zip(not_negative(value)) else {
        return FALSE;
    };
    let bucket = bucket_of(number, buckets) as usize;
    // SAFETY: by the caller, and `bucket_of` gives one of the buckets.
    let (sum, bucket) = unsafe { (handle.word(0), handle.word(1 + bucket)) };
    bucket.fetch_add(1, Ordering::Relaxed);
    sum.fetch_add(number, Ordering::Relaxed);
    value
}

fn not_negative(value: Value) -> Option<u64> {
    integer(value).and_then(|it| u64::try_from(it).ok())
}
