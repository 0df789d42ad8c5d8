//! Counters of the Ruby library raindrops: a word in each stride, and nothing else.

/// What a memory counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words(Vec<u64>);

impl Words {
    /// `None` when anything lies between the counters: it is something else.
    pub fn of(bytes: &[u8], stride: usize) -> Option<Self> {
        if stride < size_of::<u64>() || !bytes.len().is_multiple_of(stride) {
            return None;
        }
        let strides = bytes.chunks_exact(stride).map(|stride| {
            let (word, rest) = stride.split_first_chunk()?;
            rest.iter()
                .all(|byte| *byte == 0)
                .then(|| u64::from_ne_bytes(*word))
        });
        strides.collect::<Option<_>>().map(Self)
    }

    /// Zero behind the last.
    pub fn get(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    pub const fn count(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }

    /// Counters up to the last that is not zero.
    pub fn used(&self) -> usize {
        let last = self.0.iter().rposition(|word| *word != 0);
        last.map_or(0, |last| last + 1)
    }
}
