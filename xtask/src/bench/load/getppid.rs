//! getppid, which no program is attached to.

use std::time::Instant;

use anyhow::Result;

use super::{obey, say};

/// Each line is a number of calls; the answer is what one of them took, in nanoseconds.
pub fn run() -> Result<()> {
    say("READY")?;
    obey(|calls| {
        let began = Instant::now();
        for _ in 0..calls {
            // SAFETY: getppid takes no arguments and cannot fail.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
        let nanoseconds = began.elapsed().as_nanos() as f64;
        Ok((nanoseconds / f64::from(calls)).to_string())
    })
}
