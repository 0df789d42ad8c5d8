//! Counting in a slab, in a slot of this process's own.

use std::{path::PathBuf, thread, time::Instant};

use anyhow::{Result, ensure};
use raindrops_slab::{Counter, Slab, Writing};

use super::{obey, say};

#[derive(Debug, clap::Args)]
pub struct Count {
    /// A slab with a counter called requests
    slab: PathBuf,
    #[arg(long)]
    shared: bool,
    /// That count in the slot, if it is shared
    #[arg(long, default_value_t = 1)]
    threads: u32,
}

impl Count {
    /// Each line is a number of increments by each thread; the answer is what one of them took, in
    /// nanoseconds.
    pub fn run(&self) -> Result<()> {
        ensure!(self.shared || self.threads == 1, "one thread counts alone");
        let slab = Slab::open(&self.slab)?;
        if self.shared {
            let requests = slab.claim_shared()?.counter("requests")?;
            say("READY")?;
            obey(|increments| {
                let began = Instant::now();
                thread::scope(|scope| {
                    for _ in 1..self.threads {
                        scope.spawn(|| count(&requests, increments));
                    }
                    count(&requests, increments);
                });
                Ok(each(began, increments))
            })
        } else {
            let requests = slab.claim()?.counter("requests")?;
            say("READY")?;
            obey(|increments| {
                let began = Instant::now();
                count(&requests, increments);
                Ok(each(began, increments))
            })
        }
    }
}

#[inline(never)]
fn count<W: Writing>(counter: &Counter<W>, increments: u32) {
    for _ in 0..increments {
        counter.add(1);
    }
}

fn each(began: Instant, increments: u32) -> String {
    let nanoseconds = began.elapsed().as_nanos() as f64;
    (nanoseconds / f64::from(increments)).to_string()
}
