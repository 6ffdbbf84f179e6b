/* What takes a variant away, what does not, and what holds it there. */
#include "tests/rollout_fixture.h"

/* At 25 % (step 3 of 5). */
static struct world *at_25(void)
{
    struct world *w = world_new();

    world_reach(w, 25000);
    world_tick(w);
    return w;
}

static struct world *at_100(void)
{
    struct world *w = world_new();

    world_reach(w, 100000);
    world_tick(w);
    return w;
}

Test(rollout_back, harm_takes_it_to_0_and_says_why_with_numbers)
{
    struct world *w = at_25();

    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_GUARDRAIL);
    cr_assert(w->changed.is_lowering && w->changed.is_told);
    cr_assert_eq(w->changed.from_mpct, 25000);
    cr_assert_eq(w->changed.to_mpct, 0);
    cr_assert_eq(w->changed.guard, 0);
    cr_assert_eq(w->changed.numbers.a, 9);
    cr_assert_not_null(strstr(w->changed.sentence, "rolled back from 25 % to 0 %: error_rate"), "%s",
                       w->changed.sentence);
    cr_assert_not_null(strstr(w->changed.sentence, "6.1 %"), "%s", w->changed.sentence);
    cr_assert_not_null(strstr(w->changed.sentence, "19.2"), "%s", w->changed.sentence);
    cr_assert_str_eq(w->s.why, w->changed.sentence);
    cr_assert_not(world_run(w, DAY), "and there it stays, without another word");
    free(w);
}

Test(rollout_back, the_first_look_is_early_enough)
{
    struct world *w = world_new();

    world_reach(w, 1000);
    w->users = 1;
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK);
    free(w);
}

Test(rollout_back, harm_must_be_sure_and_large_and_of_a_guardrail_that_rolls_back)
{
    struct world *w = at_25();

    world_harm(w, 0);
    w->look.verdict.guards[0].is_material = false;
    cr_assert_not(world_tick(w));
    w->look.verdict.guards[0].is_material = true;
    w->look.verdict.guards[0].is_significant = false;
    cr_assert_not(world_tick(w));
    world_plan(w, PLAN, "[{\"kind\": \"lost\"}]");
    world_edit(w);
    world_heal(w);
    world_harm(w, 0);
    cr_assert_not(world_tick(w), "it only holds");
    world_plan(w, PLAN, "[{\"kind\": \"error_rate\", \"mode\": \"observe\"}]");
    world_edit(w);
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_WOULD_ROLL_BACK);
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    free(w);
}

Test(rollout_back, nothing_blocks_a_comparison)
{
    struct world *w = at_25();

    world_say(w, FLAGSHM_VERB_PAUSE);
    w->look.is_frozen = true;
    w->look.verdict.is_tainted = true;
    w->look.verdict.is_both_bad = true;
    w->look.verdict.has_srm = true;
    w->look.verdict.is_both_limited = true;
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    free(w);
}

/* All at once, then one less each time: what comes first is said first. */
Test(rollout_back, the_order_of_judgement_is_that_of_the_manual)
{
    struct world *w;
    int gone;

    for (gone = 0; gone < 7; gone++) {
        static const enum flagshm_cause causes[] = {
            FLAGSHM_CAUSE_NONE /* killed */, FLAGSHM_CAUSE_NONE /* latched */, FLAGSHM_CAUSE_GUARDRAIL,
            FLAGSHM_CAUSE_STEPPED_BACK,      FLAGSHM_CAUSE_BOTH_ARMS_BAD,      FLAGSHM_CAUSE_BREAKER,
            FLAGSHM_CAUSE_ABSOLUTE};
        struct flagshm_verdict *v;

        w = at_25();
        world_pass(w, 59 * MINUTE); /* a look before it would advance */
        v = &w->look.verdict;
        if (gone < 1)
            world_say(w, FLAGSHM_VERB_KILL);
        if (gone < 2)
            world_say(w, FLAGSHM_VERB_ROLLBACK);
        if (gone < 3)
            world_harm(w, 0);
        v->is_limited = gone < 4;
        v->is_both_bad = gone < 5;
        v->has_breaker = gone < 6;
        v->guards[1].is_absolute = true;
        v->guards[2].holds = true;
        v->has_srm = true;
        cr_assert_eq(world_tick(w), causes[gone] != FLAGSHM_CAUSE_NONE, "%d", gone);
        cr_assert_eq(w->last.transition.cause, causes[gone], "%d: %s", gone, w->last.transition.sentence);
        free(w);
    }
}

