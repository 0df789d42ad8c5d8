//! Counting: handles to the fields of a claimed slot.
//!
//! A handle is an address. Whether it counts with a load and a store or with one atomic instruction
//! is decided by the claim, in its type: handles of a [`Single`] slot cannot leave their thread.

use alloc::sync::Arc;
use core::{
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    claim::{self, Claim, Owner},
    field::Kind,
    histogram::bucket_of,
    layout::{Layout, Placed},
    mapping::Mapping,
    process,
    slab::SlabError,
};

/// How many threads count in a slot.
pub trait Writing: sealed::Writing {}

/// One thread, which claimed it.
#[derive(Debug)]
pub struct Single(PhantomData<*const ()>);

/// Any thread of the process.
#[derive(Debug)]
pub struct Shared(());

impl Writing for Single {}
impl Writing for Shared {}

mod sealed {
    use core::sync::atomic::AtomicU64;

    pub trait Writing {
        fn add(word: &AtomicU64, amount: u64);
        fn raise(word: &AtomicU64, value: u64);
    }
}

impl sealed::Writing for Single {
    #[inline(always)]
    fn add(word: &AtomicU64, amount: u64) {
        let sum = word.load(Ordering::Relaxed).wrapping_add(amount);
        word.store(sum, Ordering::Relaxed);
    }

    #[inline(always)]
    fn raise(word: &AtomicU64, value: u64) {
        if value > word.load(Ordering::Relaxed) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

impl sealed::Writing for Shared {
    #[inline(always)]
    fn add(word: &AtomicU64, amount: u64) {
        word.fetch_add(amount, Ordering::Relaxed);
    }

    #[inline(always)]
    fn raise(word: &AtomicU64, value: u64) {
        // Most values raise nothing.
        if value > word.load(Ordering::Relaxed) {
            word.fetch_max(value, Ordering::Relaxed);
        }
    }
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub mapping: Arc<Mapping>,
    pub layout: Arc<Layout>,
    pub claim: Claim,
    pub owner: Owner,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // A child of the owner has a copy of it, and no claim.
        if process::own_pid() == self.owner.pid {
            claim::release(&*self.mapping, &self.layout, self.claim);
        }
    }
}

/// A claimed slot. It is given back when it and all its handles are gone.
pub struct Slot<W> {
    claimed: Arc<Claimed>,
    writing: PhantomData<W>,
}

impl<W> fmt::Debug for Slot<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.claimed.fmt(f)
    }
}

impl<W: Writing> Slot<W> {
    pub(crate) fn new(claimed: Claimed) -> Self {
        Self {
            claimed: Arc::new(claimed),
            writing: PhantomData,
        }
    }

    /// Its number in the slab.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.claimed.claim.slot
    }

    /// # Errors
    /// When the slab has no counter of this name.
    pub fn counter(&self, name: &str) -> Result<Counter<W>, SlabError> {
        let (word, _) = self.words(name, Kind::Counter)?;
        Ok(Counter(word))
    }

    /// # Errors
    /// When the slab has no gauge of this name.
    pub fn gauge(&self, name: &str) -> Result<Gauge<W>, SlabError> {
        let (word, _) = self.words(name, Kind::Gauge)?;
        Ok(Gauge(word))
    }

    /// # Errors
    /// When the slab has no max of this name.
    pub fn max(&self, name: &str) -> Result<Max<W>, SlabError> {
        let (word, _) = self.words(name, Kind::Max)?;
        Ok(Max(word))
    }

    /// # Errors
    /// When the slab has no histogram of this name.
    pub fn histogram(&self, name: &str) -> Result<Histogram<W>, SlabError> {
        let (sum, words) = self.words(name, Kind::Histogram)?;
        Ok(Histogram {
            sum,
            buckets: words - 1,
        })
    }

    /// Where a field's words are and how many, for those who count without a handle: in other
    /// languages. They stay there as long as this slot and its handles.
    ///
    /// # Errors
    /// When the slab has no field of this name and kind.
    pub fn address(&self, name: &str, kind: Kind) -> Result<(*const AtomicU64, u32), SlabError> {
        let layout = &self.claimed.layout;
        let is_wanted = |placed: &&Placed| placed.field.kind == kind;
        let placed = layout.field(name).filter(is_wanted);
        let placed = placed.ok_or_else(|| SlabError::NoField {
            slab: layout.name().into(),
            kind: kind.name(),
            field: name.into(),
        })?;
        let at = layout.slot(self.claimed.claim.slot) + placed.offset as usize;
        Ok((self.claimed.mapping.word(at), placed.field.words))
    }

    fn words(&self, name: &str, kind: Kind) -> Result<(Word<W>, u32), SlabError> {
        let (first, count) = self.address(name, kind)?;
        let word = Word {
            first,
            _claimed: Arc::clone(&self.claimed),
            writing: PhantomData,
        };
        Ok((word, count))
    }
}

