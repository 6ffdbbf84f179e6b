/* outcomes_read: the counts of a slot, in words that people use. The bytes are hostile: they are only added up.
 *
 * Whole percentiles come from histograms whose buckets are an eighth of their value wide: a quantile is exact to 6.25 %.
 */
#ifndef FLAGSHM_SERVER_OUTCOMES_READ_H
#define FLAGSHM_SERVER_OUTCOMES_READ_H

#include "server/outcomes.h"

#define FLAGSHM_QUANTILE_ERROR 0.0625

struct flagshm_arm_counts {
    uint64_t n[FLAGSHM_COUNTERS];
    uint64_t histograms[FLAGSHM_HISTOGRAMS][FLAGSHM_HISTOGRAM_BUCKETS];
};

struct flagshm_slot_counts {
    uint32_t generation, arm_count;
    struct flagshm_arm_counts arms[8]; /* arms[arm_count]: of shadow calls, if any */
    double distinct;                   /* ids, estimated to 3 % */
    uint64_t capped_calls[2], capped_bad[2][FLAGSHM_SIGNALS_MAX];
    uint32_t levels[FLAGSHM_SIGNALS_MAX][FLAGSHM_WINDOWS][2][FLAGSHM_LEVELS];
};

/* Reads a slot whole; never more bad calls than calls, but where somebody lies (flagshm_counts_are_tainted). `form`: what it was prepared for, by what the server knows: nothing beyond that is
 * touched, for there the file has holes, and a look into one takes a page, or raises SIGBUS where the file system is full. False: it
 * holds another generation, or the file is torn. Cost: about 20 us for two arms. */
bool flagshm_outcomes_read(const struct flagshm_outcomes_file *file, uint32_t slot, uint32_t generation,
                           const struct flagshm_slot_form *form, struct flagshm_slot_counts *counts);
/* Only the counters of one arm. Cost: about 2 us. */
void flagshm_outcomes_read_counters(const struct flagshm_outcomes_file *file, uint32_t slot, uint32_t arm,
                                    uint64_t n[FLAGSHM_COUNTERS]);

/* What clients compare an amount with now; UINT64_MAX: nothing is above it. */
uint64_t flagshm_outcomes_threshold(const struct flagshm_outcomes_file *file, uint32_t slot, uint32_t signal);

/* Has a counter run back since `before`, or grown faster than any host can book? Are there more bad calls than calls? Then
 * somebody lies. */
bool flagshm_counts_are_tainted(const uint64_t before[FLAGSHM_COUNTERS],
                                const uint64_t now[FLAGSHM_COUNTERS]);

/* The value at a quantile (0...1) of a histogram: the middle of its bucket; 0 where it is empty. */
double flagshm_histogram_quantile(const uint64_t histogram[FLAGSHM_HISTOGRAM_BUCKETS], double quantile);
uint64_t flagshm_histogram_count(const uint64_t histogram[FLAGSHM_HISTOGRAM_BUCKETS]);

#endif
