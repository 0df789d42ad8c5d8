//! Where figures come from. Each source returns a snapshot; they meet as data in
//! [`crate::view::merge`], not behind a trait.

pub mod bpf;
pub mod diag;
pub mod netns;
pub mod proc;
pub mod puma;
mod replaceable;
pub mod slab;
mod watch;
