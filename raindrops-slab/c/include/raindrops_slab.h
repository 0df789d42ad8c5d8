#ifndef RAINDROPS_SLAB_H
#define RAINDROPS_SLAB_H

/* Counters in shared memory; see docs/slabs.md. Made by `cargo xtask header`. */

#include <stddef.h>
#include <stdint.h>

/**
 * A field that only rises, and is kept when its worker ends.
 */
#define RAINDROPS_COUNTER 1

/**
 * A field that rises and falls, may be negative, and is gone when its worker ends.
 */
#define RAINDROPS_GAUGE 2

/**
 * A field of the greatest value seen, kept when its worker ends.
 */
#define RAINDROPS_MAX 3

/**
 * A field that says how many values fell into which range, and their sum. Kept when its worker
 * ends.
 */
#define RAINDROPS_HISTOGRAM 4

/**
 * Only the thread that claims counts: with the functions that do not end in `_shared`.
 */
#define RAINDROPS_SINGLE 0

/**
 * All threads of the process count: with those that end in `_shared`.
 */
#define RAINDROPS_SHARED 1

/**
 * Counters in shared memory.
 */
typedef struct raindrops_slab raindrops_slab;

/**
 * A claimed slot.
 */
typedef struct raindrops_slot raindrops_slot;

/**
 * One field of a slab.
 */
typedef struct raindrops_field {
  /**
   * 1 to 31 of a-z, 0-9 and _, a letter first.
   */
  const char *name;
  /**
   * RAINDROPS_COUNTER, RAINDROPS_GAUGE, RAINDROPS_MAX or RAINDROPS_HISTOGRAM.
   */
  uint32_t kind;
  /**
   * At most 15 of a-z, 0-9, _, / and %; NULL for plain numbers.
   */
  const char *unit;
  /**
   * Of a histogram: the greatest value that is told apart from those above it.
   */
  uint64_t highest;
} raindrops_field;

/**
 * Where a histogram's words are: the sum of all values, then one for each bucket.
 */
typedef struct raindrops_histogram {
  uint64_t *words;
  uint32_t buckets;
} raindrops_histogram;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * What was wrong with the last call of this thread that failed. Valid until another fails.
 */
const char *raindrops_slab_error(void);

/**
 * Creates a slab of `count` fields with room for so many claims at one time.
 *
 * With a path: a file, readable and writable for its owner only, that takes the place of what is
 * there. With NULL: memory without a file, for this process and those it forks.
 *
 * # Safety
 * Strings end with NUL, and `fields` has `count` entries.
 */
struct raindrops_slab *raindrops_slab_create(const char *path,
                                             const char *name,
                                             uint32_t slots,
                                             const struct raindrops_field *fields,
                                             size_t count);

/**
 * Opens the file of a slab that another process has created. Whoever may write to that file can
 * also shorten it, which ends every process that has it mapped: open only files of users that are
 * trusted.
 *
 * # Safety
 * The path ends with NUL.
 */
struct raindrops_slab *raindrops_slab_open(const char *path);

/**
 * The slab of a descriptor that another process has handed over. The descriptor stays the caller's.
 */
struct raindrops_slab *raindrops_slab_from_fd(int fd);

/**
 * The slab's descriptor, which is closed when the slab and its claims are gone. To hand over to
 * another process.
 *
 * # Safety
 * `slab` is NULL or a slab.
 */
int raindrops_slab_fd(const struct raindrops_slab *slab);

/**
 * Lets nobody claim a slot any more. Counts can still be read.
 *
 * # Safety
 * `slab` is NULL or a slab.
 */
int raindrops_slab_close(const struct raindrops_slab *slab);

/**
 * Gives up a slab. Claims of it stay good, and files stay.
 *
 * # Safety
 * `slab` is NULL or a slab, and is not used again.
 */
void raindrops_slab_free(struct raindrops_slab *slab);

/**
 * Claims a slot for this process: RAINDROPS_SINGLE or RAINDROPS_SHARED. Claim after the fork: what
 * a child inherits is its parent's, and it must not count there.
 *
 * # Safety
 * `slab` is NULL or a slab.
 */
