/* evidence: the formulas against vectors made elsewhere, and each rule of the judge at its edge. */
#include "server/evidence.h"

#include <cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define HOUR   (3600 * SECOND)
#define MS     UINT64_C(1000000)
#define N(x)   FLAGSHM_N_##x

/* ---- vectors ---- */

static cJSON *read_vectors(const char *name)
{
    char path[400], *text;
    long bytes;
    cJSON *json;
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/vectors/%s", FLAGSHM_TESTS_DATA, name);
    file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    cr_assert_eq(fseek(file, 0, SEEK_END), 0);
    bytes = ftell(file);
    rewind(file);
    text = malloc((size_t)bytes + 1);
    cr_assert_not_null(text);
    cr_assert_eq(fread(text, 1, (size_t)bytes, file), (size_t)bytes);
    text[bytes] = '\0';
    fclose(file);
    json = cJSON_Parse(text);
    free(text);
    cr_assert_not_null(json);
    return json;
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *at = cJSON_GetObjectItemCaseSensitive(object, key);

    cr_assert(cJSON_IsNumber(at), "%s", key);
    return at->valuedouble;
}

static bool is_near(double ours, double theirs)
{
    return fabs(ours - theirs) <= 1e-9 * (1 + fabs(theirs));
}

static double ln_e(uint64_t a, uint64_t b, double q)
{
    struct flagshm_odds odds;

    flagshm_odds_events(&odds, q);
    return flagshm_odds_ln_e(&odds, a, b);
}

Test(evidence_math, ln_e_and_sample_ratio_agree_with_the_vectors)
{
    cJSON *json = read_vectors("evidence.json");
    const cJSON *at;
    unsigned count = 0;

    cJSON_ArrayForEach(at, cJSON_GetObjectItemCaseSensitive(json, "ln_e"))
    {
        double ours = ln_e((uint64_t)number(at, "variant_users"), (uint64_t)number(at, "control_users"),
                           number(at, "q"));

        cr_expect(is_near(ours, number(at, "ln_e")), "%.15g is not %.15g", ours, number(at, "ln_e"));
        count++;
    }
    cJSON_ArrayForEach(at, cJSON_GetObjectItemCaseSensitive(json, "srm_ln_e"))
    {
        double ours = flagshm_srm_ln_e((uint64_t)number(at, "variant_users"), (uint64_t)number(at, "users"),
                                       number(at, "q"));

        cr_expect(is_near(ours, number(at, "ln_e")), "%.15g is not %.15g", ours, number(at, "ln_e"));
        count++;
    }
    cr_assert_eq(count, 19);
    cJSON_Delete(json);
}

Test(evidence_math, sequences_cross_where_the_vectors_say)
{
    cJSON *json = read_vectors("evidence.json");
    const cJSON *at, *crossing;

    cJSON_ArrayForEach(at, cJSON_GetObjectItemCaseSensitive(json, "sequences"))
    {
        const char *labels = cJSON_GetObjectItemCaseSensitive(at, "labels")->valuestring;
        const cJSON *crossings = cJSON_GetObjectItemCaseSensitive(at, "first_event_at_or_above_1_over_alpha");
        double q = number(at, "q"), most = 0, last = 0;
        uint64_t n[2] = {0, 0};
        int event, found = 0;

        for (event = 1; labels[event - 1] != '\0'; event++) {
            double before = most;

            n[labels[event - 1] == 'v']++;
            last = ln_e(n[1], n[0], q);
            most = last > most ? last : most;
            cJSON_ArrayForEach(crossing, crossings)
            {
                double bound = -log(strtod(crossing->string, NULL));

                if (before < bound && most >= bound) {
                    cr_expect_eq(crossing->valueint, event, "alpha %s: %d", crossing->string, event);
                    found++;
                }
            }
        }
        cr_expect(is_near(last, number(at, "final_ln_e")));
        cr_expect(is_near(most, number(at, "max_ln_e")));
        cr_expect_eq(found, cJSON_GetArraySize(crossings));
    }
    cJSON_Delete(json);
}

Test(evidence_math, nothing_overflows_at_a_thousand_million_users)
{
    static const double shares[] = {1e-5, 0.01, 0.05, 0.5, 0.99, 0.99999};
    static const uint64_t counts[] = {0, 1, 1000, 1000000000, UINT64_C(1000000000000)};
    size_t s, i, j;

    for (s = 0; s < sizeof shares / sizeof *shares; s++)
        for (i = 0; i < 5; i++)
            for (j = 0; j < 5; j++) {
                struct flagshm_odds odds;
                double e, bound;

                flagshm_odds_amounts(&odds, shares[s]);
                cr_expect(isfinite(flagshm_odds_ln_e(&odds, counts[i], counts[j])));
                flagshm_odds_mirror(&odds, shares[s], 2);
                cr_expect(isfinite(flagshm_odds_ln_e(&odds, counts[i], counts[j])));
                flagshm_odds_events(&odds, shares[s]);
                e = flagshm_odds_ln_e(&odds, counts[i], counts[j]);
                bound = flagshm_odds_bound(&odds, counts[i], counts[j]);
                cr_expect(isfinite(e));
                cr_expect(bound >= e - 1e-9 * fabs(e) && bound <= e + odds.ln_count + 1e-9 * (1 + fabs(e)));
                cr_expect(isfinite(flagshm_srm_ln_e(counts[i], counts[i] + counts[j], shares[s])));
            }
    cr_expect_eq(ln_e(5, 5, 0), 0);
    cr_expect_eq(ln_e(5, 5, 1), 0);
    cr_expect_eq(ln_e(5, 5, NAN), 0);
    cr_expect_eq(flagshm_srm_ln_e(7, 5, 0.5), 0);
}