/* ---- breaker, absolute limits, both arms ---- */

Test(rollout_back, a_breaker_rolls_back_at_once)
{
    struct world *w = at_25();

    w->look.verdict.has_breaker = true;
    w->look.verdict.stretch_variant_bad = 12;
    w->look.verdict.stretch_variant_users = 6;
    w->look.verdict.stretch_control_calls = 40;
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_BREAKER);
    cr_assert_not_null(strstr(w->changed.sentence,
                              "last 12 calls, of 6 users, all failed, while 0 of 40 calls of control did"),
                       "%s", w->changed.sentence);
    free(w);
}

Test(rollout_back, a_thin_breaker_holds_and_tells_once)
{
    struct world *w = at_25();

    w->look.verdict.has_thin_breaker = true;
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_THIN_BREAKER);
    cr_assert(w->changed.is_told);
    cr_assert_not(world_run(w, 5 * HOUR));
    cr_assert_eq(w->last.waits, BIT(BREAKER));
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    free(w);
}

Test(rollout_back, both_arms_failing_alike_is_no_harm_at_any_share)
{
    static const uint32_t shares[] = {1000, 5000, 25000, 50000};
    size_t i;

    for (i = 0; i < 4; i++) {
        struct world *w = world_new();

        world_reach(w, shares[i]);
        w->look.verdict.is_both_bad = true;
        w->look.verdict.has_breaker = true;
        w->look.verdict.guards[0].is_absolute = true;
        cr_assert(world_tick(w));
        cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_BOTH_ARMS_BAD);
        cr_assert_not(world_run(w, 5 * HOUR));
        cr_assert(w->last.waits & BIT(BOTH_ARMS_BAD));
        cr_assert_eq(flagshm_rollout_share(&w->s), shares[i]);
        world_heal(w);
        cr_assert(world_run(w, HOUR));
        cr_assert_gt(flagshm_rollout_share(&w->s), shares[i], "when it is over, it goes on");
        free(w);
    }
}

Test(rollout_back, control_failing_a_little_and_the_variant_wholly_is_harm)
{
    struct world *w = at_25();

    w->look.verdict.is_both_bad = true;
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK);
    free(w);
}

Test(rollout_back, an_absolute_limit_rolls_back_below_100)
{
    struct world *w = at_25();

    w->look.verdict.guards[1].is_absolute = true;
    w->look.verdict.guards[1].absolute = 0.1;
    w->look.verdict.guards[1].absolute_at = 0.4;
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_ABSOLUTE);
    cr_assert_not_null(strstr(w->changed.sentence, "json_valid"), "%s", w->changed.sentence);
    free(w);
}

/* ---- 100 % ---- */

Test(rollout_back, at_100_a_probe_asks_control_first)
{
    struct world *w = at_100();
    char word[24];

    w->look.verdict.has_breaker = true;
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_PROBE);
    cr_assert_eq(flagshm_rollout_share(&w->s), 50000);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_FULL);
    flagshm_rollout_stage_word(&w->s, word);
    cr_assert_str_eq(word, "probe-50pct");
    world_heal(w);
    world_tick(w);
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK,
                 "control is well, the variant is not");
    free(w);
}

Test(rollout_back, where_control_is_no_better_a_probe_returns_to_100)
{
    struct world *w = at_100();

    w->look.verdict.guards[0].is_absolute = true;
    cr_assert(world_tick(w));
    world_heal(w);
    w->look.verdict.is_both_bad = true;
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_PROBE_ENDED);
    cr_assert_eq(flagshm_rollout_share(&w->s), 100000);
    cr_assert_not_null(strstr(w->changed.sentence, "control is no better"), "%s", w->changed.sentence);
    world_heal(w);
    w->look.verdict.guards[0].is_absolute = true;
    cr_assert_not(world_run(w, 9 * MINUTE), "not again at once");
    cr_assert(w->last.waits & BIT(BOTH_ARMS_BAD));
    cr_assert(world_run(w, 2 * MINUTE));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_PROBE);
    free(w);
}

Test(rollout_back, a_probe_lasts_ten_minutes_at_most)
{
    struct world *w = at_100();

    w->look.verdict.has_breaker = true;
    world_tick(w);
    world_heal(w);
    cr_assert_not(world_run(w, 10 * MINUTE - 2 * TICK));
    cr_assert(world_run(w, 3 * TICK));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_PROBE_ENDED);
    cr_assert_eq(flagshm_rollout_share(&w->s), 100000);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_FULL);
    free(w);
}

