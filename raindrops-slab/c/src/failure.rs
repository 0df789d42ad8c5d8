//! What went wrong in a call from C, kept for who asks afterwards.

use std::{
    cell::RefCell,
    error::Error as _,
    ffi::{CString, c_char},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use slab::{Invalid, SlabError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Slab(#[from] SlabError),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("{0} is NULL")]
    Null(&'static str),
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    #[error("{0} is no kind of field: 1 is counter, 2 gauge, 3 max, 4 histogram")]
    Kind(u32),
    #[error("{0} is no way of writing: 0 is single, 1 shared")]
    Writing(u32),
    #[error("a histogram has many words: ask raindrops_slot_histogram")]
    ManyWords,
    #[error("there is no field {0}")]
    NoSuchField(usize),
    #[error("{0} is no descriptor")]
    Descriptor(i32),
    #[error("cannot duplicate the descriptor")]
    Duplicate(#[source] io::Error),
    #[error("libraindrops_slab has failed in a way that it should not: please report it")]
    Panic,
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs what C has called. `failed` is what that returns when it fails.
pub(crate) fn guarded<T>(failed: T, call: impl FnOnce() -> Result<T, Failure>) -> T {
    // What a panic leaves behind is not used again: `call` owns what it has begun to make.
    let outcome = catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(Failure::Panic));
    outcome.unwrap_or_else(|failure| {
        keep(&failure);
        failed
    })
}

fn keep(failure: &Failure) {
    let mut text = failure.to_string();
    let mut source = failure.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    // A path has no NUL.
    let text = CString::new(text).unwrap_or_default();
    // A thread that ends has nobody who would ask.
    let _ = LAST.try_with(|last| last.replace(text));
}

pub(crate) fn last() -> *const c_char {
    // The text is on the heap, and stays where it is when the thread's variable is looked at.
    LAST.try_with(|last| last.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}
