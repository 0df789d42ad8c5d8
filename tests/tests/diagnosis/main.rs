//! Verdicts on real servers: each trouble is found, named rightly, and gone when it is over; what is
//! healthy is never called trouble.

mod balance;
mod clients;
mod healthy;
mod processes;
mod queues;
mod stuck;
