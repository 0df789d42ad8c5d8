//! How a slot changes hands: claimed by compare-and-swap, released, taken over from the dead.
//!
//! Apart from the memory that it works on ([`Words`]), so that a model checker can run it on its
//! own. Whether an owner is dead is for the caller to say.
//!
//! What a slot has counted is never moved. Its words go on from owner to owner, and who claims it
//! notes as their *base* what earlier owners have counted there. So the sum over all slots is the
//! total at every instant, an owner's own part is value less base, and there is no moment at which a
//! crash could lose a count or add it twice: noting a base again changes nothing.

use core::sync::atomic::{Ordering, fence};

use crate::{field::Kind, layout::Layout};

/// Words of 64 bits, at byte offsets from the beginning of a slab.
pub trait Words {
    fn load(&self, at: usize, order: Ordering) -> u64;
    fn store(&self, at: usize, value: u64, order: Ordering);
    /// `Err` with what is there instead.
    ///
    /// # Errors
    /// When `from` is not what is there.
    fn compare_exchange(&self, at: usize, from: u64, to: u64) -> Result<u64, u64>;
    /// Orders what was done before it and what is done after it.
    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

/// Offsets in an owner's entry.
pub const CONTROL: usize = 0;
pub const STARTED: usize = 8;
pub const FLAGS: usize = 16;

/// Flag: several threads count in this slot.
pub const SHARED: u64 = 1;

/// A process, as a slot names it. Pids are of the slab's pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub started: u64,
}

/// The word that says whose a slot is: a pid, 0 for nobody's, and a generation that is odd while
/// its owner prepares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control(pub u64);

impl Control {
    #[must_use]
    pub const fn new(pid: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | pid as u64)
    }

    #[must_use]
    pub const fn pid(self) -> u32 {
        self.0 as u32
    }

    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Claimed, and prepared.
    #[must_use]
    pub const fn is_live(self) -> bool {
        self.pid() != 0 && self.generation().is_multiple_of(2)
    }

    const fn claimed_by(self, pid: u32) -> Self {
        let next = self.generation().wrapping_add(1) | 1;
        Self::new(pid, next)
    }
}

/// Who is in a slot, as far as one look tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupant {
    Nobody,
    /// This pid prepares it, or died before it had.
    Preparing(u32),
    Owner(Owner),
}

/// A claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub slot: u32,
    pub control: Control,
}

/// Claims a slot: one that is nobody's, else one whose occupant `is_dead`. `None` when all are
/// taken.
pub fn claim(
    words: &impl Words,
    layout: &Layout,
    me: Owner,
    flags: u64,
    is_dead: impl Fn(Occupant) -> bool,
) -> Option<Claim> {
    let empty = (0..layout.slot_count()).find_map(|slot| {
        let found = Control(words.load(layout.owner(slot) + CONTROL, Ordering::Relaxed));
        (found.pid() == 0).then(|| take(words, layout, slot, found, me, flags))?
    });
    empty.or_else(|| {
        (0..layout.slot_count()).find_map(|slot| {
            let at = layout.owner(slot);
            let found = Control(words.load(at + CONTROL, Ordering::Acquire));
            let occupant = if found.pid() == 0 {
                Occupant::Nobody
            } else if found.is_live() {
                // Belongs to another owner if the slot has changed hands; then taking it fails.
                let started = words.load(at + STARTED, Ordering::Relaxed);
                let pid = found.pid();
                Occupant::Owner(Owner { pid, started })
            } else {
                Occupant::Preparing(found.pid())
            };
            (occupant == Occupant::Nobody || is_dead(occupant))
                .then(|| take(words, layout, slot, found, me, flags))?
        })
    })
}

fn take(
    words: &impl Words,
    layout: &Layout,
    slot: u32,
    found: Control,
    me: Owner,
    flags: u64,
) -> Option<Claim> {
    let at = layout.owner(slot);
    let preparing = found.claimed_by(me.pid);
    words
        .compare_exchange(at + CONTROL, found.0, preparing.0)
        .ok()?;
    // Who reads one of the words that are written from here on finds another owner's entry
    // afterwards.
    words.fence(Ordering::Release);
    words.store(at + STARTED, me.started, Ordering::Relaxed);
    words.store(at + FLAGS, flags, Ordering::Relaxed);
    let values = layout.slot(slot);
    for placed in layout.fields() {
        let value = values + placed.offset as usize;
        for word in 0..placed.field.words as usize {
            let value = value + word * 8;
            let base = placed.base.map(|base| values + base as usize + word * 8);
            settle(words, placed.field.kind, value, base);
        }
    }
    let control = Control::new(me.pid, preparing.generation().wrapping_add(1));
    words.store(at + CONTROL, control.0, Ordering::Release);
    Some(Claim { slot, control })
}

/// Puts what earlier owners have counted aside. May be done any number of times.
fn settle(words: &impl Words, kind: Kind, value: usize, base: Option<usize>) {
    let counted = words.load(value, Ordering::Relaxed);
    match (kind, base) {
        (Kind::Counter | Kind::Histogram, Some(base)) => {
            words.store(base, counted, Ordering::Relaxed);
        }
        (Kind::Max, Some(base)) => {
            let before = words.load(base, Ordering::Relaxed);
            words.store(base, before.max(counted), Ordering::Relaxed);
            // A crash in between leaves both, which says the same. Who sees the zero, or what is
            // raised from it, sees the base.
            words.fence(Ordering::Release);
            words.store(value, 0, Ordering::Relaxed);
        }
        (Kind::Gauge, _) | (_, None) => words.store(value, 0, Ordering::Relaxed),
    }
}

/// Gives a slot back. Counts stay; gauges are nobody's, and who claims the slot next clears them.
pub fn release(words: &impl Words, layout: &Layout, claim: Claim) {
    let free = Control::new(0, claim.control.generation());
    // Fails only where somebody took this process for dead.
    let _ = words.compare_exchange(layout.owner(claim.slot) + CONTROL, claim.control.0, free.0);
}
