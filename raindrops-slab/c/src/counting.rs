//! Counting by a call, for languages that cannot take functions out of a header. Each is one atomic
//! instruction on a word, so that all threads may count.

use std::sync::atomic::{AtomicU64, Ordering};

use slab::histogram::bucket_of;

/// # Safety
/// It is an address that `raindrops_slot_word` or `raindrops_slot_histogram` has given, of a field
/// that has so many words more.
unsafe fn word<'a>(first: *mut u64, index: usize) -> &'a AtomicU64 {
    // SAFETY: by the caller; words are accessed through atomics only.
    unsafe { &*first.cast::<AtomicU64>().add(index) }
}

/// Adds to a counter or gauge: what `raindrops_counter_add_shared` does, as a call.
///
/// # Safety
/// `first` is the word of a claimed slot.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_word_add(first: *mut u64, amount: u64) {
    // SAFETY: by the caller.
    unsafe { word(first, 0) }.fetch_add(amount, Ordering::Relaxed);
}

/// Sets a gauge: what `raindrops_gauge_set` does, as a call.
///
/// # Safety
/// As `raindrops_word_add`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_word_set(first: *mut u64, level: u64) {
    // SAFETY: by the caller.
    unsafe { word(first, 0) }.store(level, Ordering::Relaxed);
}

/// Raises a max: what `raindrops_max_raise_shared` does, as a call.
///
/// # Safety
/// As `raindrops_word_add`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_word_raise(first: *mut u64, value: u64) {
    // SAFETY: by the caller.
    unsafe { word(first, 0) }.fetch_max(value, Ordering::Relaxed);
}

/// Records a value: what `raindrops_histogram_record_shared` does, as a call.
///
/// # Safety
/// `words` is a histogram of a claimed slot, and has so many buckets, at least one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_words_record(words: *mut u64, buckets: u32, value: u64) {
    let bucket = bucket_of(value, buckets) as usize;
    // SAFETY: by the caller, and `bucket_of` gives one of the buckets.
    let (sum, bucket) = unsafe { (word(words, 0), word(words, 1 + bucket)) };
    bucket.fetch_add(1, Ordering::Relaxed);
    sum.fetch_add(value, Ordering::Relaxed);
}