Test(evidence_math, more_variant_users_are_more_evidence_more_control_users_less)
{
    uint64_t a, b;

    for (a = 0; a < 60; a++)
        for (b = 0; b < 60; b++) {
            cr_assert(ln_e(a + 1, b, 0.05) > ln_e(a, b, 0.05));
            cr_assert(ln_e(a, b + 1, 0.05) < ln_e(a, b, 0.05));
        }
}

/* E is a martingale: the mean of E after the next label is E. */
Test(evidence_math, e_is_a_fair_game)
{
    static const double shares[] = {0.01, 0.05, 0.5, 0.75};
    size_t s;
    uint64_t a, b;

    for (s = 0; s < 4; s++)
        for (a = 0; a < 20; a++)
            for (b = 0; b < 20; b++) {
                double q = shares[s], mean = q * exp(ln_e(a + 1, b, q)) + (1 - q) * exp(ln_e(a, b + 1, q));

                cr_assert(is_near(mean, exp(ln_e(a, b, q))));
            }
}

Test(evidence_math, weights_and_alphas_sum_to_no_more_than_one)
{
    double levels = 0, windows = 0.5, alphas = 0;
    uint32_t i, planned;

    for (i = 0; i < FLAGSHM_LEVELS; i++) {
        double weight = i == 0 ? 0.5 : 0.5 / (i * (i + 1.0));

        cr_expect(is_near(flagshm_level_ln_weight(i), log(weight)));
        levels += weight;
    }
    cr_expect(levels < 1);
    cr_expect_eq(flagshm_level_ln_weight(FLAGSHM_LEVELS), -INFINITY);
    for (planned = 1; planned < 40; planned += 5) {
        windows = 0.5;
        for (i = 1; i < 100000; i++)
            windows += flagshm_window_weight(true, i, planned) + flagshm_window_weight(false, i, planned * 4);
        cr_expect(windows < 1 && windows > 0.9999, "%g", windows);
    }
    cr_expect(is_near(flagshm_window_weight(false, 3, 24), 0.8 / 24 / 3));
    cr_expect(is_near(flagshm_window_weight(true, 7, 6), 0.2 / 2 / 6));
    for (i = 1; i < 100000; i++)
        alphas += flagshm_alpha_nth(0.01, i);
    cr_expect(alphas < 0.01 && alphas > 0.00999);
}

/* ---- the judge ---- */

static struct flagshm_evidence evidence;
static struct flagshm_slot_counts counts;
static struct flagshm_slot_form form;
static struct flagshm_plan plan;
static struct flagshm_guards guards;
static struct flagshm_verdict verdict;
static struct flagshm_evidence_look look;
static char text[512];

static void guard_with(enum flagshm_guard_kind kind, const struct flagshm_limit *rollback,
                       const struct flagshm_limit *hold)
{
    struct flagshm_guardrail *g = &guards.list[guards.count++];

    memset(g, 0, sizeof *g);
    g->kind = kind;
    g->has_rollback = rollback != NULL;
    g->has_hold = hold != NULL;
    if (rollback != NULL)
        g->rollback = *rollback;
    if (hold != NULL)
        g->hold = *hold;
}

static void set_up(void)
{
    memset(&evidence, 0, sizeof evidence);
    memset(&counts, 0, sizeof counts);
    memset(&form, 0, sizeof form);
    memset(&plan, 0, sizeof plan);
    memset(&guards, 0, sizeof guards);
    plan.alpha = 0.01;
    counts.generation = 7;
    counts.arm_count = 2;
    form.arm_count = 2;
    look = (struct flagshm_evidence_look){.counts = &counts,
                                          .form = &form,
                                          .plan = &plan,
                                          .guards = &guards,
                                          .q = 0.05,
                                          .is_open = true,
                                          .n = 1,
                                          .hold_ns = 24 * HOUR,
                                          .opened_mono_ns = 100 * HOUR,
                                          .window_4h = 25,
                                          .window_1h = 100,
                                          .now_mono_ns = 100 * HOUR + 60 * SECOND};
}

static void judge(void)
{
    flagshm_evidence_judge(&evidence, &look, &verdict);
    (void)flagshm_verdict_explain(&verdict, &guards, text, sizeof text);
}

static void watch_errors(void)
{
    guard_with(FLAGSHM_GUARD_ERROR_RATE, &(struct flagshm_limit){.ratio = 2, .min_delta = 0.002}, NULL);
    flagshm_evidence_form(&guards, 60 * SECOND, &form);
}

/* So many users of each arm with one failed call, of so many calls. */
static void fail_users(uint32_t variant, uint32_t control, uint64_t calls_variant, uint64_t calls_control)
{
    counts.levels[0][0][1][0] = variant;
    counts.levels[0][0][0][0] = control;
    counts.capped_bad[1][0] = counts.arms[1].n[N(FAILED)] = variant;
    counts.capped_bad[0][0] = counts.arms[0].n[N(FAILED)] = control;
    counts.capped_calls[1] = counts.arms[1].n[N(FINISHED)] = calls_variant;
    counts.capped_calls[0] = counts.arms[0].n[N(FINISHED)] = calls_control;
}

TestSuite(evidence, .init = set_up);

