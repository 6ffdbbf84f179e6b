/* outcome_counts: what counts by user: cells, levels, the first calls of an hour, distinct ids; and the arithmetic of histograms.
 * The vectors in data/vectors/levels.json were made independently of this project. */
#include "outcomes_fixture.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>

static struct outcomes_world w;
static struct flagshm_decision d;

static const struct flagshm_slot_form errors_only = {
    .arm_count = 2, .is_guarded = true, .signal_count = 1, .signals = {{FLAGSHM_SIGNAL_ERROR, true}}};
static const struct flagshm_outcome bad = {.http_status = 500}, good = {.http_status = 200};

static void set_up(void)
{
    cr_assert(outcomes_begin(&w), "%s", w.error.text);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "5", "")), 0, "%s", w.error.text);
    cr_assert_eq(flagshm_open(&w.fs, NULL), 0);
    cr_assert(outcomes_reform(&w, "f", &errors_only));
    outcomes_decide(&w, "f", 1, 0, &d);
}

static void tear_down(void)
{
    outcomes_end(&w);
}

TestSuite(outcome_counts, .init = set_up, .fini = tear_down);

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static double uniform(uint64_t *state)
{
    return (double)(next_random(state) >> 11) / 9007199254740992.0;
}

/* ---- cells and levels ---- */

static void expect_levels(const cJSON *expected, const uint32_t *levels, const char *what)
{
    int level;

    for (level = 0; level < (int)FLAGSHM_LEVELS; level++)
        cr_assert_eq(levels[level], (uint32_t)cJSON_GetArrayItem(expected, level)->valuedouble,
                     "%s, level %d: %u", what, level, levels[level]);
}

static cJSON *read_vectors(void)
{
    static char text[1 << 16];
    FILE *in = fopen(FLAGSHM_TESTS_DATA "/vectors/levels.json", "rb");

    cr_assert_not_null(in);
    text[fread(text, 1, sizeof text - 1, in)] = '\0';
    (void)fclose(in);
    return cJSON_Parse(text);
}

Test(outcome_counts, cells_and_levels_are_what_the_vectors_say)
{
    cJSON *vectors = read_vectors(), *each, *event;
    struct flagshm_slot_counts counts;
    int cases = 0;

    cr_assert_not_null(vectors);
    cJSON_ArrayForEach(each, cJSON_GetObjectItem(vectors, "cases"))
    {
        uint32_t windows[3] = {0, 1 + (w.ledger.window_4h & 1), 3 + (w.ledger.window_1h & 1)}, i;

        cr_assert(outcomes_reform(&w, "f", &errors_only));
        cJSON_ArrayForEach(event, cJSON_GetObjectItem(each, "events_cell_arm"))
        {
            d.id_hash = (uint64_t)event->child->valuedouble + UINT64_C(0xabcd000000000000);
            d.arm = (uint32_t)event->child->next->valuedouble;
            d.bucket = d.arm != 0 ? 0 : d.rollout_mpct;
            cr_assert_eq(flagshm_record(&w.fs, &d, &bad), 0);
        }
        cr_assert(outcomes_read(&w, "f", &counts));
        for (i = 0; i < 3; i++) {
            expect_levels(cJSON_GetObjectItem(each, "a"), counts.levels[0][windows[i]][1], "a");
            expect_levels(cJSON_GetObjectItem(each, "b"), counts.levels[0][windows[i]][0], "b");
        }
        cases++;
    }
    cr_assert_geq(cases, 2);
    cJSON_Delete(vectors);
}

