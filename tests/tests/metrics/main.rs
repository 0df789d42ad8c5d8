//! What Prometheus gets: a real one scrapes, records and alerts, and its own tool reads the text.

mod alerts;
mod contrib;
mod counters;
mod crowd;
mod hosts;
mod tcp;
mod textfile;

use std::net::SocketAddr;

/// Fixed, because each test has a network namespace of its own.
const PORT: u16 = 9911;
const LISTEN: [&str; 2] = ["--listen-tcp", "127.0.0.1:9911"];

fn daemon() -> SocketAddr {
    ([127, 0, 0, 1], PORT).into()
}