Test(evidence, it_is_significant_from_the_threshold_on_and_not_before)
{
    double threshold = -log(0.5 * 0.5 * 0.005);
    uint32_t users = 0;

    watch_errors();
    counts.arms[1].n[N(FINISHED)] = 1;
    while (ln_e(users, 3, 0.05) < threshold)
        users++;
    fail_users(users - 1, 3, 100, 1900);
    judge();
    cr_expect(is_near(verdict.guards[0].threshold, threshold), "%g", verdict.guards[0].threshold);
    cr_expect(!verdict.guards[0].is_significant);
    fail_users(users, 3, 100, 1900);
    judge();
    cr_expect(verdict.guards[0].is_significant && verdict.guards[0].is_material);
    cr_expect(is_near(verdict.guards[0].ln_e, ln_e(users, 3, 0.05)));
    cr_expect_eq(verdict.guards[0].a, users);
    cr_expect_eq(verdict.guards[0].b, 3);
    cr_expect_not_null(strstr(text, "error_rate: of "), "%s", text);
    cr_expect_not_null(strstr(text, "have the variant, where chance gives 5 %"), "%s", text);
}

Test(evidence, nothing_is_concluded_where_all_or_none_have_the_variant_or_during_the_wash_in)
{
    watch_errors();
    fail_users(500, 3, 1000, 1900);
    look.is_open = false;
    judge();
    cr_expect(!verdict.guards[0].is_significant);
    look.is_open = true;
    look.q = 1;
    judge();
    cr_expect(!verdict.guards[0].is_significant);
    look.q = 0;
    judge();
    cr_expect(!verdict.guards[0].is_significant);
    look.q = NAN;
    judge();
    cr_expect(!verdict.guards[0].is_significant);
    look.q = 0.05;
    judge();
    cr_expect(verdict.guards[0].is_significant);
}

Test(evidence, each_evidence_of_an_attempt_has_its_own_part_of_alpha)
{
    watch_errors();
    fail_users(1, 0, 100, 1900);
    judge();
    cr_expect(is_near(verdict.guards[0].threshold, -log(0.25 * 0.01 / 2)));
    look.n = 4;
    judge();
    cr_expect(is_near(verdict.guards[0].threshold, -log(0.25 * 0.01 / 20)));
    guards.list[0].weight = 0.4;
    judge();
    cr_expect(is_near(verdict.guards[0].threshold, -log(0.25 * 0.01 / 20 * 0.4)));
}

Test(evidence, a_few_heavy_users_are_found_by_higher_levels)
{
    uint32_t level;

    watch_errors();
    fail_users(10, 100, 2000, 38000);
    for (level = 1; level < 6; level++) {
        counts.levels[0][0][1][level] = 9;
        counts.levels[0][0][0][level] = level < 3 ? 40 : 3;
    }
    judge();
    cr_expect(verdict.guards[0].is_significant);
    cr_expect_eq(verdict.guards[0].level, 3);
    cr_expect(is_near(verdict.guards[0].threshold, -log(0.5 / 12 * 0.5 * 0.005)));
    cr_expect_eq(verdict.guards[0].a, 9);
    cr_expect_eq(verdict.guards[0].b, 3);
}

Test(evidence, levels_agree_with_the_vectors)
{
    cJSON *json = read_vectors("levels.json");
    const cJSON *at, *event;

    watch_errors();
    form.signals[0].is_timed = false; /* the slot alone: its weight is 1 */
    cJSON_ArrayForEach(at, cJSON_GetObjectItemCaseSensitive(json, "cases"))
    {
        static struct flagshm_slot slot;
        uint32_t level, arm;

        memset(&slot, 0, sizeof slot);
        cJSON_ArrayForEach(event, cJSON_GetObjectItemCaseSensitive(at, "events_cell_arm"))
        {
            struct flagshm_booked_ b = {.slot = &slot,
                                        .id_hash = (uint64_t)cJSON_GetArrayItem(event, 0)->valueint};

            flagshm_cell_(&b, 0, 0, 0, (uint32_t)cJSON_GetArrayItem(event, 1)->valueint);
        }
        for (level = 0; level < FLAGSHM_LEVELS; level++)
            for (arm = 0; arm < 2; arm++) {
                counts.levels[0][0][arm][level] = slot.levels[0][0][arm][level];
                cr_expect_eq(slot.levels[0][0][arm][level],
                             (uint32_t)cJSON_GetArrayItem(
                                 cJSON_GetObjectItemCaseSensitive(at, arm == 0 ? "b" : "a"), (int)level)
                                 ->valueint);
            }
        look.q = number(at, "q");
        counts.generation++;
        judge();
        cr_expect(is_near(verdict.guards[0].ln_e - verdict.guards[0].threshold - log(0.005),
                          number(at, "max_over_levels_of_ln_w_plus_ln_e")),
                  "%.12g", verdict.guards[0].ln_e - verdict.guards[0].threshold - log(0.005));
    }
    cJSON_Delete(json);
}

Test(evidence, late_harm_is_found_in_the_window_where_it_happens)
{
    watch_errors();
    fail_users(50, 950, 100000, 1900000);
    judge();
    cr_expect(!verdict.guards[0].is_significant);
    look.now_mono_ns += 10 * HOUR;
    look.window_1h += 10;
    look.window_4h += 2;
    memset(counts.levels[0][3], 0, sizeof counts.levels[0][3]);
    memset(counts.levels[0][1], 0, sizeof counts.levels[0][1]);
    judge();
    counts.levels[0][3][1][0] = 12;
    counts.levels[0][3][0][0] = 3;
    counts.capped_bad[1][0] += 12;
    counts.capped_bad[0][0] += 3;
    counts.capped_calls[1] += 100;
    counts.capped_calls[0] += 1900;
    look.now_mono_ns += SECOND;
    judge();
    cr_expect(verdict.guards[0].is_significant && verdict.guards[0].is_material, "%s", text);
    cr_expect_eq(verdict.guards[0].window, 2);
    cr_expect(is_near(verdict.guards[0].threshold, -log(0.5 * 0.8 / 24 / 3 * 0.005)));
    cr_expect(is_near(verdict.guards[0].rate_variant, 0.12), "rates are those of the window: %g",
              verdict.guards[0].rate_variant);
    cr_expect_not_null(strstr(text, "of the last hour"), "%s", text);
    look.window_1h += 15; /* beyond the planned 24: the 26th */
    counts.levels[0][4][1][0] = 12;
    counts.levels[0][4][0][0] = 3;
    judge();
    cr_expect(is_near(verdict.guards[0].threshold, -log(0.5 * 0.2 / 6 / 3 * 0.005)), "%g",
              verdict.guards[0].threshold);
}