Test(outcome_counts, a_cell_passes_each_level_once_and_stops)
{
    struct flagshm_slot_counts counts;
    const struct flagshm_slot *s = outcomes_slot_bytes(&w, "f");
    uint32_t i, level;

    for (i = 0; i < 40000; i++)
        cr_assert_eq(flagshm_record(&w.fs, &d, &bad), 0);
    cr_assert(outcomes_read(&w, "f", &counts));
    for (level = 0; level < FLAGSHM_LEVELS; level++) {
        cr_assert_eq(counts.levels[0][0][1][level], 1, "level %u", level);
        cr_assert_eq(counts.levels[0][0][0][level], 0);
    }
    cr_assert_eq(s->cells[0][d.id_hash % FLAGSHM_CELLS], FLAGSHM_CELL_STOP);
}

/* 40 000 users, some of whom cause most of the events; nothing depends on the arm. Which arm is asked of the real hash. The arms
 * share their cells, or (the negative control) have their own. */
struct world_of_users {
    uint64_t a[FLAGSHM_LEVELS], b[FLAGSHM_LEVELS];
};

static void let_them_err(struct world_of_users *shared, struct world_of_users *apart, unsigned seed)
{
    enum { USERS = 40000, EVENTS = 400000 };
    struct flagshm_decision *users = calloc(USERS, sizeof *users);
    uint16_t(*cells)[FLAGSHM_CELLS] = calloc(2, sizeof *cells);
    struct flagshm_slot_counts counts;
    uint64_t random = 88172645463325252u + seed;
    unsigned i;

    cr_assert(users && cells);
    memset(apart, 0, sizeof *apart);
    cr_assert(outcomes_reform(&w, "f", &errors_only));
    for (i = 0; i < USERS; i++) {
        char id[40];

        (void)snprintf(id, sizeof id, "world-%u-user-%u", seed, i);
        cr_assert_eq(flagshm_decide(&w.fs, "f", id, &users[i]), FLAGSHM_SPLIT);
    }
    for (i = 0; i < EVENTS; i++) {
        const struct flagshm_decision *user = &users[(unsigned)(pow(uniform(&random), 3) * USERS)];
        uint16_t count = ++cells[user->arm][user->id_hash % FLAGSHM_CELLS];

        cr_assert_eq(flagshm_record(&w.fs, user, &bad), 0);
        if ((count & (count - 1)) == 0)
            (user->arm ? apart->a : apart->b)[31 - __builtin_clz(count)]++;
    }
    cr_assert(outcomes_read(&w, "f", &counts));
    for (i = 0; i < FLAGSHM_LEVELS; i++) {
        shared->a[i] = counts.levels[0][0][1][i];
        shared->b[i] = counts.levels[0][0][0][i];
    }
    free(users);
    free(cells);
}

/* Of how many levels is the variant's share of the events more than 4 sigma away from its share of the users? */
static int count_off(const struct world_of_users *world, double q)
{
    int off = 0, level;

    for (level = 0; level < (int)FLAGSHM_LEVELS; level++) {
        double n = (double)(world->a[level] + world->b[level]);

        off += fabs((double)world->a[level] - q * n) > 4 * sqrt(n * q * (1 - q)) + 1e-9;
    }
    return off;
}

Test(outcome_counts, without_an_effect_every_level_keeps_the_share)
{
    struct world_of_users shared, apart;
    unsigned seed;

    for (seed = 1; seed <= 5; seed++) {
        let_them_err(&shared, &apart, seed);
        cr_assert_gt(shared.a[0] + shared.b[0], 4000, "the cells are all full");
        cr_assert_gt(shared.a[5] + shared.b[5], 100, "and many are at a high level");
        cr_assert_eq(count_off(&shared, 0.05), 0, "seed %u: %llu and %llu at level 0", seed,
                     (unsigned long long)shared.a[0], (unsigned long long)shared.b[0]);
        cr_assert_gt(count_off(&apart, 0.05), 0, "cells for each arm must fail this, or it shows nothing");
        cr_assert_gt((double)apart.a[0] / (double)(apart.a[0] + apart.b[0]), 0.2);
    }
}

/* ---- rates that nobody swings ---- */

