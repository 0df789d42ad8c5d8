//! Slabs that do not say what they are, against what their owners say themselves.

mod calls;
mod clients;
mod counters;
mod nginx;
mod off;
mod ticks;

use std::collections::BTreeSet;

use raindrops_user::view::slabs::Slab;

/// The same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, count: u64) -> u64 {
        // Numerical Recipes.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }
}

/// Checks that a slab is told to be of exactly these processes, and told to be inferred.
fn is_of(slab: &Slab, server: &str, pids: impl IntoIterator<Item = u32>) {
    let pids: BTreeSet<u32> = pids.into_iter().collect();
    assert!(slab.inferred, "{slab:?}");
    assert_eq!(slab.server.as_deref(), Some(server), "{slab:?}");
    assert_eq!(slab.pids.iter().copied().collect::<BTreeSet<u32>>(), pids);
}