Test(evidence, a_trip_must_be_material)
{
    watch_errors();
    fail_users(2000, 20000, 2000000, 38000000); /* twice as many: 0.1 % and 0.053 %, below min_delta */
    judge();
    cr_expect(verdict.guards[0].is_significant && !verdict.guards[0].is_material);
    guards.list[0].rollback.min_delta = 0.0004;
    fail_users(4000, 38000, 2000000, 38000000); /* exactly twice */
    judge();
    cr_expect(verdict.guards[0].is_significant && verdict.guards[0].is_material);
    cr_expect(is_near(verdict.guards[0].ratio_high, 2 * exp(1.64 * sqrt(1 / 4000.0 + 1 / 38000.0))));
    fail_users(3600, 38000, 2000000, 38000000); /* 1.8 times: the data exclude 2 */
    judge();
    cr_expect(verdict.guards[0].is_significant && !verdict.guards[0].is_material);
    guards.list[0].rollback = (struct flagshm_limit){.drop = 0.001};
    fail_users(200, 100, 1000, 19000);
    judge();
    cr_expect(verdict.guards[0].is_material, "delta and drop are plain differences");
    guards.list[0].rollback = (struct flagshm_limit){.delta = 0.25};
    judge();
    cr_expect(!verdict.guards[0].is_material);
}

Test(evidence, users_who_only_call_more_are_no_harm)
{
    watch_errors();
    look.q = 0.5;
    fail_users(95, 40, 8000, 4000); /* more than twice as many users with an error; 1.19 and 1 % of calls */
    judge();
    cr_expect(verdict.guards[0].is_significant && !verdict.guards[0].is_material);
    cr_expect(verdict.guards[0].ratio_high < 2);
    fail_users(60, 12, 8000, 2800); /* 1.75 times, and 2 is not excluded: but nor is 1 */
    judge();
    cr_expect(verdict.guards[0].is_significant && !verdict.guards[0].is_material);
    cr_expect(verdict.guards[0].ratio_high > 2);
    fail_users(90, 18, 8000, 4000);
    judge();
    cr_expect(verdict.guards[0].is_significant && verdict.guards[0].is_material);
    fail_users(95, 40, 8000, 8000); /* 2.4 times, of many */
    judge();
    cr_expect(verdict.guards[0].is_significant && verdict.guards[0].is_material);
}

Test(evidence, holding_has_an_alpha_of_its_own)
{
    guard_with(FLAGSHM_GUARD_REFUSAL, NULL, &(struct flagshm_limit){.ratio = 1.5, .min_delta = 0.003});
    guard_with(FLAGSHM_GUARD_EMPTY, NULL, &(struct flagshm_limit){.ratio = 1.5, .min_delta = 0.003});
    flagshm_evidence_form(&guards, 60 * SECOND, &form);
    cr_expect(!form.signals[0].is_timed);
    fail_users(4, 0, 100, 1900);
    judge();
    cr_expect(verdict.guards[0].holds, "%s", text);
    cr_expect(!verdict.guards[0].is_significant && !verdict.guards[1].holds);
    cr_expect(is_near(verdict.guards[0].hold_threshold, -log(0.5 * 0.05 / 2 / 2)),
              "the slot alone; two share 0.05");
    cr_expect_not_null(strstr(text, "refusal: of 4 users with a refusal, 4 have the variant"), "%s", text);
}

Test(evidence, a_form_has_a_signal_for_each_event_and_two_for_each_amount_and_always_fits)
{
    static const enum flagshm_guard_kind kinds[] = {FLAGSHM_GUARD_LATENCY_P95,  FLAGSHM_GUARD_TTFT_P95,
                                                    FLAGSHM_GUARD_TOKENS_TOTAL, FLAGSHM_GUARD_TOKENS_OUT,
                                                    FLAGSHM_GUARD_ERROR_RATE,   FLAGSHM_GUARD_LOST,
                                                    FLAGSHM_GUARD_CUSTOM,       FLAGSHM_GUARD_EMPTY};
    uint32_t i, tables = 0;

    for (i = 0; i < 8; i++)
        guard_with(kinds[i], &(struct flagshm_limit){.ratio = 2}, NULL);
    guards.list[6].custom_index = 5;
    flagshm_evidence_form(&guards, 60 * SECOND, &form);
    cr_assert_eq(form.signal_count, 12);
    cr_expect_eq(form.overdue_ns, 60 * SECOND);
    for (i = 0; i < form.signal_count; i++)
        tables +=
            (form.signals[i].is_timed ? 5u : 1u) + (form.signals[i].kind == FLAGSHM_SIGNAL_LOST ? 4u : 0u);
    cr_expect(tables <= FLAGSHM_CELL_TABLES, "%u", tables);
    cr_expect_eq(form.signals[10].kind, FLAGSHM_SIGNAL_CUSTOM + 5);
}

/* ---- amounts ---- */

static void fill_histogram(uint32_t arm, uint32_t histogram, uint64_t value, uint64_t calls)
{
    counts.arms[arm].histograms[histogram][flagshm_bucket_of_(value)] += calls;
}

