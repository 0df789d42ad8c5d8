//! What clients of raindrops for Ruby and of puma ask for, in the form that they understand.
//!
//! Apart from `render` because these forms are other projects', with their words, their rounding and
//! their gaps; docs/clients.md says where our figures differ from theirs and why. Everything here is
//! pure but for reading the file of tokens: views in, text out. The paths are in `server::compat`.

pub mod address;
pub mod aggregate;
pub mod last_data_recv;
pub mod middleware;
pub mod puma;
pub mod record;
pub mod rows;
pub mod tail;
pub mod tokens;
pub mod watcher;
