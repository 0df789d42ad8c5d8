//! `raindrops-slab` for C, and for whatever can call C.
//!
//! Apart from the crate itself, which stays an ordinary one. Making, opening and claiming are calls;
//! counting is not: a claimed slot gives the address of a field's words, and the header has functions
//! that count there in place.
//!
//! A call that fails returns NULL or -1, and [`raindrops_slab_error`] says why. Nothing unwinds into
//! C, and NULL is an error wherever it is not said to mean something.
//!
//! The header is `include/raindrops_slab.h`, made from here by `cargo xtask header`.

mod counting;
mod declared;
mod failure;
mod reading;
/// cbindgen:ignore
mod ruby;

use std::{
    ffi::{CStr, OsStr, c_char, c_int},
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr,
};

use slab::{Shared, Single, Slab, Slot};

pub use self::declared::RaindropsField;
use self::{
    declared::{Declared, declared, kind, schema},
    failure::{Failure, guarded},
};

/// A field that only rises, and is kept when its worker ends.
pub const RAINDROPS_COUNTER: u32 = 1;
/// A field that rises and falls, may be negative, and is gone when its worker ends.
pub const RAINDROPS_GAUGE: u32 = 2;
/// A field of the greatest value seen, kept when its worker ends.
pub const RAINDROPS_MAX: u32 = 3;
/// A field that says how many values fell into which range, and their sum. Kept when its worker
/// ends.
pub const RAINDROPS_HISTOGRAM: u32 = 4;

/// Only the thread that claims counts: with the functions that do not end in `_shared`.
pub const RAINDROPS_SINGLE: u32 = 0;
/// All threads of the process count: with those that end in `_shared`.
pub const RAINDROPS_SHARED: u32 = 1;

/// Counters in shared memory.
#[derive(Debug)]
pub struct RaindropsSlab {
    slab: Slab,
    fields: Vec<Declared>,
}

/// A claimed slot.
#[derive(Debug)]
pub struct RaindropsSlot(Claimed);

#[derive(Debug)]
enum Claimed {
    Single(Slot<Single>),
    Shared(Slot<Shared>),
}

/// Where a histogram's words are: the sum of all values, then one for each bucket.
#[repr(C)]
#[derive(Debug)]
pub struct RaindropsHistogram {
    pub words: *mut u64,
    pub buckets: u32,
}

/// What was wrong with the last call of this thread that failed. Valid until another fails.
#[unsafe(no_mangle)]
pub extern "C" fn raindrops_slab_error() -> *const c_char {
    failure::last()
}

/// Creates a slab of `count` fields with room for so many claims at one time.
///
/// With a path: a file, readable and writable for its owner only, that takes the place of what is
/// there. With NULL: memory without a file, for this process and those it forks.
///
/// # Safety
/// Strings end with NUL, and `fields` has `count` entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slab_create(
    path: *const c_char,
    name: *const c_char,
    slots: u32,
    fields: *const RaindropsField,
    count: usize,
) -> *mut RaindropsSlab {
    guarded(ptr::null_mut(), || {
        // SAFETY: by the caller.
        let schema = unsafe { schema(name, slots, fields, count)? };
        let slab = if path.is_null() {
            Slab::in_memory(&schema)?
        } else {
            // SAFETY: by the caller.
            Slab::create(unsafe { to_path(path)? }, &schema)?
        };
        Ok(handed_over(slab))
    })
}

/// Opens the file of a slab that another process has created. Whoever may write to that file can
/// also shorten it, which ends every process that has it mapped: open only files of users that are
/// trusted.
///
/// # Safety
/// The path ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slab_open(path: *const c_char) -> *mut RaindropsSlab {
    guarded(ptr::null_mut(), || {
        // SAFETY: by the caller.
        Ok(handed_over(Slab::open(unsafe { to_path(path)? })?))
    })
}

/// The slab of a descriptor that another process has handed over. The descriptor stays the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn raindrops_slab_from_fd(fd: c_int) -> *mut RaindropsSlab {
    guarded(ptr::null_mut(), || {
        if fd < 0 {
            return Err(Failure::Descriptor(fd));
        }
        // SAFETY: of no open file it is refused by the kernel, and it is borrowed for no longer
        // than it takes to make another of it.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
        Ok(handed_over(Slab::from_fd(fd.map_err(Failure::Duplicate)?)?))
    })
}

/// The slab's descriptor, which is closed when the slab and its claims are gone. To hand over to
/// another process.
///
/// # Safety
/// `slab` is NULL or a slab.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slab_fd(slab: *const RaindropsSlab) -> c_int {
    guarded(-1, || {
        // SAFETY: by the caller.
        Ok(unsafe { given(slab, "slab")? }.slab.fd().as_raw_fd())
    })
}

/// Lets nobody claim a slot any more. Counts can still be read.
///
/// # Safety
/// `slab` is NULL or a slab.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slab_close(slab: *const RaindropsSlab) -> c_int {
    guarded(-1, || {
        // SAFETY: by the caller.
        unsafe { given(slab, "slab")? }.slab.close();
        Ok(0)
    })
}

