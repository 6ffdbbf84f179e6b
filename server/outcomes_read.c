/* outcomes_read: see the header. */
#include "server/outcomes_read.h"

#include <math.h>
#include <string.h>

/* Bad counts, subsets before their supersets: loaded with acquire order before the rest, since clients add them last. */
static const uint8_t first[] = {FLAGSHM_N_TRANSPORT,    FLAGSHM_N_FAILED,         FLAGSHM_N_LIMITED,
                                FLAGSHM_N_JSON_INVALID, FLAGSHM_N_SCHEMA_INVALID, FLAGSHM_N_TOOL_INVALID,
                                FLAGSHM_N_REFUSAL,      FLAGSHM_N_TRUNCATED,      FLAGSHM_N_EMPTY};

static bool is_first(uint32_t counter)
{
    size_t i;

    for (i = 0; i < sizeof first; i++)
        if (first[i] == counter)
            return true;
    return false;
}

void flagshm_outcomes_read_counters(const struct flagshm_outcomes_file *file, uint32_t slot, uint32_t arm,
                                    uint64_t n[FLAGSHM_COUNTERS])
{
    const struct flagshm_arm_outcomes *a;
    uint32_t shard, i;
    size_t j;

    memset(n, 0, FLAGSHM_COUNTERS * sizeof *n);
    if (file->segment == NULL || arm >= 8)
        return;
    a = &flagshm_slot_at_(file->segment, slot)->arms[arm];
    for (shard = 0; shard < FLAGSHM_SHARDS; shard++) {
        for (j = 0; j < sizeof first; j++)
            n[first[j]] += __atomic_load_n(&a->counters[shard][first[j]], __ATOMIC_ACQUIRE);
        for (i = FLAGSHM_COUNTERS; i-- > 0;)
            if (!is_first(i))
                n[i] += __atomic_load_n(&a->counters[shard][i], __ATOMIC_RELAXED);
    }
}

static void read_histograms(const struct flagshm_arm_outcomes *a, struct flagshm_arm_counts *counts)
{
    uint32_t shard, h, i;

    memset(counts->histograms, 0, sizeof counts->histograms);
    for (shard = 0; shard < FLAGSHM_HISTOGRAM_SHARDS; shard++)
        for (h = 0; h < FLAGSHM_HISTOGRAMS; h++)
            for (i = 0; i < FLAGSHM_HISTOGRAM_BUCKETS; i++)
                counts->histograms[h][i] += flagshm_load32_(&a->histograms[shard][h][i]);
}

/* HyperLogLog (Flajolet et al. 2007) with linear counting for few ids; its standard error is 1.04 / sqrt(1024) = 3 %. */
static double estimate_distinct(const struct flagshm_slot *s)
{
    double sum = 0, m = FLAGSHM_DISTINCT, estimate;
    uint32_t empty = 0, i;

    for (i = 0; i < FLAGSHM_DISTINCT; i++) {
        uint8_t rank = __atomic_load_n(&s->distinct[i], __ATOMIC_RELAXED);

        sum += ldexp(1, -(rank < 55 ? rank : 55));
        empty += rank == 0;
    }
    estimate = 0.7213 / (1 + 1.079 / m) * m * m / sum;
    if (estimate <= 2.5 * m && empty > 0)
        estimate = m * log(m / empty);
    return estimate;
}

