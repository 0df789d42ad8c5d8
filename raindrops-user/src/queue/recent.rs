//! The last ten seconds of one queue, by the second. Bounded: old seconds are written over.

use crate::ids::Monotonic;

const SECONDS: usize = 10;

#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    slots: [Slot; SECONDS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    second: u64,
    queued: Option<u32>,
    overflows: u64,
}

impl Recent {
    pub(super) fn record_queued(&mut self, at: Monotonic, queued: u32) {
        let slot = self.slot(at);
        slot.queued = slot.queued.max(Some(queued));
    }

    pub(super) fn record_overflows(&mut self, at: Monotonic, overflows: u64) {
        self.slot(at).overflows += overflows;
    }

    /// Longest queue, where there was a sample.
    pub(super) fn peak(&self, now: Monotonic) -> Option<u32> {
        self.since(now).filter_map(|slot| slot.queued).max()
    }

    pub(super) fn overflows(&self, now: Monotonic) -> u64 {
        self.since(now).map(|slot| slot.overflows).sum()
    }

    fn slot(&mut self, at: Monotonic) -> &mut Slot {
        let second = at.0.as_secs();
        let slot = &mut self.slots[(second % SECONDS as u64) as usize];
        if slot.second != second {
            *slot = Slot {
                second,
                ..Slot::default()
            };
        }
        slot
    }

    fn since(&self, now: Monotonic) -> impl Iterator<Item = &Slot> {
        let now = now.0.as_secs();
        self.slots
            .iter()
            .filter(move |slot| slot.second <= now && now - slot.second < SECONDS as u64)
    }
}