/// Gives up a slab. Claims of it stay good, and files stay.
///
/// # Safety
/// `slab` is NULL or a slab, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slab_free(slab: *mut RaindropsSlab) {
    if !slab.is_null() {
        guarded((), || {
            // SAFETY: made by `handed_over`, and not used again, by the caller.
            drop(unsafe { Box::from_raw(slab) });
            Ok(())
        });
    }
}

/// Claims a slot for this process: RAINDROPS_SINGLE or RAINDROPS_SHARED. Claim after the fork: what
/// a child inherits is its parent's, and it must not count there.
///
/// # Safety
/// `slab` is NULL or a slab.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slab_claim(
    slab: *const RaindropsSlab,
    writing: u32,
) -> *mut RaindropsSlot {
    guarded(ptr::null_mut(), || {
        // SAFETY: by the caller.
        let slab = unsafe { given(slab, "slab")? };
        let claimed = match writing {
            RAINDROPS_SINGLE => Claimed::Single(slab.slab.claim()?),
            RAINDROPS_SHARED => Claimed::Shared(slab.slab.claim_shared()?),
            other => return Err(Failure::Writing(other)),
        };
        Ok(Box::into_raw(Box::new(RaindropsSlot(claimed))))
    })
}

/// Gives a slot back: its counts stay, its gauges end. In a child of who has claimed it, it only
/// frees the child's copy. No word of it may be used afterwards.
///
/// # Safety
/// `slot` is NULL or a claimed slot, and neither it nor its words are used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slot_release(slot: *mut RaindropsSlot) {
    if !slot.is_null() {
        guarded((), || {
            // SAFETY: made by `raindrops_slab_claim`, and not used again, by the caller.
            drop(unsafe { Box::from_raw(slot) });
            Ok(())
        });
    }
}

/// The slot's number in its slab, or -1.
///
/// # Safety
/// `slot` is NULL or a claimed slot.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slot_index(slot: *const RaindropsSlot) -> i64 {
    guarded(-1, || {
        // SAFETY: by the caller.
        Ok(match unsafe { &given(slot, "slot")?.0 } {
            Claimed::Single(slot) => slot.index().into(),
            Claimed::Shared(slot) => slot.index().into(),
        })
    })
}

/// Where a counter, gauge or max counts in this slot. The address is good until the slot is
/// released, in the process that has claimed it.
///
/// # Safety
/// `slot` is NULL or a claimed slot, and the name ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slot_word(
    slot: *const RaindropsSlot,
    name: *const c_char,
    field_kind: u32,
) -> *mut u64 {
    guarded(ptr::null_mut(), || {
        if field_kind == RAINDROPS_HISTOGRAM {
            return Err(Failure::ManyWords);
        }
        // SAFETY: by the caller.
        Ok(unsafe { words(slot, name, field_kind)? }.0)
    })
}

/// Where a histogram counts in this slot, as `raindrops_slot_word`.
///
/// # Safety
/// `slot` is NULL or a claimed slot, the name ends with NUL, and `histogram` is NULL or has room for
/// one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raindrops_slot_histogram(
    slot: *const RaindropsSlot,
    name: *const c_char,
    histogram: *mut RaindropsHistogram,
) -> c_int {
    guarded(-1, || {
        // SAFETY: by the caller.
        let histogram = unsafe { histogram.as_mut() }.ok_or(Failure::Null("histogram"))?;
        // SAFETY: by the caller.
        let (words, count) = unsafe { words(slot, name, RAINDROPS_HISTOGRAM)? };
        let buckets = count - 1;
        *histogram = RaindropsHistogram { words, buckets };
        Ok(0)
    })
}

fn handed_over(slab: Slab) -> *mut RaindropsSlab {
    let fields = declared(slab.layout());
    Box::into_raw(Box::new(RaindropsSlab { slab, fields }))
}

/// # Safety
/// `slot` is NULL or a claimed slot, and the name ends with NUL.
unsafe fn words(
    slot: *const RaindropsSlot,
    name: *const c_char,
    field_kind: u32,
) -> Result<(*mut u64, u32), Failure> {
    // SAFETY: by the caller.
    let slot = unsafe { given(slot, "slot")? };
    // SAFETY: by the caller.
    let (name, kind) = (unsafe { text(name, "name")? }, kind(field_kind)?);
    let (first, count) = match &slot.0 {
        Claimed::Single(slot) => slot.address(name, kind)?,
        Claimed::Shared(slot) => slot.address(name, kind)?,
    };
    Ok((first.cast_mut().cast(), count))
}

/// # Safety
/// What is pointed to is NULL or there, for as long as it is used.
unsafe fn given<'a, T>(pointer: *const T, what: &'static str) -> Result<&'a T, Failure> {
    // SAFETY: by the caller.
    unsafe { pointer.as_ref() }.ok_or(Failure::Null(what))
}

/// # Safety
/// It is NULL, or ends with NUL and is there for as long as it is used.
unsafe fn text<'a>(pointer: *const c_char, what: &'static str) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(Failure::Null(what));
    }
    // SAFETY: by the caller.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| Failure::NotText(what))
}

/// # Safety
/// As `text`.
unsafe fn to_path<'a>(pointer: *const c_char) -> Result<&'a Path, Failure> {
    if pointer.is_null() {
        return Err(Failure::Null("path"));
    }
    // SAFETY: by the caller.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    Ok(Path::new(OsStr::from_bytes(bytes)))
}
