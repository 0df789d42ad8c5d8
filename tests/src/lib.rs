//! What the end-to-end tests stand on: the daemon, real servers, load, and a network namespace
//! for each test, so that tests with fixed ports run side by side.

pub mod ab;
pub mod ability;
pub mod client;
pub mod daemon;
pub mod description;
pub mod doctor;
pub mod http;
pub mod io_uring;
pub mod kernel;
pub mod life;
pub mod listening;
pub mod load;
pub mod lookup;
pub mod maps;
pub mod netlink;
pub mod netns;
pub mod other_user;
pub mod processes;
pub mod prometheus;
pub mod pty;
pub mod puppet;
pub mod row;
pub mod same_address;
pub mod servers;
pub mod shown_slabs;
pub mod skip;
pub mod slab;
pub mod sockets;
pub mod tls;
pub mod turns;
pub mod wait;