Test(evidence, edges_leave_two_to_forty_percent_of_control_above)
{
    uint64_t h[FLAGSHM_HISTOGRAM_BUCKETS] = {0}, edges[2];
    uint32_t i;

    flagshm_evidence_edges(h, false, edges);
    cr_expect(edges[0] == 0 && edges[1] == 0);
    h[40] = 1000; /* all alike: nothing can be cut */
    flagshm_evidence_edges(h, false, edges);
    cr_expect(edges[0] == 0 && edges[1] == 0);
    memset(h, 0, sizeof h);
    for (i = 0; i < 100; i++)
        h[30 + i] = 10;
    flagshm_evidence_edges(h, false, edges);
    cr_expect_eq(edges[0], flagshm_bucket_low_(105) - 1);
    cr_expect_eq(edges[1], flagshm_bucket_low_(125) - 1);
    flagshm_evidence_edges(h, true, edges);
    cr_expect_eq(edges[0], flagshm_bucket_low_(120) - 1);
    memset(h, 0, sizeof h);
    h[20] = 70; /* p95 lies in the last bucket: the next edge down has 30 % above */
    h[50] = 30;
    flagshm_evidence_edges(h, false, edges);
    cr_expect_eq(edges[0], flagshm_bucket_low_(50) - 1);
    cr_expect_eq(edges[1], 0, "the same edge twice is one");
    memset(h, 0, sizeof h);
    h[FLAGSHM_HISTOGRAM_BUCKETS - 1] = 30; /* which has no upper edge */
    h[100] = 70;
    flagshm_evidence_edges(h, false, edges);
    cr_expect_eq(edges[0], flagshm_bucket_low_(FLAGSHM_HISTOGRAM_BUCKETS - 1) - 1);
}

static void watch_amounts(void)
{
    guard_with(FLAGSHM_GUARD_TOKENS_TOTAL, &(struct flagshm_limit){.ratio = 2},
               &(struct flagshm_limit){.ratio = 1.2});
    guard_with(FLAGSHM_GUARD_LATENCY_P95, &(struct flagshm_limit){.ratio = 1.5, .min_delta = 2000}, NULL);
    flagshm_evidence_form(&guards, 60 * SECOND, &form);
}

Test(evidence, thresholds_are_chosen_once_from_enough_calls_of_enough_users)
{
    uint64_t thresholds[FLAGSHM_SIGNALS_MAX] = {0}, first;

    watch_amounts();
    fill_histogram(0, FLAGSHM_H_TOKENS, 1000, 150);
    fill_histogram(0, FLAGSHM_H_TOKENS, 2000, 49);
    counts.distinct = 400;
    judge();
    cr_expect_eq(flagshm_evidence_choose(&evidence, &look, NULL, thresholds), 0, "199 calls");
    fill_histogram(0, FLAGSHM_H_TOKENS, 2000, 1);
    counts.distinct = 52;
    cr_expect_eq(flagshm_evidence_choose(&evidence, &look, NULL, thresholds), 0, "49 users of control");
    counts.distinct = 53;
    cr_expect_eq(flagshm_evidence_choose(&evidence, &look, NULL, thresholds), 1);
    first = thresholds[0];
    cr_expect(first >= 1000 && first < 2000, "%llu", (unsigned long long)first);
    fill_histogram(0, FLAGSHM_H_TOKENS, 9000, 20);
    cr_expect_eq(flagshm_evidence_choose(&evidence, &look, NULL, thresholds), 0, "it stays");
    look.now_mono_ns += 60 * SECOND;
    judge();
    counts.generation++; /* the next slot is cut by what the one before knew */
    judge();
    memset(counts.arms, 0, sizeof counts.arms);
    cr_expect_eq(flagshm_evidence_choose(&evidence, &look, NULL, thresholds) & 3, 1);
}

Test(evidence, amounts_trip_by_their_own_alternatives_at_half_weight_a_threshold)
{
    struct flagshm_odds odds;

    watch_amounts();
    flagshm_odds_amounts(&odds, 0.05);
    evidence.generation = 7; /* known thresholds, as after a restart */
    fill_histogram(0, FLAGSHM_H_TOKENS, 1000, 9000);
    fill_histogram(0, FLAGSHM_H_TOKENS, 3000, 1000);
    fill_histogram(1, FLAGSHM_H_TOKENS, 3000, 400);
    fill_histogram(1, FLAGSHM_H_TOKENS, 1000, 100);
    counts.levels[0][0][1][0] = 80;
    counts.levels[0][0][0][0] = 400;
    judge();
    cr_expect(verdict.guards[0].is_significant && verdict.guards[0].is_material, "%s", text);
    cr_expect(is_near(verdict.guards[0].ln_e, flagshm_odds_ln_e(&odds, 80, 400)));
    cr_expect(is_near(verdict.guards[0].threshold, -log(0.5 * 0.5 * 0.5 * 0.005 / 2)));
    cr_expect(verdict.guards[0].holds);
    cr_expect(verdict.guards[0].rate_variant > 2000 && verdict.guards[0].rate_control < 1300);
    cr_expect_not_null(strstr(text, "tokens_total: of 480 users with a long call"), "%s", text);
    counts.arms[1].histograms[FLAGSHM_H_TOKENS][flagshm_bucket_of_(3000)] = 20; /* 1.36 times */
    counts.arms[1].histograms[FLAGSHM_H_TOKENS][flagshm_bucket_of_(1000)] = 480;
    counts.arms[1].histograms[FLAGSHM_H_TOKENS][flagshm_bucket_of_(3000)] += 100;
    judge();
    cr_expect(verdict.guards[0].is_significant && !verdict.guards[0].is_material, "%g",
              verdict.guards[0].ratio_high);
    cr_expect(verdict.guards[0].holds);
}

