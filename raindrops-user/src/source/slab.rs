//! Counters that applications keep in shared memory, read from outside.
//!
//! Two sorts: [`declared`] slabs say what they count, [`inferred`] ones are recognised by who has
//! them mapped and what is in them. Nothing is mapped here and nothing opened for writing: what
//! belongs to another process is copied.

pub mod declared;
pub mod inferred;
mod look;
mod maps;
mod remote;
mod thread;

pub use self::{
    look::Looker,
    maps::{Mapping, Maps},
    thread::SlabThread,
};
