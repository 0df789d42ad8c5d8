//! How many clients are connected to a worker of Rainbows!, counted by itself.
//!
//! Concurrency models with epoll, which need the library `sleepy_penguin`, make one counter in each
//! worker. A worker that has loaded its application after the fork may have counters of that too.

use super::{Copied, Family, Found, Words, gauge, level};
use crate::{
    snapshot::slabs::{Slab, SlabKind},
    view::servers::{Kind, Role},
};

pub(super) fn is_of_one_worker(found: &Found<'_>) -> bool {
    let mut holders = found.holders.values();
    let only = holders.next().filter(|_| found.holders.len() == 1);
    only.is_some_and(|it| it.is(Kind::Rainbows) && it.is_worker())
}

/// Of memory that one worker each has, what can be its count of clients: the only such memory of
/// its worker. None is, until all processes of the server are known to have their own memory only.
pub(super) fn candidates<'a, 'b>(
    family: &Family<'_>,
    private: &[&'b Found<'a>],
    counts_one_thing: impl Fn(&Found<'a>) -> bool,
) -> Vec<&'b Found<'a>> {
    let has_master = family
        .values()
        .any(|it| it.process.member.role == Role::Master);
    if !has_master || !family.values().all(|it| it.is_read) {
        return Vec::new();
    }
    let is_only = |found: &Found<'a>| {
        let holder = found.holders.keys().next();
        let same = private
            .iter()
            .filter(|it| it.holders.keys().next() == holder);
        same.count() == 1
    };
    private
        .iter()
        .copied()
        .filter(|it| {
            let has_epoll = it.holders.values().all(|it| it.maps.has_sleepy_penguin);
            has_epoll && is_only(it) && counts_one_thing(it)
        })
        .collect()
}

pub(super) fn slab(found: &Found<'_>, words: &Words, copied: Copied) -> Slab {
    let mut slab = found.slab(
        SlabKind::RainbowsN,
        vec![gauge("clients")],
        vec![None],
        copied,
    );
    let workers = found.holders.iter().map(|(pid, it)| {
        let clients = vec![Some(level(words.get(0)))];
        ((*pid, it.process.started), clients)
    });
    slab.workers = workers.collect();
    slab
}