Test(evidence, one_giant_call_moves_no_mean)
{
    watch_amounts();
    fill_histogram(0, FLAGSHM_H_TOKENS, 1000, 10000);
    fill_histogram(1, FLAGSHM_H_TOKENS, 1000, 999);
    fill_histogram(1, FLAGSHM_H_TOKENS, 10000000, 1);
    judge();
    cr_expect(verdict.guards[0].rate_variant < 1.02 * verdict.guards[0].rate_control, "%g",
              verdict.guards[0].rate_variant);
}

Test(evidence, a_quantile_is_judged_in_milliseconds_with_its_error)
{
    watch_amounts();
    fill_histogram(0, FLAGSHM_H_LATENCY, (1000 * MS) >> FLAGSHM_TIME_SHIFT, 10000);
    fill_histogram(1, FLAGSHM_H_LATENCY, (3500 * MS) >> FLAGSHM_TIME_SHIFT, 500);
    counts.levels[2][0][1][0] = 40;
    judge();
    cr_expect(fabs(verdict.guards[1].rate_control - 1000) < 65, "%g", verdict.guards[1].rate_control);
    cr_expect(fabs(verdict.guards[1].rate_variant - 3500) < 220, "%g", verdict.guards[1].rate_variant);
    cr_expect(verdict.guards[1].is_significant && verdict.guards[1].is_material, "%s", text);
    guards.list[1].rollback.min_delta = 3000;
    judge();
    cr_expect(!verdict.guards[1].is_material);
}

Test(evidence, the_wash_in_is_twice_control_s_p99)
{
    cr_expect_eq(flagshm_evidence_wash_in_ns(&evidence), 60 * SECOND);
    watch_amounts();
    counts.distinct = 1000;
    fill_histogram(0, FLAGSHM_H_LATENCY, (8000 * MS) >> FLAGSHM_TIME_SHIFT, 500);
    judge();
    cr_expect(fabs((double)flagshm_evidence_wash_in_ns(&evidence) / 1e9 - 16) < 1);
    memset(&evidence, 0, sizeof evidence);
    memset(counts.arms, 0, sizeof counts.arms);
    fill_histogram(0, FLAGSHM_H_LATENCY, (80 * MS) >> FLAGSHM_TIME_SHIFT, 500);
    judge();
    cr_expect_eq(flagshm_evidence_wash_in_ns(&evidence), 10 * SECOND);
    memset(&evidence, 0, sizeof evidence);
    memset(counts.arms, 0, sizeof counts.arms);
    fill_histogram(0, FLAGSHM_H_LATENCY, (900000 * MS) >> FLAGSHM_TIME_SHIFT, 500);
    judge();
    cr_expect_eq(flagshm_evidence_wash_in_ns(&evidence), 600 * SECOND);
}

/* ---- shadow ---- */

Test(evidence, shadow_pairs_are_judged_at_even_odds)
{
    watch_errors();
    look.is_shadow = true;
    look.q = 0;
    counts.arms[2].n[N(FINISHED)] = 400;
    counts.arms[2].n[N(FAILED)] = 60;
    counts.arms[0].n[N(FINISHED)] = 4000;
    counts.arms[0].n[N(FAILED)] = 40;
    counts.levels[0][0][1][0] = 60;
    counts.levels[0][0][0][0] = 4;
    judge();
    cr_expect(is_near(verdict.q, 0.5));
    cr_expect(is_near(verdict.guards[0].ln_e, ln_e(60, 4, 0.5)));
    cr_expect(verdict.guards[0].is_significant && verdict.guards[0].is_material, "%s", text);
    cr_expect_not_null(
        strstr(text, "of 64 users with a failed call in one answer of a pair, it is the variant's for 60"),
        "%s", text);
    cr_expect_eq(verdict.shadow_pairs, 400);
    cr_expect(is_near(verdict.guards[0].rate_variant, 0.15) && is_near(verdict.guards[0].rate_control, 0.01));
    cr_expect(!verdict.has_breaker && !verdict.has_srm);
}

/* ---- users ---- */

Test(evidence, users_who_do_not_split_as_they_must_are_seen_at_started_only)
{
    watch_errors();
    counts.arms[1].n[N(USERS_STARTED)] = 280;
    counts.arms[0].n[N(USERS_STARTED)] = 6820;
    judge();
    cr_expect(!verdict.has_srm && !verdict.uses_started, "nobody books STARTED");
    counts.arms[0].n[N(STARTED)] = 1;
    judge();
    cr_expect(!verdict.has_srm, "ln E is 6.79");
    cr_expect(is_near(verdict.srm_ln_e, 6.786083016636439));
    counts.arms[1].n[N(USERS_STARTED)] = 275;
    judge();
    cr_expect(verdict.has_srm);
    cr_expect_not_null(strstr(text, "sample ratio: 3.88 % of users"), "%s", text);
}

Test(evidence, ids_of_requests_are_noticed_after_a_day_and_a_thousand)
{
    watch_errors();
    counts.distinct = 2000;
    counts.arms[0].n[N(FINISHED)] = 2050;
    look.now_mono_ns = look.opened_mono_ns + 23 * HOUR;
    judge();
    cr_expect(!verdict.is_request_id && verdict.calls_per_id == 0);
    look.now_mono_ns += HOUR;
    judge();
    cr_expect(verdict.is_request_id, "%g", verdict.calls_per_id);
    look.is_session = true;
    judge();
    cr_expect(!verdict.is_request_id);
    look.is_session = false;
    counts.distinct = 999;
    counts.arms[0].n[N(FINISHED)] = 1000;
    judge();
    cr_expect(!verdict.is_request_id);
}