Test(outcome_counts, of_each_cell_only_the_first_calls_of_an_hour_make_rates)
{
    struct flagshm_slot_counts counts;
    unsigned user, call;

    for (user = 0; user < 100; user++) {
        d.id_hash = user * 41; /* cells of their own */
        for (call = 0; call < (user == 0 ? 5000 : 2); call++)
            cr_assert_eq(flagshm_record(&w.fs, &d, user == 0 ? &bad : &good), 0);
    }
    cr_assert(outcomes_read(&w, "f", &counts));
    cr_assert_eq(counts.arms[1].n[FLAGSHM_N_FINISHED], 5198);
    cr_assert_eq(counts.arms[1].n[FLAGSHM_N_FAILED], 5000);
    cr_assert_eq(counts.capped_calls[1], 99 * 2 + FLAGSHM_CALLS_CAP);
    cr_assert_eq(counts.capped_bad[1][0], FLAGSHM_CALLS_CAP);
    cr_assert_eq(counts.capped_calls[0], 0);
}

/* ---- distinct ids ---- */

Test(outcome_counts, distinct_ids_are_estimated_within_three_sigma)
{
    static const unsigned stops[] = {1,    10,   100,   1000,   2000,   2560,
                                     3500, 5000, 10000, 100000, 300000, 1000000};
    const struct flagshm_outcome started = {.event = FLAGSHM_STARTED};
    struct flagshm_slot_counts counts;
    char id[40];
    unsigned seed, n, i;

    for (seed = 0; seed < 3; seed++) {
        cr_assert(outcomes_reform(&w, "f", &errors_only));
        for (i = n = 0; i < sizeof stops / sizeof stops[0]; i++) {
            for (; n < stops[i]; n++) {
                (void)snprintf(id, sizeof id, "%u:customer-%u", seed, n);
                d.id_hash = flagshm_hash64_(id, strlen(id), 1);
                cr_assert_eq(flagshm_record(&w.fs, &d, &started), 0);
            }
            cr_assert_eq(flagshm_record(&w.fs, &d, &started), 0); /* once more changes nothing */
            cr_assert(outcomes_read(&w, "f", &counts));
            cr_assert_leq(fabs(counts.distinct / n - 1), 3 * 1.04 / 32, "%u ids: %.1f", n, counts.distinct);
        }
    }
}

/* ---- histograms ---- */

static void expect_bucket(uint64_t value)
{
    uint32_t bucket = flagshm_bucket_of_(value);
    uint64_t low = flagshm_bucket_low_(bucket), high = flagshm_bucket_low_(bucket + 1);

    cr_assert_lt(bucket, FLAGSHM_HISTOGRAM_BUCKETS);
    cr_assert_leq(low, value);
    if (bucket == FLAGSHM_HISTOGRAM_BUCKETS - 1)
        return;
    cr_assert_lt(value, high);
    if (value > 0) {
        uint64_t histogram[FLAGSHM_HISTOGRAM_BUCKETS] = {0};
        double shown;

        histogram[bucket] = 3;
        shown = flagshm_histogram_quantile(histogram, 0.5);
        cr_assert_leq(fabs(shown / (double)value - 1), FLAGSHM_QUANTILE_ERROR, "%llu is shown as %f",
                      (unsigned long long)value, shown);
        if (value < 8)
            cr_assert_eq(shown, (double)value);
    }
}

