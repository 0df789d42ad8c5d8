//! The ABI that the BPF programs and user space share.
//!
//! Rules: every type is `repr(C)`, of fixed-width integers, without padding, and its size is
//! asserted at compile time. Times are nanoseconds of `CLOCK_MONOTONIC`, except process start
//! times, which are `CLOCK_BOOTTIME`. Nothing here knows aya, allocates, or does I/O, so the
//! pure parts are tested on the host.
#![no_std]

pub mod connection;
pub mod counters;
pub mod globals;
pub mod histogram;
pub mod listener;
pub mod miss;
pub mod names;
pub mod overlooked;
pub mod peak;
pub mod turns;