Test(rollout_back, an_absolute_limit_in_a_probe_waits_for_control)
{
    struct world *w = at_100();

    w->look.verdict.has_breaker = true;
    world_tick(w);
    world_heal(w);
    w->look.verdict.guards[0].is_absolute = true;
    world_tick(w);
    cr_assert_eq(flagshm_rollout_share(&w->s), 50000, "control has answered too little");
    w->look.verdict.control_calls = 20;
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK);
    free(w);
}

Test(rollout_back, what_is_complete_is_not_watched_and_can_be_rolled_back_by_hand)
{
    struct world *w = at_100();

    world_pass(w, 3 * HOUR);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_COMPLETE);
    w->look.verdict.has_breaker = true;
    cr_assert_not(world_run(w, HOUR));
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ROLLBACK), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    free(w);
}

Test(rollout_back, a_signal_delays_completion)
{
    struct world *w = at_100();

    world_pass(w, 2 * HOUR - MINUTE);
    w->look.verdict.guards[3].holds = true;
    world_tick(w);
    w->look.verdict.guards[3].holds = false;
    cr_assert_not(world_run(w, HOUR - 2 * MINUTE));
    cr_assert(w->last.waits & BIT(SIGNAL));
    cr_assert(world_run(w, 3 * MINUTE));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_COMPLETED);
    free(w);
}

/* ---- capacity ---- */

Test(rollout_back, a_storm_of_429_steps_back_once_and_latches_nothing)
{
    struct world *w = at_25();

    w->look.verdict.is_limited = true;
    w->look.verdict.limited_variant = 0.05;
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_STEPPED_BACK);
    cr_assert(w->changed.is_lowering);
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    cr_assert_not(flagshm_rollout_is_latched(&w->s));
    world_heal(w);
    cr_assert_not(world_run(w, HOUR - MINUTE));
    cr_assert(w->last.waits & BIT(CAPACITY));
    cr_assert(world_run(w, 2 * MINUTE));
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    free(w);
}

Test(rollout_back, never_below_the_first_step)
{
    struct world *w = world_new();

    world_reach(w, 1000);
    w->look.verdict.is_limited = true;
    cr_assert_not(world_run(w, 5 * HOUR));
    cr_assert_eq(w->last.waits, BIT(CAPACITY));
    cr_assert_eq(flagshm_rollout_share(&w->s), 1000);
    free(w);
}

Test(rollout_back, both_limited_it_holds)
{
    struct world *w = at_25();

    w->look.verdict.is_limited = w->look.verdict.is_both_limited = true;
    cr_assert_not(world_run(w, 5 * HOUR));
    cr_assert_eq(w->last.waits, BIT(CAPACITY));
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    free(w);
}

Test(rollout_back, the_third_step_back_in_a_day_pauses)
{
    struct world *w = at_25();
    int i;

    for (i = 0; i < 3; i++) {
        cr_assert_not(w->s.is_paused);
        world_reach(w, 25000);
        world_tick(w);
        w->look.verdict.is_limited = true;
        cr_assert(world_tick(w));
        world_heal(w);
    }
    cr_assert(w->s.is_paused);
    cr_assert_not_null(strstr(w->changed.sentence, "third time"), "%s", w->changed.sentence);
    cr_assert_not(world_run(w, 2 * DAY));
    cr_assert_eq(w->last.waits, BIT(PAUSED));
    free(w);
}

Test(rollout_back, three_step_backs_in_two_days_do_not_pause)
{
    struct world *w = at_25();
    int i;

    for (i = 0; i < 4; i++) {
        world_reach(w, 25000);
        world_tick(w);
        w->look.verdict.is_limited = true;
        cr_assert(world_tick(w));
        world_heal(w);
        w->look.is_frozen = true;
        world_pass(w, 13 * HOUR);
        w->look.is_frozen = false;
    }
    cr_assert_not(w->s.is_paused);
    free(w);
}

/* ---- what only holds ---- */

Test(rollout_back, broken_splits_and_scribbles_hold)
{
    struct world *w = at_25();

    w->look.verdict.has_srm = true;
    cr_assert_not(world_run(w, 3 * HOUR));
    cr_assert_eq(w->last.waits, BIT(SRM));
    world_heal(w);
    w->look.verdict.misbooked = 1;
    cr_assert_not(world_run(w, 3 * HOUR));
    cr_assert_eq(w->last.waits, BIT(SRM));
    world_heal(w);
    w->look.verdict.is_tainted = true;
    cr_assert_not(world_run(w, 3 * HOUR));
    cr_assert_eq(w->last.waits, BIT(TAINTED));
    free(w);
}

