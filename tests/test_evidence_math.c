/* evidence_math: the formulas against vectors made elsewhere, at their ends, and as the fair games that they must be. */
#include "evidence_fixture.h"

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
    static const uint64_t users[] = {0, 1, 1000, 1000000000, UINT64_C(1000000000000)};
    size_t s, i, j;

    for (s = 0; s < sizeof shares / sizeof *shares; s++)
        for (i = 0; i < 5; i++)
            for (j = 0; j < 5; j++) {
                struct flagshm_odds odds;
                double e, bound;

                flagshm_odds_amounts(&odds, shares[s]);
                cr_expect(isfinite(flagshm_odds_ln_e(&odds, users[i], users[j])));
                flagshm_odds_mirror(&odds, shares[s], 2);
                cr_expect(isfinite(flagshm_odds_ln_e(&odds, users[i], users[j])));
                flagshm_odds_events(&odds, shares[s]);
                e = flagshm_odds_ln_e(&odds, users[i], users[j]);
                bound = flagshm_odds_bound(&odds, users[i], users[j]);
                cr_expect(isfinite(e));
                cr_expect(bound >= e - 1e-9 * fabs(e) && bound <= e + odds.ln_count + 1e-9 * (1 + fabs(e)));
                cr_expect(isfinite(flagshm_srm_ln_e(users[i], users[i] + users[j], shares[s])));
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

/* Medians of simulations made elsewhere: share 5 %, base rate 1 %, a call a user. */
Test(evidence_math, users_to_notice_agree_with_simulations)
{
    static const struct {
        double ratio, alone, judged; /* alpha 0.01; four guardrails of even weight in the first slot */
    } figures[] = {{2, 1360, 2411}, {3, 400, 711}, {5, 123, 235}, {10, 47, 74}, {100, 4, 5}};
    double judged = flagshm_alpha_first_events(0.01, 1, 0.25);
    size_t i;

    cr_expect(is_near(judged, 0.01 / 2 / 4 / 2 / 2));
    for (i = 0; i < sizeof figures / sizeof *figures; i++) {
        double alone = flagshm_users_to_notice(0.05, figures[i].ratio, 0.01, 0.01),
               slot = flagshm_users_to_notice(0.05, figures[i].ratio, 0.01, judged);

        cr_expect(fabs(alone - figures[i].alone) < 0.15 * figures[i].alone + 0.5, "%gx: %g, not %g",
                  figures[i].ratio, alone, figures[i].alone);
        cr_expect(fabs(slot - figures[i].judged) < 0.15 * figures[i].judged + 0.5, "%gx: %g, not %g",
                  figures[i].ratio, slot, figures[i].judged);
    }
}

Test(evidence_math, users_to_notice_at_its_ends)
{
    double few = flagshm_users_to_notice(0.00001, 2, 0.01, 1e-3), more;

    /* The same where the share is next to nothing; never, where there is nothing to notice or to compare. */
    more = flagshm_users_to_notice(0.001, 2, 0.01, 1e-3);
    cr_expect(fabs(few - more) < 0.02 * more, "%g %g", few, more);
    cr_expect(flagshm_users_to_notice(0.05, 2, 0.001, 1e-3) >
              8 * flagshm_users_to_notice(0.05, 2, 0.01, 1e-3));
    cr_expect(flagshm_users_to_notice(0.05, 2, 0.01, 1e-5) > flagshm_users_to_notice(0.05, 2, 0.01, 1e-3));
    cr_expect(flagshm_users_to_notice(0.75, 2, 0.01, 1e-3) < 1e5);
    cr_expect_eq(flagshm_users_to_notice(0.05, 1.05, 0.01, 1e-3), INFINITY);
    cr_expect_eq(flagshm_users_to_notice(0.05, 1, 0.01, 1e-3), INFINITY);
    cr_expect_eq(flagshm_users_to_notice(0, 2, 0.01, 1e-3), INFINITY);
    cr_expect_eq(flagshm_users_to_notice(1, 2, 0.01, 1e-3), INFINITY);
    cr_expect_eq(flagshm_users_to_notice(0.05, 2, 0, 1e-3), INFINITY);
    cr_expect_eq(flagshm_users_to_notice(0.05, NAN, 0.01, NAN), INFINITY);
}
