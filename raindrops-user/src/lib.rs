//! raindrops: which listener is full, which worker is stuck, on a live host.
//!
//! Sources ([`source`]) fill snapshots ([`snapshot`]), [`view::merge`] makes one view of them,
//! [`server`] publishes it.

pub mod address;
pub mod causes;
pub mod closest;
pub mod compat;
pub mod config;
pub mod connections;
pub mod daemon;
pub mod diagnose;
pub mod drift;
pub mod escape;
pub mod fact;
pub mod history;
pub mod host;
pub mod ids;
pub mod logging;
pub mod plan;
pub mod processor_time;
pub mod publish;
pub mod queue;
pub mod reconcile;
pub mod render;
pub mod sampler;
pub mod select;
pub mod server;
mod settings_file;
pub mod snapshot;
pub mod source;
pub mod textfile;
pub mod top;
pub mod turns;
pub mod view;