Test(rollout_back, a_signal_holds_for_an_hour_after_its_last_sign)
{
    struct world *w = at_25();

    w->look.verdict.guards[3].holds = true;
    cr_assert(world_tick(w), "it is told, once");
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_SIGNAL);
    cr_assert_not(world_run(w, 5 * HOUR));
    cr_assert_eq(w->last.waits, BIT(SIGNAL));
    cr_assert_eq(w->last.signals, 1u << FLAGSHM_GUARD_TOKENS_TOTAL);
    w->look.verdict.guards[3].holds = false;
    cr_assert_not(world_run(w, HOUR - MINUTE));
    cr_assert(world_run(w, 2 * MINUTE));
    cr_assert_eq(flagshm_rollout_share(&w->s), 50000);
    free(w);
}

Test(rollout_back, an_observed_guardrail_holds_nothing)
{
    struct world *w = world_make(PLAN, "[{\"kind\": \"lost\", \"mode\": \"observe\"}]");

    world_reach(w, 1000);
    w->look.verdict.guards[0].holds = true;
    cr_assert(world_run(w, HOUR + MINUTE));
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    free(w);
}

Test(rollout_back, forced_users_and_lower_latency_are_not_its_business)
{
    struct world *w = at_25();

    w->look.verdict.guards[2].rate_variant = 10;
    w->look.verdict.guards[2].rate_control = 4000;
    cr_assert_not(world_run(w, 30 * MINUTE));
    cr_assert_eq(w->last.waits, BIT(HOLD));
    free(w);
}

/* ---- waive ---- */

Test(rollout_back, a_wait_is_waived_for_a_time_and_no_latch_or_kill_ever_is)
{
    struct world *w = at_25();

    w->look.verdict.has_srm = true;
    world_pass(w, 3 * HOUR);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_WAIVE, .wait = FLAGSHM_WAIT_SRM}),
                 -EINVAL, "for how long?");
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_WAIVE,
                                                   .wait = FLAGSHM_WAIT_SRM,
                                                   .for_ns = HOUR,
                                                   .reason = ""}),
                 -EINVAL, "why?");
    cr_assert_eq(
        world_ask(w,
                  (struct flagshm_ask){.verb = FLAGSHM_VERB_WAIVE, .wait = FLAGSHM_WAIT_SRM, .for_ns = HOUR}),
        0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 50000);
    world_tick(w);
    cr_assert_eq(w->last.waived, BIT(SRM));
    cr_assert_not(world_run(w, 3 * HOUR), "it has run out");
    cr_assert_eq(w->last.waits, BIT(SRM));
    cr_assert_eq(
        world_ask(
            w, (struct flagshm_ask){.verb = FLAGSHM_VERB_WAIVE, .wait = FLAGSHM_WAIT_MODE, .for_ns = HOUR}),
        -EINVAL);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_WAIVE,
                                                   .wait = FLAGSHM_WAIT_FILE_CAP,
                                                   .for_ns = HOUR}),
                 -EINVAL);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_WAIVE,
                                                   .wait = FLAGSHM_WAIT_PLAN_END,
                                                   .for_ns = HOUR}),
                 -EINVAL);
    free(w);
}

Test(rollout_back, what_the_file_forbids_no_state_waives)
{
    struct world *w =
        world_make("{\"plan\": [{\"pct\": 5}], \"hold\": \"1h\", \"mode\": \"guard\"}", "\"default\"");
    int i;

    for (i = 0; i < FLAGSHM_WAITS; i++)
        w->s.waived_until_wall_ns[i] = UINT64_MAX;
    cr_assert_not(world_run(w, HOUR));
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    world_say(w, FLAGSHM_VERB_ADVANCE);
    cr_assert_not(world_run(w, 3 * HOUR));
    cr_assert_eq(w->last.waits, BIT(MODE) | BIT(PLAN_END));
    free(w);
}

Test(rollout_back, the_hold_can_be_waived)
{
    struct world *w = at_25();

    cr_assert_eq(
        world_ask(
            w, (struct flagshm_ask){.verb = FLAGSHM_VERB_WAIVE, .wait = FLAGSHM_WAIT_HOLD, .for_ns = MINUTE}),
        0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 50000);
    free(w);
}

/* ---- the latch ---- */

