//! Every interleaving of claims, releases, takeovers and readings, by a model checker.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use loom::{
    model::Builder,
    sync::atomic::{AtomicBool, AtomicU64, Ordering, fence},
    thread,
};
use raindrops_slab::{
    Field, Layout, Reading, Schema, Unit,
    claim::{CONTROL, Claim, Occupant, Owner, STARTED, Words, claim, release},
    layout::Origin,
    read::Value,
};

/// The words of a slab that anybody uses: the model follows each. Others are always zero.
struct Modelled(BTreeMap<usize, AtomicU64>);

impl Modelled {
    fn new(layout: &Layout) -> Self {
        let words_of = |slot| {
            let owner = [CONTROL, STARTED].map(|at| layout.owner(slot) + at);
            let values = layout.fields().iter().flat_map(move |placed| {
                let places = [Some(placed.offset), placed.base];
                let places = places.into_iter().flatten();
                places.map(move |at| layout.slot(slot) + at as usize)
            });
            owner.into_iter().chain(values)
        };
        let words = (0..layout.slot_count()).flat_map(words_of);
        Self(words.map(|at| (at, AtomicU64::new(0))).collect())
    }

    fn word(&self, at: usize) -> Option<&AtomicU64> {
        self.0.get(&at)
    }
}

impl Words for Modelled {
    fn load(&self, at: usize, order: Ordering) -> u64 {
        self.word(at).map_or(0, |word| word.load(order))
    }

    fn store(&self, at: usize, value: u64, order: Ordering) {
        if let Some(word) = self.word(at) {
            word.store(value, order);
        }
    }

    fn compare_exchange(&self, at: usize, from: u64, to: u64) -> Result<u64, u64> {
        let word = self.word(at).expect("a control word");
        word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
    }

    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

const COUNTER: usize = 0;
const GAUGE: usize = 8;
const MAX: usize = 16;

struct Slab {
    layout: Layout,
    words: Modelled,
}

impl Slab {
    fn new(slots: u32) -> Arc<Self> {
        Self::of(slots, &["requests", "calling"])
    }

