//! What depends on the host: how far apart counters are, and which memory may be what.

use super::{Found, clients, found::is_anonymous};
use crate::view::servers::Kind;

/// What this host gives to all who count.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Bytes between two counters of the Ruby library raindrops.
    pub stride: usize,
    /// The same in programs of musl, whose `sysconf` knows no cache lines.
    pub musl_stride: usize,
    pub page: usize,
    pub ticks_per_second: u64,
}

/// What `Raindrops::SIZE` is, from the length of a cache line where that is known.
#[must_use]
pub fn stride(line: Option<usize>, has_one_processor: bool) -> usize {
    match line {
        _ if has_one_processor => size_of::<u64>(),
        Some(line) if line > 0 => line,
        _ => 128,
    }
}

impl Host {
    pub(super) fn stride_of(&self, found: &Found<'_>) -> usize {
        if found.holders.values().any(|it| it.maps.has_musl) {
            self.musl_stride
        } else {
            self.stride
        }
    }

    /// Anonymous, and of the size that hardly anybody needs more than.
    pub(super) fn is_page(&self, found: &Found<'_>) -> bool {
        is_anonymous(found.mapping) && found.bytes.len() == self.page
    }

    pub(super) fn may_be_ticks(&self, found: &Found<'_>) -> bool {
        self.is_page(found)
            && found.server.is_some()
            && found
                .holders
                .values()
                .all(|it| it.is(Kind::Unicorn) || it.is(Kind::Rainbows))
            && !clients::is_of_one_worker(found)
    }
}