Test(rollout_back, the_latch_is_of_the_value)
{
    struct world *w = at_25();

    world_harm(w, 0);
    world_tick(w);
    world_heal(w);
    cr_assert_not(world_edit(w), "saved again");
    w->file.cap_mpct = 50000;
    world_edit(w);
    world_plan(w, "{\"plan\": [{\"pct\": 2}, {\"pct\": 100}], \"hold\": \"1s\"}", "[{\"kind\": \"lost\"}]");
    world_edit(w);
    w->file.control_fingerprint = 0xaa;
    world_edit(w);
    world_pass(w, DAY);
    cr_assert_eq(flagshm_rollout_share(&w->s), 0, "saved again, edited in all ways but one");
    w->file.variant_fingerprint = 0xc;
    cr_assert(world_edit(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_VALUE_NEW);
    cr_assert_eq(w->s.attempt, 2);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_OFF, "a new attempt, from the first step");
    world_tick(w);
    cr_assert_eq(flagshm_rollout_share(&w->s), 2000);
    cr_assert_eq(w->s.evidence, 1);
    w->file.variant_fingerprint = 0xb;
    cr_assert(world_edit(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_VALUE_LATCHED, "the old value has not become better");
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    free(w);
}

Test(rollout_back, eight_values_are_remembered)
{
    struct world *w = world_new();
    uint64_t value;

    for (value = 0x100; value < 0x10a; value++) {
        w->file.variant_fingerprint = value;
        world_edit(w);
        cr_assert_eq(world_say(w, FLAGSHM_VERB_ROLLBACK), 0);
    }
    cr_assert_eq(w->s.latched_count, 8);
    w->file.variant_fingerprint = 0x102;
    world_edit(w);
    cr_assert(flagshm_rollout_is_latched(&w->s));
    w->file.variant_fingerprint = 0x101;
    world_edit(w);
    cr_assert_not(flagshm_rollout_is_latched(&w->s));
    free(w);
}

Test(rollout_back, clear_begins_anew_or_resumes_at_ten_percent_at_most)
{
    struct world *w = at_25();

    world_harm(w, 0);
    world_tick(w);
    world_heal(w);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_CLEAR, .reason = ""}), -EINVAL,
                 "a reason is asked for");
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_CLEAR), 0);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_OFF);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_CLEAR), -EALREADY);
    world_reach(w, 25000);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ROLLBACK), 0);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ROLLBACK), -EALREADY);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_CLEAR, .is_resume = true}), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000, "the highest step up to 10 %%");
    world_say(w, FLAGSHM_VERB_ROLLBACK);
    w->s.before_mpct = 1000;
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_CLEAR, .is_resume = true}), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 1000, "not above the old step");
    free(w);
}

/* ---- kills ---- */

Test(rollout_back, a_kill_lies_over_everything_and_what_was_below_is_still_there)
{
    struct world *w = at_25();

    cr_assert_eq(world_say(w, FLAGSHM_VERB_KILL), 0);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_KILL), -EALREADY);
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_KILLED);
    cr_assert_not(world_run(w, DAY));
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ADVANCE), -EPERM);
    cr_assert_not_null(strstr(w->changed.sentence, "flagctl unkill f"), "%s", w->changed.sentence);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_UNKILL, .is_resume = true}), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_UNKILL), -EALREADY);
    world_reach(w, 25000);
    world_say(w, FLAGSHM_VERB_KILL);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_UNKILL), 0);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_OFF);
    free(w);
}

Test(rollout_back, an_unkill_lifts_no_latch)
{
    struct world *w = at_25();

    world_say(w, FLAGSHM_VERB_KILL);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ROLLBACK), 0, "also while killed");
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_KILLED);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_UNKILL, .is_resume = true}), 0);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK);
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    free(w);
}

Test(rollout_back, stopping_is_legal_in_every_state)
{
    static const uint32_t shares[] = {0, 1000, 25000, 100000};
    size_t i;

    for (i = 0; i < 4; i++) {
        struct world *w = world_new();

        if (shares[i] > 0)
            world_reach(w, shares[i]);
        cr_assert_eq(world_say(w, FLAGSHM_VERB_ROLLBACK), 0);
        cr_assert_eq(flagshm_rollout_share(&w->s), 0);
        cr_assert_eq(world_say(w, FLAGSHM_VERB_KILL), 0);
        free(w);
    }
}

/* ---- by hand ---- */

