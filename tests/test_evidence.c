/* evidence: each rule of the judge at its edge. */
#include "evidence_fixture.h"

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

Test(evidence, outcomes_of_an_arm_that_its_bucket_does_not_allow_are_told)
{
    watch_errors();
    judge();
    cr_expect_eq(verdict.misbooked, 0);
    counts.arms[0].n[N(MISBOOKED)] = 3;
    counts.arms[1].n[N(MISBOOKED)] = 4;
    judge();
    cr_expect_eq(verdict.misbooked, 7);
    cr_expect_not_null(strstr(text, "7 outcomes are booked for an arm that their bucket does not allow"),
                       "%s", text);
}

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
