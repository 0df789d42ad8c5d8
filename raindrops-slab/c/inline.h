/*
 * Counting, in place. Words come from raindrops_slot_word and raindrops_slot_histogram.
 *
 * Those without _shared are a load, an addition and a store: for a slot that was claimed with
 * RAINDROPS_SINGLE, by the thread that has claimed it. Those with it are one atomic instruction.
 * Readers see either at once.
 */

/* Adds to a counter. */
static inline void raindrops_counter_add(uint64_t *word, uint64_t amount) {
  __atomic_store_n(word, __atomic_load_n(word, __ATOMIC_RELAXED) + amount, __ATOMIC_RELAXED);
}

static inline void raindrops_counter_add_shared(uint64_t *word, uint64_t amount) {
  __atomic_fetch_add(word, amount, __ATOMIC_RELAXED);
}

/* Adds to a gauge, or takes from it. */
static inline void raindrops_gauge_add(uint64_t *word, int64_t amount) {
  raindrops_counter_add(word, (uint64_t)amount);
}

static inline void raindrops_gauge_add_shared(uint64_t *word, int64_t amount) {
  raindrops_counter_add_shared(word, (uint64_t)amount);
}

/* Sets a gauge; the same for both kinds of claim. */
static inline void raindrops_gauge_set(uint64_t *word, int64_t level) {
  __atomic_store_n(word, (uint64_t)level, __ATOMIC_RELAXED);
}

/* Raises a max to a value, unless it is there or above. */
static inline void raindrops_max_raise(uint64_t *word, uint64_t value) {
  if (value > __atomic_load_n(word, __ATOMIC_RELAXED))
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline void raindrops_max_raise_shared(uint64_t *word, uint64_t value) {
  uint64_t seen = __atomic_load_n(word, __ATOMIC_RELAXED);
  while (value > seen &&
         !__atomic_compare_exchange_n(word, &seen, value, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    ;
}

/* Which of so many buckets a value falls into: each up to 3 has one, and each span from a power of
 * two to the next has four. The last is of everything above. */
static inline uint32_t raindrops_bucket_of(uint64_t value, uint32_t buckets) {
  uint32_t bucket = (uint32_t)value;
  if (value >= 4) {
    uint32_t power = 63u - (uint32_t)__builtin_clzll(value);
    bucket = 4 * (power - 1) + (uint32_t)((value >> (power - 2)) & 3);
  }
  return bucket < buckets ? bucket : buckets - 1;
}

/* Records a value in a histogram. */
static inline void raindrops_histogram_record(const raindrops_histogram *histogram, uint64_t value) {
  raindrops_counter_add(histogram->words + 1 + raindrops_bucket_of(value, histogram->buckets), 1);
  raindrops_counter_add(histogram->words, value);
}

static inline void raindrops_histogram_record_shared(const raindrops_histogram *histogram,
                                                     uint64_t value) {
  raindrops_counter_add_shared(histogram->words + 1 + raindrops_bucket_of(value, histogram->buckets),
                               1);
  raindrops_counter_add_shared(histogram->words, value);
}
