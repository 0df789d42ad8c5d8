//! A slab in plain memory of this process: no system call, so that Miri can run it.

use std::sync::atomic::{AtomicU64, Ordering};

use raindrops_slab::{
    Layout, Schema,
    claim::{Claim, Occupant, Owner, Words, claim, release},
    layout::{Origin, STATE_OFFSET, State},
};

pub struct Memory {
    pub layout: Layout,
    words: Vec<AtomicU64>,
}

impl Words for Memory {
    fn load(&self, at: usize, order: Ordering) -> u64 {
        self.words[at / 8].load(order)
    }

    fn store(&self, at: usize, value: u64, order: Ordering) {
        self.words[at / 8].store(value, order);
    }

    fn compare_exchange(&self, at: usize, from: u64, to: u64) -> Result<u64, u64> {
        self.words[at / 8].compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
    }
}

impl Memory {
    pub fn new(schema: &Schema) -> Self {
        let origin = Origin {
            pid: 4700,
            pid_namespace: 4_026_531_836,
            started: 80_150,
            created: 1_790_000_000_123_456_789,
            boot_id: 0x6ba7_b810_9dad_41d1_80b4_00c0_4fd4_30c8_u128.to_be_bytes(),
        };
        let layout = Layout::new(schema, origin).expect("not too long");
        let mut bytes = layout.encode();
        bytes.resize(layout.total(), 0);
        bytes[STATE_OFFSET..STATE_OFFSET + 4].copy_from_slice(&(State::Ready as u32).to_ne_bytes());
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
        let words = bytes.chunks_exact(8).map(|it| AtomicU64::new(word(it)));
        let words = words.collect();
        Self { layout, words }
    }

    pub fn claim(&self, me: Owner, flags: u64, is_dead: impl Fn(Occupant) -> bool) -> Claim {
        claim(self, &self.layout, me, flags, is_dead).expect("a slot")
    }

    pub fn release(&self, claim: Claim) {
        release(self, &self.layout, claim);
    }

    /// Adds to a word of a field, as the only writer of the slot.
    pub fn add(&self, claim: Claim, field: &str, word: usize, amount: u64) {
        let placed = self.layout.field(field).expect("a field");
        let at = self.layout.slot(claim.slot) + placed.offset as usize + word * 8;
        let sum = self.load(at, Ordering::Relaxed) + amount;
        self.store(at, sum, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> Vec<u8> {
        let word = |word: &AtomicU64| word.load(Ordering::Acquire).to_ne_bytes();
        self.words.iter().flat_map(word).collect()
    }
}