Test(outcome_counts, each_value_has_a_bucket_no_wider_than_an_eighth)
{
    uint32_t bucket, shift;
    uint64_t value;

    for (bucket = 0; bucket < FLAGSHM_HISTOGRAM_BUCKETS; bucket++) {
        cr_assert_lt(flagshm_bucket_low_(bucket), flagshm_bucket_low_(bucket + 1), "they rise");
        cr_assert_eq(flagshm_bucket_of_(flagshm_bucket_low_(bucket)), bucket);
        if (bucket > 0)
            cr_assert_eq(flagshm_bucket_of_(flagshm_bucket_low_(bucket) - 1), bucket - 1);
    }
    for (value = 0; value < 100000; value++)
        expect_bucket(value);
    for (shift = 0; shift < 64; shift++)
        for (value = (UINT64_C(1) << shift) - 1; value != (UINT64_C(1) << shift) + 2; value++)
            expect_bucket(value);
    expect_bucket(UINT64_MAX);
    cr_assert_eq(flagshm_bucket_of_(UINT64_MAX), FLAGSHM_HISTOGRAM_BUCKETS - 1);
    cr_assert_eq(flagshm_bucket_of_(flagshm_bucket_low_(FLAGSHM_HISTOGRAM_BUCKETS)),
                 FLAGSHM_HISTOGRAM_BUCKETS - 1);
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return a < b ? -1 : a > b;
}

Test(outcome_counts, quantiles_are_those_of_the_sorted_values_to_their_error)
{
    static const double quantiles[] = {0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1};
    static uint64_t values[20000];
    uint64_t histogram[FLAGSHM_HISTOGRAM_BUCKETS], random = 12345;
    size_t count, i, j;
    int kind;

    for (kind = 0; kind < 4; kind++)
        for (count = 1; count <= 20000; count = count * 3 + 1) {
            memset(histogram, 0, sizeof histogram);
            for (i = 0; i < count; i++) {
                double u = uniform(&random) + 1e-12;

                values[i] = kind == 0   ? (uint64_t)(u * 12)
                            : kind == 1 ? (uint64_t)(-log(u) * 30000)
                            : kind == 2 ? (uint64_t)exp(u * 17)
                                        : 4242;
                histogram[flagshm_bucket_of_(values[i])]++;
            }
            qsort(values, count, sizeof values[0], compare);
            cr_assert_eq(flagshm_histogram_count(histogram), count);
            for (j = 0; j < sizeof quantiles / sizeof quantiles[0]; j++) {
                double rank = ceil(quantiles[j] * (double)count);
                double exact = (double)values[rank < 1 ? 0 : (size_t)rank - 1];
                double shown = flagshm_histogram_quantile(histogram, quantiles[j]);

                cr_assert_leq(fabs(shown - exact), exact * FLAGSHM_QUANTILE_ERROR, "p%g of %zu: %f for %f",
                              quantiles[j] * 100, count, shown, exact);
            }
        }
    memset(histogram, 0, sizeof histogram);
    cr_assert_eq(flagshm_histogram_quantile(histogram, 0.5), 0);
}

/* ---- lies ---- */

Test(outcome_counts, counters_that_run_back_or_leap_or_exceed_their_whole_are_lies)
{
    uint64_t before[FLAGSHM_COUNTERS] = {0}, now[FLAGSHM_COUNTERS] = {0};
    uint32_t i;

    for (i = 0; i < FLAGSHM_COUNTERS; i++)
        before[i] = now[i] = 1000;
    cr_assert_not(flagshm_counts_are_tainted(before, now));
    for (i = 0; i < FLAGSHM_COUNTERS; i++) {
        now[i]--;
        cr_assert(flagshm_counts_are_tainted(before, now), "counter %u ran back", i);
        now[i]++;
    }
    now[FLAGSHM_N_FINISHED] += 1000000000;
    cr_assert_not(flagshm_counts_are_tainted(before, now));
    now[FLAGSHM_N_FINISHED]++;
    cr_assert(flagshm_counts_are_tainted(before, now));
    now[FLAGSHM_N_FINISHED] = 1000;
    now[FLAGSHM_N_JSON_INVALID] = now[FLAGSHM_N_JSON_CHECKED] + 1;
    cr_assert(flagshm_counts_are_tainted(before, now));
    now[FLAGSHM_N_JSON_INVALID] = 1000;
    now[FLAGSHM_N_FAILED] = now[FLAGSHM_N_TRANSPORT] = 1001;
    cr_assert(flagshm_counts_are_tainted(before, now), "more failures than calls");
}
