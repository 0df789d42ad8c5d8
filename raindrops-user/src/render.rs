//! A view as bytes: one file per format.
//!
//! Pure, from `&View` to a writer: renderers read no clock, no environment and no terminal. What
//! they need to know of those is in their arguments.

pub mod connections;
pub mod diagnosis;
pub mod json;
pub mod openmetrics;
pub(crate) mod table;
pub mod text;
pub mod units;
