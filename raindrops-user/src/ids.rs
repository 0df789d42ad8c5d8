//! Newtypes for what would otherwise be bare integers: which process, which socket, when.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A process (thread group) id in our own pid namespace.
    Pid(u32)
);
number!(
    /// A thread's id in our own pid namespace; the first thread's is its process's.
    Tid(u32)
);
number!(
    /// A network namespace: the inode of its `/proc/PID/ns/net`.
    NetnsId(u32)
);
number!(
    /// A socket's inode in the socket file system, as in `socket:[N]`.
    Inode(u64)
);
number!(
    /// Start of a process or a thread in clock ticks since boot: field 22 of `/proc/PID/stat`.
    StartTicks(u64)
);

/// A socket's cookie: unique among all sockets since boot. A decimal string in JSON, because some
/// are near 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cookie(pub u64);

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point of `CLOCK_MONOTONIC`, the clock that BPF programs stamp events with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(pub Duration);

impl std::ops::Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

impl Monotonic {
    #[must_use]
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Self(Duration::new(
            now.tv_sec.unsigned_abs(),
            now.tv_nsec.unsigned_abs() as u32,
        ))
    }

    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }

    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0.as_nanos() as u64
    }

    /// Time since `earlier`; zero when that is in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