/// The first word of a field.
struct Word<W> {
    first: *const AtomicU64,
    /// Keeps the mapping, and the claim.
    _claimed: Arc<Claimed>,
    writing: PhantomData<W>,
}

// SAFETY: the address is of atomics in a mapping that is kept, and a shared slot's words are written
// with atomic instructions only.
unsafe impl Send for Word<Shared> {}
// SAFETY: as above.
unsafe impl Sync for Word<Shared> {}

impl<W: Writing> Word<W> {
    #[inline(always)]
    fn get(&self) -> &AtomicU64 {
        // SAFETY: `address` has made it of a word of the mapping that `_claimed` keeps.
        unsafe { &*self.first }
    }

    /// The word `index` words further.
    ///
    /// # Safety
    /// The field must have it.
    #[inline(always)]
    unsafe fn further(&self, index: usize) -> &AtomicU64 {
        // SAFETY: within the field, by the caller, and so within the slot, by the layout.
        unsafe { &*self.first.add(index) }
    }
}

impl<W> fmt::Debug for Word<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)
    }
}

/// Only rises.
#[derive(Debug)]
pub struct Counter<W>(Word<W>);

impl<W: Writing> Counter<W> {
    #[inline]
    pub fn add(&self, amount: u64) {
        W::add(self.0.get(), amount);
    }
}

/// Rises and falls.
#[derive(Debug)]
pub struct Gauge<W>(Word<W>);

impl<W: Writing> Gauge<W> {
    #[inline]
    pub fn add(&self, amount: i64) {
        W::add(self.0.get(), amount.cast_unsigned());
    }

    #[inline]
    pub fn set(&self, level: i64) {
        self.0.get().store(level.cast_unsigned(), Ordering::Relaxed);
    }

    /// One more, until it is dropped.
    #[inline]
    pub fn hold(&self) -> Held<'_, W> {
        self.add(1);
        Held(self)
    }
}

/// One of a gauge.
#[derive(Debug)]
pub struct Held<'a, W: Writing>(&'a Gauge<W>);

impl<W: Writing> Drop for Held<'_, W> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// The greatest value seen.
#[derive(Debug)]
pub struct Max<W>(Word<W>);

impl<W: Writing> Max<W> {
    #[inline]
    pub fn raise(&self, value: u64) {
        W::raise(self.0.get(), value);
    }
}

/// How values are spread.
#[derive(Debug)]
pub struct Histogram<W> {
    sum: Word<W>,
    buckets: u32,
}

impl<W: Writing> Histogram<W> {
    #[inline]
    pub fn record(&self, value: u64) {
        let bucket = bucket_of(value, self.buckets) as usize;
        // SAFETY: the buckets follow the sum, and `bucket_of` gives one of them.
        W::add(unsafe { self.sum.further(1 + bucket) }, 1);
        W::add(self.sum.get(), value);
    }
}
