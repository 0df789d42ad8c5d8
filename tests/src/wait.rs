//! Waiting for an event, with a ceiling that only a broken program reaches.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};

pub const CEILING: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// How much slower than usual this machine is: an emulated processor is not broken.
fn factor() -> u32 {
    let factor = env::var("RAINDROPS_CEILING_FACTOR");
    factor.ok().and_then(|it| it.parse().ok()).unwrap_or(1)
}

/// How long an event may take on this machine.
#[must_use]
pub fn ceiling() -> Duration {
    CEILING * factor()
}

/// Polls until `event` gives a value.
pub fn until<T>(what: &str, event: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    within(ceiling(), what, event)
}

/// The same of what takes long by design.
pub fn within<T>(
    ceiling: Duration,
    what: &str,
    mut event: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + ceiling;
    loop {
        if let Some(value) = event()? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("still waiting after {ceiling:?}: {what}");
        }
        thread::sleep(POLL);
    }
}

/// `CLOCK_MONOTONIC`, the clock of a view's `monotonic_ns`.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The earliest time that is `age_ms` whole milliseconds before `now_ns`.
#[must_use]
pub fn before_ns(now_ns: u64, age_ms: u64) -> u64 {
    now_ns.saturating_sub((age_ms + 1) * 1_000_000)
}

/// Something happened, or was read, between two readings of [`monotonic_ns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    pub after_ns: u64,
    pub before_ns: u64,
}

impl Between {
    /// Exactly then.
    #[must_use]
    pub const fn at(ns: u64) -> Self {
        Self {
            after_ns: ns,
            before_ns: ns,
        }
    }

    /// What has happened since an earlier reading.
    #[must_use]
    pub fn since(after_ns: u64) -> Self {
        Self {
            after_ns,
            before_ns: monotonic_ns(),
        }
    }

    /// Checks an age that was read in this time, in whole microseconds, of an event.
    pub fn has_age_us(self, what: &str, age_us: Option<u64>, event: Self) -> Result<()> {
        let age = age_us.with_context(|| format!("no age of {what}"))?;
        let least = self.after_ns.saturating_sub(event.before_ns) / 1000;
        let most = (self.before_ns - event.after_ns) / 1000;
        ensure!(
            (least..=most).contains(&age),
            "{what} is {age} us old, not {least} to {most}"
        );
        Ok(())
    }
}
