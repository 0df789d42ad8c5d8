//! The fields of a slot as objects of Ruby, whose methods count.
//!
//! They need three functions of Ruby, which Ruby code hands over by [`raindrops_ruby_begin`], because
//! the library is not linked with Ruby. All may leave by an exception, past these frames, in which
//! nothing is to be dropped.

use std::{
    ffi::{c_char, c_int},
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{FALSE, Value, integer, not_negative};
use crate::counting::raindrops_words_record;

/// `rb_data_type_t`.
#[repr(C)]
struct DataType {
    name: *const c_char,
    mark: usize,
    free: unsafe extern "C" fn(*mut Cell),
    size: usize,
    compact: usize,
    reserved: usize,
    parent: usize,
    data: usize,
    flags: usize,
}

// SAFETY: it is constant.
unsafe impl Sync for DataType {}

/// `RUBY_TYPED_FREE_IMMEDIATELY`.
const AT_ONCE: usize = 1;

/// What these objects are to Ruby.
static FIELD: DataType = DataType {
    name: c"RaindropsSlab::Slot::Field".as_ptr(),
    mark: 0,
    free,
    size: 0,
    compact: 0,
    reserved: 0,
    parent: 0,
    data: 0,
    flags: AT_ONCE,
};

/// What such an object has of its own.
struct Cell {
    /// The first word of the field. NULL where the slot is not claimed in this process.
    word: *mut u64,
    buckets: u32,
}

/// # Safety
/// Called by Ruby, with what `raindrops_ruby_allocate` has made.
unsafe extern "C" fn free(cell: *mut Cell) {
    // SAFETY: by the caller.
    drop(unsafe { Box::from_raw(cell) });
}

type Check = unsafe extern "C-unwind" fn(Value, *const DataType) -> *mut Cell;
type Call = unsafe extern "C-unwind" fn(Value, Value, c_int, *const Value) -> Value;
type Wrap = unsafe extern "C-unwind" fn(Value, *mut Cell, *const DataType) -> Value;

struct Ruby {
    check: Check,
    call: Call,
    wrap: Wrap,
    /// The name of the method that is called where a field cannot count: with the number of what it
    /// was to do, and with the value.
    again: Value,
}

static RUBY: OnceLock<Ruby> = OnceLock::new();

/// Takes what these methods need of Ruby, once.
///
/// # Safety
/// They are `rb_check_typeddata`, `rb_funcallv`, `rb_data_typed_object_wrap`, and a name (an ID).
#[unsafe(no_mangle)]
unsafe extern "C" fn raindrops_ruby_begin(check: Check, call: Call, wrap: Wrap, again: Value) {
    RUBY.get_or_init(|| Ruby {
        check,
        call,
        wrap,
        again,
    });
}

/// Makes an object of a class.
///
/// # Safety
/// Called by Ruby, as the class's function for this, after `raindrops_ruby_begin`.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn raindrops_ruby_allocate(class: Value) -> Value {
    let Some(ruby) = RUBY.get() else {
        return FALSE;
    };
    let (word, buckets) = (ptr::null_mut(), 0);
    let cell = Box::into_raw(Box::new(Cell { word, buckets }));
    // SAFETY: Ruby owns the cell from here on.
    unsafe { (ruby.wrap)(class, cell, &raw const FIELD) }
}

/// Tells a field where it counts; 0 for nowhere.
///
/// # Safety
/// Called by Ruby as a method of such an object, with an address that `raindrops_slot_word` or
/// `raindrops_slot_histogram` has given for it, and how many buckets it has.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn raindrops_ruby_point(
    this: Value,
    address: Value,
    buckets: Value,
) -> Value {
    let numbers = integer(address).zip(integer(buckets).and_then(|it| u32::try_from(it).ok()));
    let Some((ruby, (address, buckets))) = RUBY.get().zip(numbers) else {
        return FALSE;
    };
    let word = address as *mut u64;
    // SAFETY: made with `FIELD`; else Ruby raises an exception. Ruby code runs one thread at a time.
    unsafe { (ruby.check)(this, &raw const FIELD).write(Cell { word, buckets }) };
    this
}

/// What a method is to do, as Ruby code numbers them.
#[derive(Clone, Copy)]
enum Doing {
    Add = 0,
    Subtract = 1,
    Set = 2,
    Raise = 3,
    Record = 4,
}

/// Counts, where `counted` does; else leaves it to Ruby code.
///
/// # Safety
/// Called by Ruby as a method of such an object.
#[inline(always)]
unsafe fn count(
    arguments: (c_int, *const Value),
    this: Value,
    doing: Doing,
    counted: impl FnOnce(&Cell, &AtomicU64, Value) -> bool,
) -> Value {
    const ONE: Value = 3;
    let Some(ruby) = RUBY.get() else {
        return FALSE;
    };
    let (count, values) = arguments;
    let value = match count {
        0 if matches!(doing, Doing::Add | Doing::Subtract) => ONE,
        // SAFETY: there is one, as Ruby says.
        1 => unsafe { *values },
        // Neither an integer nor anything else.
        _ => FALSE,
    };
    // SAFETY: made with `FIELD`; else Ruby raises an exception.
    let cell = unsafe { &*(ruby.check)(this, &raw const FIELD) };
    // SAFETY: NULL, or a word, which is accessed through atomics only.
    let word = unsafe { cell.word.cast::<AtomicU64>().as_ref() };
    if word.is_some_and(|word| counted(cell, word, value)) {
        return value;
    }
    let arguments = [(doing as Value) << 1 | 1, value];
    // SAFETY: a method of this object, which takes two arguments.
    unsafe { (ruby.call)(this, ruby.again, 2, arguments.as_ptr()) }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $doing:ident, $counted:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// Called by Ruby as a method of such an object.
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(
            count_of: c_int,
            values: *const Value,
            this: Value,
        ) -> Value {
            // SAFETY: by the caller.
            unsafe { count((count_of, values), this, Doing::$doing, $counted) }
        }
    )*};
}

methods! {
    /// Adds to a counter.
    raindrops_ruby_counter_incr = Add, |_, word, value| {
        not_negative(value).map(|by| word.fetch_add(by, Ordering::Relaxed)).is_some()
    };
    /// Adds to a gauge.
    raindrops_ruby_gauge_incr = Add, |_, word, value| {
        integer(value).map(|by| word.fetch_add(by as u64, Ordering::Relaxed)).is_some()
    };
    /// Takes from a gauge.
    raindrops_ruby_gauge_decr = Subtract, |_, word, value| {
        integer(value).map(|by| word.fetch_sub(by as u64, Ordering::Relaxed)).is_some()
    };
    /// Sets a gauge.
    raindrops_ruby_gauge_set = Set, |_, word, value| {
        integer(value).map(|level| word.store(level as u64, Ordering::Relaxed)).is_some()
    };
    /// Raises a max.
    raindrops_ruby_max_raise = Raise, |_, word, value| {
        not_negative(value).map(|to| word.fetch_max(to, Ordering::Relaxed)).is_some()
    };
    /// Records a value in a histogram.
    raindrops_ruby_histogram_record = Record, |cell, _, value| {
        let Some(number) = not_negative(value) else {
            return false;
        };
        record(cell, number);
        true
    };
}

fn record(cell: &Cell, value: u64) {
    // SAFETY: `raindrops_ruby_point` was given a histogram's address, and how many buckets it has.
    unsafe { raindrops_words_record(cell.word, cell.buckets, value) };
}
