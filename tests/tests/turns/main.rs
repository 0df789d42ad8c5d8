//! Turns: what workers do with their connections, as the servers' and the clients' own counts say it.

mod agreement;
mod config;
mod counts;
mod older;
mod oldest;
mod pool;
mod quiet;
mod reads;
mod tls;
mod unix;