Test(rollout_back, a_person_goes_on_by_hand_but_not_over_a_latch_or_the_cap)
{
    struct world *w = world_new();

    world_reach(w, 1000);
    world_say(w, FLAGSHM_VERB_PAUSE);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ADVANCE), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = 7000}), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 7000, "between two steps");
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = 7000}), -EINVAL);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = 5000}), -EINVAL,
                 "that is no advance");
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ADVANCE), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    w->file.cap_mpct = 30000;
    world_edit(w);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = 100000}), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 30000);
    cr_assert_not_null(strstr(w->changed.sentence, "cap of 30 %"), "%s", w->changed.sentence);
    world_say(w, FLAGSHM_VERB_ROLLBACK);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ADVANCE), -EPERM);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_APPROVE), -EPERM);
    cr_assert_not_null(strstr(w->changed.sentence, "flagctl clear f"), "%s", w->changed.sentence);
    free(w);
}

Test(rollout_back, the_one_who_asked_and_why_stand_in_the_record)
{
    struct world *w = at_25();

    cr_assert_eq(
        world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_ROLLBACK, .user = "bob", .reason = "tickets"}),
        0);
    cr_assert_str_eq(w->changed.user, "bob");
    cr_assert_str_eq(w->changed.sentence, "rolled back from 25 % to 0 %: by bob, tickets");
    free(w);
}

/* ---- drills ---- */

Test(rollout_back, a_live_drill_ends_by_itself_in_two_seconds)
{
    struct world *w = at_25();
    uint64_t held = w->s.hold_ns;

    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_DRILL, .for_ns = HOUR}), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_DRILL), -EALREADY);
    flagshm_moment_tick(&w->look.now, w->look.now.mono_ns + SECOND, w->look.now.wall_ns + SECOND);
    cr_assert_not(world_look(w));
    flagshm_moment_tick(&w->look.now, w->look.now.mono_ns + SECOND, w->look.now.wall_ns + SECOND);
    cr_assert(world_look(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_DRILL_ENDED);
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    cr_assert_geq(w->s.hold_ns, held, "the hold goes on");
    free(w);
}

Test(rollout_back, nobody_advances_into_a_drill_or_a_probe)
{
    struct world *w = at_25();

    world_say(w, FLAGSHM_VERB_DRILL);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ADVANCE), -EPERM);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ROLLBACK), 0, "but back it goes");
    cr_assert_not(w->s.is_drilling);
    free(w);
    w = world_make("{\"plan\": [{\"pct\": 100}], \"hold\": \"1h\"}", "\"default\"");
    world_reach(w, 100000);
    w->look.verdict.has_breaker = true;
    world_tick(w);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ADVANCE), -EPERM);
    free(w);
}

Test(rollout_back, a_drill_is_remembered)
{
    struct world *w = at_25();
    uint64_t wall = w->look.now.wall_ns;

    cr_assert_not(flagshm_rollout_is_undrilled(&w->s, &w->plan, wall));
    cr_assert(flagshm_rollout_is_undrilled(&w->s, &w->plan, w->s.seen_wall_ns + 7 * DAY));
    cr_assert_eq(world_say(w, FLAGSHM_VERB_DRILL), 0);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_DRILL_END, .drill_ns = 1500000}), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    cr_assert_eq(w->s.drill_took_ns, 1500000);
    cr_assert_not_null(strstr(w->changed.sentence, "1.500 ms"), "%s", w->changed.sentence);
    cr_assert_not(flagshm_rollout_is_undrilled(&w->s, &w->plan, wall + 6 * DAY));
    cr_assert(flagshm_rollout_is_undrilled(&w->s, &w->plan, wall + 8 * DAY));
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_DRILL_END, .has_failed = true}), 0);
    cr_assert(flagshm_rollout_is_undrilled(&w->s, &w->plan, wall));
    free(w);
}

Test(rollout_back, thirty_days_at_100_are_stale)
{
    struct world *w = at_100();
    uint64_t wall = w->look.now.wall_ns;

    cr_assert_not(flagshm_rollout_is_stale(&w->s, wall + 29 * DAY));
    cr_assert(flagshm_rollout_is_stale(&w->s, wall + 30 * DAY));
    w->look.verdict.has_breaker = true;
    world_tick(w);
    world_heal(w);
    world_pass(w, 15 * MINUTE);
    cr_assert(flagshm_rollout_is_stale(&w->s, wall + 30 * DAY), "a probe is no change");
    world_say(w, FLAGSHM_VERB_ROLLBACK);
    cr_assert_not(flagshm_rollout_is_stale(&w->s, wall + 90 * DAY));
    free(w);
}