    /// With as many of these fields as are named.
    fn of(slots: u32, fields: &[&str]) -> Arc<Self> {
        let fields = fields.iter().map(|field| match *field {
            "calling" => Field::gauge(field, Unit::NONE),
            "longest" => Field::max(field, Unit::NONE),
            _ => Field::counter(field, Unit::NONE),
        });
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
        let me = named(pid);
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

    /// As mapped memory is read.
    fn reading(&self) -> Reading {
        let mut reading = Reading::default();
        let Ok(()) = reading.take(&self.layout, |from, to| {
            for (at, word) in (from..).step_by(8).zip(to.chunks_exact_mut(8)) {
                word.copy_from_slice(&self.words.load(at, Ordering::Acquire).to_ne_bytes());
            }
            Ok::<(), Infallible>(())
        });
        reading
    }

    /// The owner of the only slot, where that is known, and what it has.
    fn look(&self) -> Option<(Owner, Vec<Value>)> {
        let reading = self.reading();
        let slot = reading.slots(&self.layout).next().expect("one slot");
        let fields = self.layout.fields().iter();
        Some((slot.owner()?, fields.map(|it| slot.own(it)).collect()))
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

/// A process of the model.
const fn named(pid: u32) -> Owner {
    Owner {
        pid,
        started: pid as u64 * 10,
    }
}

/// Explores what happens with at most so many preemptions.
fn bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
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
        let totals = slab.reading().totals(&slab.layout, |_| true);
        assert_eq!(totals.counter("requests"), Some(counted));
        assert_eq!(totals.gauge("calling"), Some(0));
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

/// Check that a reader never takes one owner's figures for another's, and that nothing that is kept
/// is ever missing from a total.
#[test]
fn a_reader_meets_a_takeover() {
    bounded(3, || {
        let slab = Slab::new(1);
        let victim = slab.claim(2, nobody_is_dead).expect("it is the first");
        slab.add(victim, COUNTER, 5);
        slab.add(victim, GAUGE, 7);
        let heir = {
            let slab = Arc::clone(&slab);
            thread::spawn(move || {
                let is_dead = |occupant| occupant == Occupant::Owner(named(2));
                let claim = slab.claim(3, is_dead).expect("its owner is dead");
                slab.add(claim, GAUGE, 1);
                slab.add(claim, COUNTER, 1);
            })
        };
        check(&slab);
        heir.join().expect("no panic");
        let after = (named(3), vec![Value::Counter(1), Value::Gauge(1)]);
        assert_eq!(slab.look(), Some(after));
    });
}

/// The same where the slot is given back, to another and to one that claims it again.
#[test]
fn a_reader_meets_a_release_and_a_claim() {
    for heir in [3, 2] {
        bounded(3, move || release_and_claim(heir));
    }
}

fn release_and_claim(heir: u32) {
    let slab = Slab::new(1);
    let first = slab.claim(2, nobody_is_dead).expect("it is the first");
    slab.add(first, COUNTER, 5);
    slab.add(first, GAUGE, 7);
    let heir = {
        let slab = Arc::clone(&slab);
        thread::spawn(move || {
            slab.release(first);
            let claim = slab.claim(heir, nobody_is_dead).expect("it is nobody's");
            slab.add(claim, GAUGE, 1);
            slab.add(claim, COUNTER, 1);
        })
    };
    check(&slab);
    heir.join().expect("no panic");
}

/// Of a slot in which 2 has counted 5 and holds 7, and that 3 or 2 again takes, counts one and
/// holds one.
fn check(slab: &Slab) {
    let reading = slab.reading();
    let totals = reading.totals(&slab.layout, |_| true);
    let requests = totals.counter("requests");
    assert!(matches!(requests, Some(5 | 6)), "{requests:?}");
    let slot = reading.slots(&slab.layout).next().expect("one slot");
    let own: Vec<_> = slab.layout.fields().iter().map(|it| slot.own(it)).collect();
    match (slot.owner(), own.as_slice()) {
        (Some(owner), [Value::Counter(5), Value::Gauge(7)]) if owner == named(2) => {}
        (Some(_), [Value::Counter(0 | 1), Value::Gauge(0 | 1)]) => {}
        (None, _) => {}
        other => panic!("{other:?}"),
    }
}

/// Check that a max that is put aside is in the total at every moment.
#[test]
fn a_reader_meets_a_max_that_is_put_aside() {
    bounded(3, || {
        let slab = Slab::of(1, &["requests", "calling", "longest"]);
        let victim = slab.claim(2, nobody_is_dead).expect("it is the first");
        let at = slab.layout.slot(victim.slot) + MAX;
        slab.words.store(at, 9, Ordering::Relaxed);
        slab.release(victim);
        let heir = {
            let slab = Arc::clone(&slab);
            thread::spawn(move || {
                slab.claim(3, nobody_is_dead).expect("it is nobody's");
                slab.words.store(at, 4, Ordering::Relaxed);
            })
        };
        let reading = slab.reading();
        let totals = reading.totals(&slab.layout, |_| true);
        assert_eq!(totals.max("longest"), Some(9));
        heir.join().expect("no panic");
    });
}

/// Check that a count of an owner that has given its slot back is in its heir's base.
#[test]
fn an_heir_knows_all_that_was_counted_before() {
    bounded(3, || {
        let slab = Slab::new(1);
        let first = slab.claim(2, nobody_is_dead).expect("it is the first");
        let leaver = {
            let slab = Arc::clone(&slab);
            thread::spawn(move || {
                slab.add(first, COUNTER, 5);
                slab.release(first);
            })
        };
        if let Some(claim) = slab.claim(3, nobody_is_dead) {
            assert_eq!(slab.own(claim), 0);
            slab.add(claim, COUNTER, 1);
            assert_eq!(slab.own(claim), 1);
            assert_eq!(slab.sum(COUNTER), 6);
        }
        leaver.join().expect("no panic");
    });
}
