//! What a slab has, and what was counted in it.

use std::{
    ffi::{c_char, c_int},
    ptr,
};

use slab::{SlabError, read::Value};

use crate::{
    RAINDROPS_COUNTER, RAINDROPS_GAUGE, RAINDROPS_MAX, RaindropsField, RaindropsSlab,
    declared::kind,
    failure::{Failure, guarded},
    given, text,
};

/// How many fields the slab has, or -1.
///
/// # Safety
/// `slab` is NULL or a slab.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slab_fields(slab: *const RaindropsSlab) -> i64 {
    guarded(-1, || {
        // SAFETY: by the caller.
        Ok(unsafe { given(slab, "slab")? }.fields.len() as i64)
    })
}

/// The field of this number, as it was declared, and of how many words it is. A histogram's highest
/// value may be a little more than was asked for. The texts live as long as the slab.
///
/// # Safety
/// `slab` is NULL or a slab; `field` is NULL or has room for one; `words` likewise, and may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slab_field(
    slab: *const RaindropsSlab,
    index: usize,
    field: *mut RaindropsField,
    words: *mut u32,
) -> c_int {
    guarded(-1, || {
        // SAFETY: by the caller.
        let slab = unsafe { given(slab, "slab")? };
        // SAFETY: by the caller.
        let field = unsafe { field.as_mut() }.ok_or(Failure::Null("field"))?;
        let declared = slab.fields.get(index).ok_or(Failure::NoSuchField(index))?;
        *field = declared.as_field();
        // SAFETY: by the caller.
        if let Some(words) = unsafe { words.as_mut() } {
            *words = declared.words;
        }
        Ok(0)
    })
}

/// What all workers have counted: the words of all fields, in their order, of one reading. A counter,
/// gauge or max is one word; a histogram is the sum of all values, then one for each bucket. Gauges
/// are of those workers that live, and signed.
///
/// Returns how many words there are; writes no more than `count` of them.
///
/// # Safety
/// `slab` is NULL or a slab, and `words` has room for `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slab_totals(
    slab: *const RaindropsSlab,
    words: *mut u64,
    count: usize,
) -> i64 {
    guarded(-1, || {
        // SAFETY: by the caller.
        let slab = unsafe { given(slab, "slab")? };
        let all = words_of(
            slab.slab
                .totals()
                .values
                .into_iter()
                .map(|(_, value)| value),
        );
        let written = count.min(all.len());
        if written > 0 {
            if words.is_null() {
                return Err(Failure::Null("words"));
            }
            // SAFETY: there is room for `count`, by the caller.
            unsafe { ptr::copy_nonoverlapping(all.as_ptr(), words, written) };
        }
        Ok(all.len() as i64)
    })
}

/// What all workers have counted in one counter, gauge (signed, of those that live) or max.
///
/// # Safety
/// `slab` is NULL or a slab, the name ends with NUL, and `total` is NULL or has room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slab_total(
    slab: *const RaindropsSlab,
    name: *const c_char,
    field_kind: u32,
    total: *mut u64,
) -> c_int {
    guarded(-1, || {
        // SAFETY: by the caller.
        let slab = unsafe { given(slab, "slab")? };
        // SAFETY: by the caller.
        let total = unsafe { total.as_mut() }.ok_or(Failure::Null("total"))?;
        // SAFETY: by the caller.
        let (name, kind) = (unsafe { text(name, "name")? }, kind(field_kind)?);
        let totals = slab.slab.totals();
        *total = match totals.get(name) {
            Some(Value::Counter(value)) if field_kind == RAINDROPS_COUNTER => *value,
            Some(Value::Gauge(level)) if field_kind == RAINDROPS_GAUGE => level.cast_unsigned(),
            Some(Value::Max(value)) if field_kind == RAINDROPS_MAX => *value,
            _ => {
                return Err(Failure::Slab(SlabError::NoField {
                    slab: slab.slab.layout().name().into(),
                    kind: kind.name(),
                    field: name.into(),
                }));
            }
        };
        Ok(0)
    })
}

fn words_of(values: impl Iterator<Item = Value>) -> Vec<u64> {
    let mut words = Vec::new();
    for value in values {
        match value {
            Value::Counter(value) | Value::Max(value) => words.push(value),
            Value::Gauge(level) => words.push(level.cast_unsigned()),
            Value::Histogram { sum, buckets } => {
                words.push(sum);
                words.extend(buckets);
            }
        }
    }
    words
}
