//! Functions that Ruby can call as methods of its own.
//!
//! A call through Fiddle takes many times as long as counting. A method whose body is a C function
//! does not, and `rb_define_method` takes the address of any. They rely on how CRuby hands over small
//! integers: doubled, and one more. Everything else has the last bit 0, and `false` is 0.

mod field;

/// What Ruby calls a value.
type Value = usize;

const FALSE: Value = 0;

/// A small integer.
const fn integer(value: Value) -> Option<isize> {
    if value & 1 == 1 {
        Some(value.cast_signed() >> 1)
    } else {
        None
    }
}

fn not_negative(value: Value) -> Option<u64> {
    integer(value).and_then(|it| u64::try_from(it).ok())
}
