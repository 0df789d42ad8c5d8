//! Counters that applications keep in shared memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One slab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slab {
    /// Device and inode of the memory: lives as long as it does.
    pub id: String,
    /// `raindrops`, `raindrops-rb`, `unicorn-tick`, `nginx-stub`, `rainbows-n`.
    pub kind: String,
    /// What it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A path, or `pid N`: the process that memory without a file is read from.
    pub r#where: String,
    /// The server whose processes have it mapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Of the processes that have to do with listeners, those that have it mapped.
    pub pids: Vec<u32>,
    pub fields: Vec<Field>,
    /// Totals of counters, gauges and maxima.
    pub counters: BTreeMap<String, Number>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub histograms: BTreeMap<String, Distribution>,
    /// What each worker counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerValues>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
    /// It does not say what it is, but was recognised.
    pub inferred: bool,
    pub age_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    /// `counter`, `gauge`, `max`, `histogram`.
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// A count, or a level that may be below zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    Count(u64),
    Level(i64),
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Level(level) => level.fmt(f),
        }
    }
}

impl Number {
    /// The sum, or the greater of two maxima.
    #[must_use]
    pub fn with(self, other: Self, is_max: bool) -> Self {
        match (self, other) {
            (Self::Count(a), Self::Count(b)) if is_max => Self::Count(a.max(b)),
            (Self::Count(a), Self::Count(b)) => Self::Count(a.wrapping_add(b)),
            (Self::Level(a), Self::Level(b)) => Self::Level(a.wrapping_add(b)),
            (Self::Count(a), Self::Level(b)) | (Self::Level(b), Self::Count(a)) => {
                Self::Level(b.wrapping_add_unsigned(a))
            }
        }
    }
}

/// How values are spread, in the field's own unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    pub count: u64,
    pub sum: u64,
    /// Middle of the bucket in which it lies, so within an eighth of it; absent where there is no
    /// value, or it is above the last bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<u64>,
    /// Greatest value of a bucket (`null`: above the last) and how many are in it; those without any
    /// are left out.
    pub buckets: Vec<(Option<u64>, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerValues {
    pub pid: u32,
    pub values: BTreeMap<String, Number>,
}

/// The slots of a slab that has such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    pub count: u32,
    /// That somebody says are his.
    pub claimed: u32,
    /// Those of them whose owner does not exist, or does not have the slab mapped. What these have
    /// counted is in the totals; their gauges are not.
    pub ownerless: u32,
    /// Those of which that cannot be told. While there are any, no gauge has a total.
    #[serde(default)]
    pub unknown: u32,
}
