//! Every interleaving of claims, releases and takeovers, by a model checker.

use std::sync::Arc;

use loom::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};
use raindrops_slab::{
    Field, Layout, Schema, Unit,
    claim::{Claim, Occupant, Owner, Words, claim, release},
    layout::Origin,
};

/// Of a slab without its static part, which does not change.
struct Modelled {
    from: usize,
    words: Vec<AtomicU64>,
}

impl Modelled {
    fn new(layout: &Layout) -> Self {
        let words = (layout.total() - layout.owners()) / 8;
        // The model follows each word; those that nobody uses are left out of the layout's end.
        Self {
            from: layout.owners(),
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words[(at - self.from) / 8]
    }
}

impl Words for Modelled {
    fn load(&self, at: usize, order: Ordering) -> u64 {
        self.word(at).load(order)
    }

    fn store(&self, at: usize, value: u64, order: Ordering) {
        self.word(at).store(value, order);
    }

    fn compare_exchange(&self, at: usize, from: u64, to: u64) -> Result<u64, u64> {
        self.word(at)
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
    }
}

const COUNTER: usize = 0;
const GAUGE: usize = 8;

struct Slab {
    layout: Layout,
    words: Modelled,
}

impl Slab {
    fn new(slots: u32) -> Arc<Self> {
        let fields = [
            Field::counter("requests", Unit::NONE),
            Field::gauge("calling", Unit::NONE),
        ];
        let schema = Schema::new("model", slots, fields).expect("a schema");
        let origin = Origin {
            pid: 1,
            pid_namespace: 1,
            started: 1,
            created: 1,
            boot_id: [0; 16],
        };
        let layout = Layout::new(&schema, origin).expect("a layout");
        let words = Modelled::new(&layout);
        Arc::new(Self { layout, words })
    }

    fn claim(&self, pid: u32, is_dead: impl Fn(Occupant) -> bool) -> Option<Claim> {
        let me = Owner { pid, started: 7 };
        claim(&self.words, &self.layout, me, 0, is_dead)
    }

    fn release(&self, claim: Claim) {
        release(&self.words, &self.layout, claim);
    }

    /// As the only writer of a slot does.
    fn add(&self, claim: Claim, field: usize, amount: u64) {
        let at = self.layout.slot(claim.slot) + field;
        let sum = self.words.load(at, Ordering::Relaxed).wrapping_add(amount);
        self.words.store(at, sum, Ordering::Relaxed);
    }

    fn sum(&self, field: usize) -> u64 {
        let slots = 0..self.layout.slot_count();
        slots
            .map(|slot| {
                self.words
                    .load(self.layout.slot(slot) + field, Ordering::Relaxed)
            })
            .sum()
    }

    /// What a slot's owner has counted.
    fn own(&self, claim: Claim) -> u64 {
        let placed = &self.layout.fields()[0];
        let base = placed.base.expect("counters have one") as usize;
        let slot = self.layout.slot(claim.slot);
        let value = self.words.load(slot + COUNTER, Ordering::Relaxed);
        value - self.words.load(slot + base, Ordering::Relaxed)
    }
}

const fn nobody_is_dead(_: Occupant) -> bool {
    false
}

#[test]
fn no_two_living_have_one_slot() {
    loom::model(|| {
        let slab = Slab::new(1);
        let claims: Vec<_> = [2, 3]
            .map(|pid| {
                let slab = Arc::clone(&slab);
                thread::spawn(move || slab.claim(pid, nobody_is_dead))
            })
            .into_iter()
            .filter_map(|it| it.join().expect("no panic"))
            .collect();
        assert_eq!(claims.len(), 1);
    });
}

#[test]
fn a_slot_that_is_given_back_keeps_its_counts_and_loses_its_gauge() {
    loom::model(|| {
        let slab = Slab::new(1);
        let workers = [2, 3].map(|pid| {
            let slab = Arc::clone(&slab);
            thread::spawn(move || {
                let Some(claim) = slab.claim(pid, nobody_is_dead) else {
                    return 0;
                };
                slab.add(claim, GAUGE, 1);
                slab.add(claim, COUNTER, 1);
                assert_eq!(slab.own(claim), 1);
                slab.release(claim);
                1
            })
        });
        let counted: u64 = workers.map(|it| it.join().expect("no panic")).iter().sum();
        assert!(counted >= 1);
        assert_eq!(slab.sum(COUNTER), counted);
        assert_eq!(slab.sum(GAUGE), 0);
    });
}

#[test]
fn two_that_find_a_dead_owner_do_not_both_take_its_slot() {
    loom::model(|| {
        let slab = Slab::new(1);
        let died = Arc::new(AtomicBool::new(false));
        let victim = {
            let (slab, died) = (Arc::clone(&slab), Arc::clone(&died));
            thread::spawn(move || {
                let claim = slab.claim(2, nobody_is_dead).expect("it is the first");
                slab.add(claim, COUNTER, 5);
                slab.add(claim, GAUGE, 1);
                died.store(true, Ordering::Release);
            })
        };
        victim.join().expect("no panic");
        let heirs = [3, 4].map(|pid| {
            let (slab, died) = (Arc::clone(&slab), Arc::clone(&died));
            thread::spawn(move || {
                let is_dead = |occupant| match occupant {
                    Occupant::Owner(owner) => owner.pid == 2 && died.load(Ordering::Acquire),
                    _ => false,
                };
                let claim = slab.claim(pid, is_dead)?;
                assert_eq!(slab.own(claim), 0);
                slab.add(claim, COUNTER, 1);
                assert_eq!(slab.own(claim), 1);
                Some(claim)
            })
        });
        let taken = heirs.map(|it| it.join().expect("no panic"));
        assert_eq!(taken.iter().flatten().count(), 1);
        assert_eq!(slab.sum(COUNTER), 6);
        assert_eq!(slab.sum(GAUGE), 0);
    });
}

#[test]
fn who_dies_while_preparing_a_slot_loses_nothing() {
    loom::model(|| {
        let slab = Slab::new(1);
        let first = slab.claim(2, nobody_is_dead).expect("it is the first");
        slab.add(first, COUNTER, 5);
        slab.release(first);
        // As after the first step of a claim.
        let at = slab.layout.owner(0);
        let found = slab.words.load(at, Ordering::Relaxed);
        let half = raindrops_slab::claim::Control::new(3, (found >> 32) as u32 + 1);
        slab.words.store(at, half.0, Ordering::Relaxed);
        let heir = {
            let slab = Arc::clone(&slab);
            thread::spawn(move || {
                let is_dead = |occupant| occupant == Occupant::Preparing(3);
                let claim = slab.claim(4, is_dead).expect("its occupant is dead");
                slab.add(claim, COUNTER, 1);
                assert_eq!(slab.own(claim), 1);
            })
        };
        // A reader never sees a total that was not counted.
        let seen = slab.sum(COUNTER);
        assert!((5..=6).contains(&seen), "{seen}");
        heir.join().expect("no panic");
        assert_eq!(slab.sum(COUNTER), 6);
    });
}