struct raindrops_slot *raindrops_slab_claim(const struct raindrops_slab *slab, uint32_t writing);

/**
 * Gives a slot back: its counts stay, its gauges end. In a child of who has claimed it, it only
 * frees the child's copy. No word of it may be used afterwards.
 *
 * # Safety
 * `slot` is NULL or a claimed slot, and neither it nor its words are used again.
 */
void raindrops_slot_release(struct raindrops_slot *slot);

/**
 * The slot's number in its slab, or -1.
 *
 * # Safety
 * `slot` is NULL or a claimed slot.
 */
int64_t raindrops_slot_index(const struct raindrops_slot *slot);

/**
 * Where a counter, gauge or max counts in this slot. The address is good until the slot is
 * released, in the process that has claimed it.
 *
 * # Safety
 * `slot` is NULL or a claimed slot, and the name ends with NUL.
 */
uint64_t *raindrops_slot_word(const struct raindrops_slot *slot,
                              const char *name,
                              uint32_t field_kind);

/**
 * Where a histogram counts in this slot, as `raindrops_slot_word`.
 *
 * # Safety
 * `slot` is NULL or a claimed slot, the name ends with NUL, and `histogram` is NULL or has room for
 * one.
 */
int raindrops_slot_histogram(const struct raindrops_slot *slot,
                             const char *name,
                             struct raindrops_histogram *histogram);

/**
 * Adds to a counter or gauge: what `raindrops_counter_add_shared` does, as a call.
 *
 * # Safety
 * `first` is the word of a claimed slot.
 */
void raindrops_word_add(uint64_t *first, uint64_t amount);

/**
 * Sets a gauge: what `raindrops_gauge_set` does, as a call.
 *
 * # Safety
 * As `raindrops_word_add`.
 */
void raindrops_word_set(uint64_t *first, uint64_t level);

/**
 * Raises a max: what `raindrops_max_raise_shared` does, as a call.
 *
 * # Safety
 * As `raindrops_word_add`.
 */
void raindrops_word_raise(uint64_t *first, uint64_t value);

/**
 * Records a value: what `raindrops_histogram_record_shared` does, as a call.
 *
 * # Safety
 * `words` is a histogram of a claimed slot, and has so many buckets, at least one.
 */
void raindrops_words_record(uint64_t *words, uint32_t buckets, uint64_t value);

/**
 * How many fields the slab has, or -1.
 *
 * # Safety
 * `slab` is NULL or a slab.
 */
int64_t raindrops_slab_fields(const struct raindrops_slab *slab);

/**
 * The field of this number, as it was declared, and of how many words it is. A histogram's highest
 * value may be a little more than was asked for. The texts live as long as the slab.
 *
 * # Safety
 * `slab` is NULL or a slab; `field` is NULL or has room for one; `words` likewise, and may be NULL.
 */
int raindrops_slab_field(const struct raindrops_slab *slab,
                         size_t index,
                         struct raindrops_field *field,
                         uint32_t *words);

/**
 * What all workers have counted: the words of all fields, in their order, of one reading. A counter,
 * gauge or max is one word; a histogram is the sum of all values, then one for each bucket. Gauges
 * are of those workers that live, and signed.
 *
 * Returns how many words there are; writes no more than `count` of them.
 *
 * # Safety
 * `slab` is NULL or a slab, and `words` has room for `count`.
 */
int64_t raindrops_slab_totals(const struct raindrops_slab *slab,
                              uint64_t *words,
                              size_t count);

/**
 * What all workers have counted in one counter, gauge (signed, of those that live) or max.
 *
 * # Safety
 * `slab` is NULL or a slab, the name ends with NUL, and `total` is NULL or has room for one.
 */
int raindrops_slab_total(const struct raindrops_slab *slab,
                         const char *name,
                         uint32_t field_kind,
                         uint64_t *total);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RAINDROPS_SLAB_H */

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