bool flagshm_outcomes_read(const struct flagshm_outcomes_file *file, uint32_t slot, uint32_t generation,
                           const struct flagshm_slot_form *form, struct flagshm_slot_counts *counts)
{
    const struct flagshm_slot *s;
    uint32_t arm, signal, window, label, level, blocks;

    memset(counts, 0, sizeof *counts);
    if (file->segment == NULL || flagshm_outcomes_generation(file, slot) != generation)
        return false;
    s = flagshm_slot_at_(file->segment, slot);
    counts->generation = generation;
    counts->arm_count = form->arm_count <= 8 ? form->arm_count : 8;
    blocks = counts->arm_count + form->has_shadow;
    for (signal = 0; signal < form->signal_count && signal < FLAGSHM_SIGNALS_MAX; signal++) {
        for (label = 0; label < 2; label++)
            counts->capped_bad[label][signal] =
                __atomic_load_n(&s->capped_bad[label][signal], __ATOMIC_ACQUIRE);
        for (window = 0; window < FLAGSHM_WINDOWS; window++)
            for (label = 0; label < 2; label++)
                for (level = 0; level < FLAGSHM_LEVELS; level++)
                    counts->levels[signal][window][label][level] =
                        flagshm_load32_(&s->levels[signal][window][label][level]);
    }
    for (label = 0; label < 2; label++)
        counts->capped_calls[label] = flagshm_load64_(&s->capped_calls[label]);
    for (arm = 0; arm < blocks && arm < 8; arm++) {
        read_histograms(&s->arms[arm], &counts->arms[arm]);
        flagshm_outcomes_read_counters(file, slot, arm, counts->arms[arm].n);
    }
    counts->distinct = estimate_distinct(s);
    return *file->is_torn_ == 0 && flagshm_outcomes_generation(file, slot) == generation;
}

uint64_t flagshm_outcomes_threshold(const struct flagshm_outcomes_file *file, uint32_t slot, uint32_t signal)
{
    if (file->segment == NULL || signal >= FLAGSHM_SIGNALS_MAX)
        return UINT64_MAX;
    return flagshm_load64_(&flagshm_slot_at_(file->segment, slot)->signals[signal].threshold);
}

bool flagshm_counts_are_tainted(const uint64_t before[FLAGSHM_COUNTERS], const uint64_t now[FLAGSHM_COUNTERS])
{
    static const uint8_t parts[][2] = {{FLAGSHM_N_FAILED, FLAGSHM_N_FINISHED},
                                       {FLAGSHM_N_TRANSPORT, FLAGSHM_N_FAILED},
                                       {FLAGSHM_N_LIMITED, FLAGSHM_N_FINISHED},
                                       {FLAGSHM_N_JSON_INVALID, FLAGSHM_N_JSON_CHECKED},
                                       {FLAGSHM_N_SCHEMA_INVALID, FLAGSHM_N_SCHEMA_CHECKED},
                                       {FLAGSHM_N_TOOL_INVALID, FLAGSHM_N_TOOL_CHECKED},
                                       {FLAGSHM_N_REFUSAL, FLAGSHM_N_FINISHED},
                                       {FLAGSHM_N_TRUNCATED, FLAGSHM_N_FINISHED},
                                       {FLAGSHM_N_EMPTY, FLAGSHM_N_FINISHED}};
    uint32_t i;

    for (i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (now[parts[i][0]] > now[parts[i][1]])
            return true;
    for (i = 0; i < FLAGSHM_COUNTERS; i++)
        if (now[i] - before[i] > UINT64_C(1) << 62) /* ran back, in arithmetic modulo 2^64 */
            return true;
    /* each call is one event of a host: 10^9 in one look are no calls */
    return now[FLAGSHM_N_FINISHED] - before[FLAGSHM_N_FINISHED] > 1000000000u ||
           now[FLAGSHM_N_STARTED] - before[FLAGSHM_N_STARTED] > 1000000000u;
}

uint64_t flagshm_histogram_count(const uint64_t histogram[FLAGSHM_HISTOGRAM_BUCKETS])
{
    uint64_t count = 0;
    uint32_t i;

    for (i = 0; i < FLAGSHM_HISTOGRAM_BUCKETS; i++)
        count += histogram[i];
    return count;
}

double flagshm_histogram_quantile(const uint64_t histogram[FLAGSHM_HISTOGRAM_BUCKETS], double quantile)
{
    uint64_t count = flagshm_histogram_count(histogram), below = 0;
    double rank = ceil(quantile * (double)count);
    uint32_t i;

    if (count == 0)
        return 0;
    if (rank < 1)
        rank = 1;
    for (i = 0; i + 1 < FLAGSHM_HISTOGRAM_BUCKETS; i++) {
        below += histogram[i];
        if ((double)below >= rank)
            break;
    }
    if (i < 8)
        return i;
    return ((double)flagshm_bucket_low_(i) + (double)flagshm_bucket_low_(i + 1)) / 2;
}
