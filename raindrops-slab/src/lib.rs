//! Counters in shared memory, one slot for each worker, readable from outside at any time.
//!
//! A process creates a [`Slab`] and declares its fields; each worker claims a slot and counts there
//! with one or two instructions; anybody who may read the memory sees every worker's figures,
//! without asking the workers. What a worker that died has counted is kept, and what it was in the
//! middle of is not: its slot names it by pid and start time.
//!
//! ```
//! use raindrops_slab::{Field, Schema, Slab, Unit};
//!
//! let schema = Schema::new("shop", 8, [
//!     Field::counter("requests", Unit::NONE),
//!     Field::gauge("calling", Unit::NONE),
//!     Field::histogram("answer", Unit::new("us")?, 60_000_000),
//! ])?;
//! let slab = Slab::in_memory(&schema)?;
//! // After the fork, in the worker:
//! let slot = slab.claim_shared()?;
//! let requests = slot.counter("requests")?;
//! let calling = slot.gauge("calling")?;
//! let held = calling.hold();
//! requests.add(1);
//! drop(held);
//! assert_eq!(slab.totals().counter("requests"), Some(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The bytes are described in `docs/slab-format.md`, exactly enough to write and read them from any
//! language. [`layout`] has that format and what is refused, [`claim`] the protocol by which slots
//! change hands, [`read`] what a copy of the bytes says. These need no operating system; feature
//! `std` adds files, sealed memory and the liveness of processes.

#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod claim;
pub mod field;
pub mod histogram;
pub mod layout;
#[cfg(feature = "std")]
mod mapping;
#[cfg(feature = "std")]
pub mod process;
pub mod read;
#[cfg(feature = "std")]
mod slab;
#[cfg(feature = "std")]
mod slot;

pub use self::{
    field::{Field, Invalid, Kind, Schema, Unit},
    layout::{Layout, Refused},
    read::{Reading, Totals},
};
#[cfg(feature = "std")]
pub use self::{
    slab::{Slab, SlabError},
    slot::{Counter, Gauge, Held, Histogram, Max, Shared, Single, Slot, Writing},
};