Test(evidence, what_is_ruled_out_grows_with_users_and_agrees_with_the_rates)
{
    watch_errors();
    judge();
    cr_expect_eq(verdict.guards[0].ruled_out, 0);
    cr_expect(verdict.guards[0].users_to_2x > 1000, "%g", verdict.guards[0].users_to_2x);
    fail_users(1, 19, 100, 1900);
    judge();
    cr_expect(verdict.guards[0].ruled_out == 0 || verdict.guards[0].ruled_out > 3);
    fail_users(30, 570, 3000, 57000);
    judge();
    cr_expect(verdict.guards[0].ruled_out <= 2, "%g", verdict.guards[0].ruled_out);
    cr_expect_eq(verdict.guards[0].users_to_2x, 0);
    cr_expect_not_null(strstr(text, "no harm seen"), "%s", text);
    counts.capped_bad[1][0] = 300; /* as many users, but each of the variant's fails ten times as often */
    judge();
    cr_expect(verdict.guards[0].ruled_out == 0 || verdict.guards[0].ruled_out > 10, "%g",
              verdict.guards[0].ruled_out);
}

/* ---- the breaker ---- */

static void book(uint32_t arm, uint64_t calls, uint64_t failed, uint64_t new_users)
{
    counts.arms[arm].n[N(FINISHED)] += calls;
    counts.arms[arm].n[N(FAILED)] += failed;
    counts.arms[arm].n[N(USERS_FINISHED)] += new_users;
    if (arm == 1)
        counts.levels[0][0][1][0] += (uint32_t)(failed < new_users ? failed : new_users);
}

Test(evidence, the_breaker_needs_ten_failures_of_five_users_beside_a_sound_control)
{
    static const struct {
        const char *what;
        uint64_t variant_calls, variant_users, control_calls, control_failed, control_users;
        bool breaks, is_thin;
    } cases[] = {
        {"enough", 10, 5, 20, 3, 5, true, false},
        {"nine calls", 9, 5, 20, 3, 5, false, false},
        {"four users", 10, 4, 20, 3, 5, false, true},
        {"nineteen of control", 10, 5, 19, 3, 5, false, false},
        {"four of control", 10, 5, 20, 3, 4, false, false},
        {"control at 20 %", 10, 5, 20, 4, 5, false, false},
        {"outage of both", 50, 20, 100, 100, 50, false, false},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        set_up();
        watch_errors();
        look.q = 0.25;
        look.is_open = false; /* it judges the wash-in too */
        book(0, 1000, 10, 500);
        book(1, 300, 0, 100);
        judge();
        look.now_mono_ns += SECOND;
        book(0, cases[i].control_calls, cases[i].control_failed, cases[i].control_users);
        book(1, cases[i].variant_calls, cases[i].variant_calls, cases[i].variant_users);
        judge();
        cr_expect_eq(verdict.has_breaker, cases[i].breaks, "%s", cases[i].what);
        cr_expect_eq(verdict.has_thin_breaker, cases[i].is_thin, "%s", cases[i].what);
    }
    set_up();
    watch_errors();
    look.q = 0.25;
    book(0, 1000, 10, 500);
    book(1, 300, 0, 100);
    judge();
    book(0, 20, 0, 5);
    book(1, 10, 10, 5);
    judge();
    cr_expect(verdict.has_breaker);
    cr_expect_not_null(
        strstr(text, "breaker: the variant's last 10 calls, of at least 5 users, all failed, while 0 of 20"),
        "%s", text);
    book(1, 1, 0, 0); /* a success ends the stretch */
    judge();
    cr_expect(!verdict.has_breaker && !verdict.has_thin_breaker);
}

Test(evidence, control_s_calls_count_in_the_same_stretch_only)
{
    watch_errors();
    look.q = 0.25;
    book(0, 100000, 10, 5000);
    book(1, 30000, 0, 1000);
    judge();
    book(1, 500, 500, 100); /* control is silent meanwhile: both may be down */
    judge();
    cr_expect(!verdict.has_breaker && !verdict.has_thin_breaker);
}

Test(evidence, in_the_wash_in_users_are_known_by_the_slot_s_ids)
{
    watch_errors();
    look.q = 0.05;
    look.is_open = false;
    counts.arms[0].n[N(FINISHED)] = 2000;
    counts.arms[1].n[N(FINISHED)] = counts.arms[1].n[N(FAILED)] = 40;
    counts.distinct = 150; /* 7 of the variant, give or take 5 */
    judge();
    cr_expect(!verdict.has_breaker && verdict.has_thin_breaker);
    counts.distinct = 400;
    judge();
    cr_expect(verdict.has_breaker);
}

Test(evidence, a_limit_met_counts_as_failure_for_the_breaker)
{
    watch_errors();
    look.q = 0.25;
    book(0, 1000, 10, 500);
    book(1, 300, 0, 100);
    judge();
    book(0, 40, 0, 20);
    counts.arms[1].n[N(FINISHED)] += 12;
    counts.arms[1].n[N(LIMITED)] += 12;
    counts.arms[1].n[N(USERS_FINISHED)] += 12;
    judge();
    cr_expect(verdict.has_breaker);
}

Test(evidence, without_a_control_twenty_failures_in_a_row_break)
{
    watch_errors();
    look.q = 1;
    book(1, 300, 0, 100);
    judge();
    book(1, 19, 19, 6);
    judge();
    cr_expect(!verdict.has_breaker);
    book(1, 1, 1, 0);
    judge();
    cr_expect(verdict.has_breaker);
}

Test(evidence, both_arms_failing_conclude_nothing)
{
    watch_errors();
    look.q = 0.25;
    book(0, 100, 20, 50);
    book(1, 30, 30, 20);
    judge();
    cr_expect(verdict.is_both_bad && !verdict.has_breaker);
    book(0, 1, 0, 0);
    judge();
    cr_expect(!verdict.is_both_bad);
}

