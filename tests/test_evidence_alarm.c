/* evidence_alarm: what ends or holds a rollout beside the evidence: breaker, both arms, capacity, absolute limits; and hostile bytes. */
#include "evidence_fixture.h"

TestSuite(evidence_alarm, .init = set_up);

/* ---- the breaker ---- */

static void book(uint32_t arm, uint64_t calls, uint64_t failed, uint64_t new_users)
{
    counts.arms[arm].n[N(FINISHED)] += calls;
    counts.arms[arm].n[N(FAILED)] += failed;
    counts.arms[arm].n[N(USERS_FINISHED)] += new_users;
    if (arm == 1)
        counts.levels[0][0][1][0] += (uint32_t)(failed < new_users ? failed : new_users);
}

Test(evidence_alarm, the_breaker_needs_ten_failures_of_five_users_beside_a_sound_control)
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

Test(evidence_alarm, control_s_calls_count_in_the_same_stretch_only)
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

Test(evidence_alarm, in_the_wash_in_users_are_known_by_the_slot_s_ids)
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

Test(evidence_alarm, a_limit_met_counts_as_failure_for_the_breaker)
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

Test(evidence_alarm, without_a_control_twenty_failures_in_a_row_break)
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

Test(evidence_alarm, both_arms_failing_conclude_nothing)
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

Test(evidence_alarm, capacity_is_the_variant_s_429_beside_control_s)
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

Test(evidence_alarm, absolute_limits_need_their_time_and_users)
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

Test(evidence_alarm, at_full_share_control_s_last_rate_sets_the_limit)
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

Test(evidence_alarm, any_bytes_give_a_verdict)
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

Test(evidence_alarm, the_same_looks_give_the_same_verdicts)
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

Test(evidence_alarm, news_of_outcomes_carries_its_time)
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
