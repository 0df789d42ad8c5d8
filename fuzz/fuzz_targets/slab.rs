//! The bytes of a slab, which may come from anybody.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../raindrops-slab/tests/corpus/look.rs"]
mod look;

fuzz_target!(|input: &[u8]| {
    look::at(input);
});