Test(evidence, capacity_is_the_variant_s_429_beside_control_s)
{
    uint64_t *variant = counts.arms[1].n, *control = counts.arms[0].n;

    watch_errors();
    look.q = 0.25;
    variant[N(FINISHED)] = 250;
    variant[N(LIMITED)] = 5;
    control[N(FINISHED)] = 1000;
    control[N(LIMITED)] = 10;
    judge();
    cr_expect(verdict.is_limited && !verdict.is_both_limited);
    control[N(LIMITED)] = 11;
    judge();
    cr_expect(!verdict.is_limited && !verdict.is_both_limited, "twice as much, or it is nothing");
    control[N(LIMITED)] = 20;
    judge();
    cr_expect(!verdict.is_limited && verdict.is_both_limited);
    variant[N(FINISHED)] = 251;
    judge();
    cr_expect(!verdict.is_limited && !verdict.is_both_limited);
    look.now_mono_ns += 400 * SECOND;
    judge();
    look.now_mono_ns += 400 * SECOND;
    variant[N(FINISHED)] += 100;
    judge();
    cr_expect_eq(verdict.limited_variant, 0, "over five minutes");
}

Test(evidence, absolute_limits_need_their_time_and_users)
{
    unsigned second;

    watch_errors();
    guards.list[0].has_absolute = true;
    guards.list[0].absolute_max = 0.1;
    look.q = 1;
    for (second = 0; second <= 300; second += 10) {
        judge();
        if (second < 300)
            cr_expect(!verdict.guards[0].is_absolute, "%u s", second);
        book(1, 10, 3, second < 50);
        look.now_mono_ns += 10 * SECOND;
    }
    judge();
    cr_expect(verdict.guards[0].is_absolute, "%s", text);
    cr_expect(is_near(verdict.guards[0].absolute_at, 0.3));
    cr_expect_not_null(strstr(text, "over the absolute limit of 10 %"), "%s", text);
}

Test(evidence, at_full_share_control_s_last_rate_sets_the_limit)
{
    watch_errors();
    fail_users(20, 380, 1000, 19000); /* 2 % */
    judge();
    counts.generation++;
    memset(counts.arms, 0, sizeof counts.arms);
    memset(counts.levels, 0, sizeof counts.levels);
    look.q = 1;
    judge();
    cr_expect(is_near(verdict.guards[0].absolute, 0.07), "%g", verdict.guards[0].absolute);
    counts.generation++;
    evidence.control_rates[FLAGSHM_GUARD_ERROR_RATE] = 0.05;
    judge();
    cr_expect(is_near(verdict.guards[0].absolute, 0.15));
    look.now_mono_ns += 301 * SECOND;
    book(1, 100, 16, 20);
    judge();
    cr_expect(verdict.guards[0].is_absolute);
}

/* ---- hostile bytes, time ---- */

Test(evidence, any_bytes_give_a_verdict)
{
    static const enum flagshm_guard_kind kinds[] = {FLAGSHM_GUARD_ERROR_RATE, FLAGSHM_GUARD_LATENCY_P95,
                                                    FLAGSHM_GUARD_TOKENS_TOTAL, FLAGSHM_GUARD_LOST,
                                                    FLAGSHM_GUARD_CUSTOM};
    uint64_t state = 88172645463325252u, thresholds[FLAGSHM_SIGNALS_MAX];
    unsigned round;
    size_t i;

    for (i = 0; i < 5; i++) {
        guard_with(kinds[i], &(struct flagshm_limit){.ratio = 2}, &(struct flagshm_limit){.delta = 0.1});
        guards.list[i].has_absolute = true;
        guards.list[i].absolute_max = 1;
    }
    flagshm_evidence_form(&guards, 60 * SECOND, &form);
    for (round = 0; round < 300; round++) {
        for (i = 0; i < sizeof counts / 8; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            memcpy((char *)&counts + i * 8, &state, 8);
        }
        counts.generation = 7;
        counts.arm_count = 2;
        look.q = (double)(round % 5) / 4;
        look.is_shadow = round % 3 == 0;
        look.now_mono_ns = state;
        look.window_1h = (uint32_t)state;
        judge();
        for (i = 0; i < guards.count; i++) {
            cr_assert(!isnan(verdict.guards[i].ln_e) && !isnan(verdict.guards[i].threshold));
            (void)flagshm_guard_explain(&verdict, &guards, (uint32_t)i, text, sizeof text);
        }
        (void)flagshm_evidence_choose(&evidence, &look, NULL, thresholds);
        (void)flagshm_evidence_wash_in_ns(&evidence);
    }
}

Test(evidence, the_same_looks_give_the_same_verdicts)
{
    static struct flagshm_verdict first[50];
    unsigned pass, i;

    for (pass = 0; pass < 2; pass++) {
        set_up();
        watch_errors();
        for (i = 0; i < 50; i++) {
            fail_users(i, i * 3, 100 + i * 20, 1900 + i * 380);
            look.now_mono_ns += 100 * SECOND;
            judge();
            if (pass == 0)
                first[i] = verdict;
            else
                cr_assert_eq(memcmp(&first[i], &verdict, sizeof verdict), 0);
        }
    }
}

Test(evidence, news_of_outcomes_carries_its_time)
{
    watch_errors();
    judge();
    cr_expect_eq(verdict.last_outcome_mono_ns, 0);
    book(0, 1, 0, 1);
    judge();
    cr_expect_eq(verdict.last_outcome_mono_ns, look.now_mono_ns);
    look.now_mono_ns += HOUR;
    judge();
    cr_expect_eq(verdict.last_outcome_mono_ns, look.now_mono_ns - HOUR);
}
