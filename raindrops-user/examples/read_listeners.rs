//! Reads all listening TCP sockets whenever a line comes in, and answers how many there are and how
//! long it took, in nanoseconds.

use std::{
    error::Error,
    io::{BufRead as _, stdin},
    time::Instant,
};

use raindrops_user::source::diag::Diag;

fn main() -> Result<(), Box<dyn Error>> {
    let mut diag = Diag::open()?;
    println!("READY");
    for line in stdin().lock().lines() {
        line?;
        let began = Instant::now();
        let read = diag.tcp_listeners()?;
        let took = began.elapsed().as_nanos();
        println!("{} {took}", read.listeners.len());
    }
    Ok(())
}
