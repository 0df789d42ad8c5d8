//! The figures of nginx's `stub_status`.
//!
//! `ngx_event_module_init` lays them out in lines of 128 bytes, one word in each: the lock of
//! accepting, how many connections there have been, a number for temporary files; then, only where
//! nginx is built with `stub_status`, what that tells. The address of a page is never configured, so
//! they are counted whether or not any location shows them.

use raindrops_slab::{Kind as FieldKind, read::Value};

use super::level;
use crate::snapshot::slabs::SlabField;

const LINE: usize = 128;
const LINES: usize = 10;
/// Of the lock: those who wait for it.
const WAITING_FOR_LOCK: usize = 8;

const FIELDS: [(&str, FieldKind); 7] = [
    ("accepts", FieldKind::Counter),
    ("handled", FieldKind::Counter),
    ("requests", FieldKind::Counter),
    ("active", FieldKind::Gauge),
    ("reading", FieldKind::Gauge),
    ("writing", FieldKind::Gauge),
    ("waiting", FieldKind::Gauge),
];

/// The greatest plausible number of connections, of pids and of those who wait for a lock.
const MOST: u64 = 1 << 32;
/// Connections that may come between copying one figure and the next.
const MEANWHILE: u64 = 1024;

pub(super) struct Figures {
    connections: u64,
    values: [u64; FIELDS.len()],
}

/// `None` when anything lies where nginx has nothing.
pub(super) fn figures(bytes: &[u8]) -> Option<Figures> {
    let (lines, rest) = bytes.split_at_checked(LINE * LINES)?;
    let word = |at: usize| {
        let word = lines.get(at..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*word))
    };
    let is_empty = |(at, byte): (usize, &u8)| {
        let within = at % LINE;
        let is_waiting = (WAITING_FOR_LOCK..WAITING_FOR_LOCK + 8).contains(&at);
        within < 8 || is_waiting || *byte == 0
    };
    let is_only_that = lines.iter().enumerate().all(is_empty)
        && rest.iter().all(|byte| *byte == 0)
        && word(0)? < MOST
        && word(WAITING_FOR_LOCK)? < MOST;
    let mut values = [0; FIELDS.len()];
    for (line, value) in (3..).zip(&mut values) {
        *value = word(line * LINE)?;
    }
    is_only_that.then_some(Figures {
        connections: word(LINE)?,
        values,
    })
}

impl Figures {
    /// Whether nginx is built to count, and what it counted fits together. Connections are counted
    /// from 1, those to upstreams too.
    pub fn are_counted(&self) -> bool {
        let [accepts, handled, _, gauges @ ..] = self.values;
        accepts > 0
            && handled <= accepts
            && handled < self.connections.saturating_add(MEANWHILE)
            && self.connections > 1
            && gauges.iter().all(|gauge| *gauge < MOST)
    }

    pub fn as_fields(&self) -> (Vec<SlabField>, Vec<Option<Value>>) {
        let fields = FIELDS.iter().map(|(name, kind)| SlabField {
            name: (*name).to_owned(),
            kind: *kind,
            unit: None,
        });
        let totals = FIELDS.iter().zip(self.values).map(|((_, kind), value)| {
            Some(match kind {
                FieldKind::Counter => Value::Counter(value),
                _ => level(value),
            })
        });
        (fields.collect(), totals.collect())
    }
}
