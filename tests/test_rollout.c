/* How a plan is walked, and what stops it. */
#include "tests/rollout_fixture.h"

/* ---- up ---- */

Test(rollout, a_plan_begins_at_once_and_is_walked_step_by_step_to_the_end)
{
    static const uint32_t shares[] = {1000, 5000, 25000, 50000, 100000};
    struct world *w = world_new();
    size_t i;

    cr_assert_eq(flagshm_rollout_share(&w->s), 0, "a new plan serves nobody before its first look");
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_OFF);
    for (i = 0; i < 5; i++) {
        cr_assert(world_run(w, HOUR + MINUTE), "step %zu", i);
        cr_assert_eq(flagshm_rollout_share(&w->s), shares[i]);
        cr_assert_eq(w->changed.cause, i == 0 ? FLAGSHM_CAUSE_STARTED : FLAGSHM_CAUSE_ADVANCED);
        cr_assert_not(w->changed.is_lowering);
        cr_assert_eq(w->s.evidence, i + 1, "each share has its own evidence");
    }
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_FULL);
    cr_assert_not(world_run(w, 2 * HOUR - MINUTE));
    cr_assert(world_run(w, 2 * MINUTE));
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_COMPLETE);
    cr_assert_eq(flagshm_rollout_share(&w->s), 100000);
    cr_assert_not_null(strstr(w->changed.sentence, "flagctl finish f"), "%s", w->changed.sentence);
    cr_assert_not(world_run(w, DAY));
    free(w);
}

Test(rollout, a_hold_is_as_long_as_it_says)
{
    struct world *w = world_new();

    world_reach(w, 1000);
    cr_assert_not(world_run(w, HOUR - MINUTE));
    cr_assert_eq(w->last.waits, BIT(HOLD));
    cr_assert_leq(w->last.hold_left_ns, MINUTE + 2 * TICK);
    cr_assert(world_run(w, MINUTE + TICK));
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    free(w);
}

Test(rollout, shadow_steps_come_first_and_serve_nobody)
{
    struct world *w =
        world_make("{\"plan\": [{\"shadow_pct\": 10}, {\"shadow_pct\": 50}, {\"pct\": 5}], \"hold\": \"1h\"}",
                   "\"default\"");
    char word[24];

    world_tick(w);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_SHADOW);
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    cr_assert_eq(flagshm_rollout_shadow(&w->s), 10000);
    flagshm_rollout_stage_word(&w->s, word);
    cr_assert_str_eq(word, "shadow-10pct");
    cr_assert(world_run(w, HOUR + MINUTE));
    cr_assert_eq(flagshm_rollout_shadow(&w->s), 50000);
    cr_assert(world_run(w, HOUR + MINUTE));
    cr_assert_eq(flagshm_rollout_shadow(&w->s), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    free(w);
}

Test(rollout, without_a_pair_a_shadow_step_waits_and_says_so)
{
    struct world *w =
        world_make("{\"plan\": [{\"shadow_pct\": 10}, {\"pct\": 5}], \"hold\": \"1h\"}", "\"default\"");

    world_tick(w);
    w->users = 0;
    cr_assert_not(world_run(w, 5 * HOUR));
    cr_assert_eq(w->last.waits, BIT(NO_PAIRS));
    w->users = 1;
    cr_assert(world_run(w, MINUTE));
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    free(w);
}

Test(rollout, a_trip_ends_shadow_and_holds_but_does_not_latch)
{
    struct world *w =
        world_make("{\"plan\": [{\"shadow_pct\": 10}, {\"pct\": 5}], \"hold\": \"1h\"}", "\"default\"");

    world_tick(w);
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_SHADOW_ENDED);
    cr_assert(w->changed.is_lowering);
    cr_assert_eq(flagshm_rollout_shadow(&w->s), 0);
    cr_assert_not(flagshm_rollout_is_latched(&w->s));
    world_heal(w);
    cr_assert_not(world_run(w, 12 * HOUR));
    cr_assert(w->last.waits & BIT(SIGNAL));
    cr_assert_eq(world_say(w, FLAGSHM_VERB_CLEAR), 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_shadow(&w->s), 10000, "a person lets it shadow again");
    world_harm(w, 0);
    world_tick(w);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ADVANCE), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000, "or goes on");
    free(w);
}

Test(rollout, stage_words_are_those_of_the_manual)
{
    static const struct {
        uint32_t mpct;
        const char *word;
    } cases[] = {{1000, "canary-1pct"},
                 {5000, "canary-5pct"},
                 {25000, "ramp-25pct"},
                 {50000, "ramp-50pct"},
                 {100000, "full"}};
    struct world *w = world_new();
    char word[24];
    bool is_probe, is_drill;
    size_t i;

    flagshm_rollout_stage_word(&w->s, word);
    cr_assert_str_eq(word, "off");
    for (i = 0; i < 5; i++) {
        world_reach(w, cases[i].mpct);
        flagshm_rollout_stage_word(&w->s, word);
        cr_assert_str_eq(word, cases[i].word);
    }
    cr_assert_eq(flagshm_stage_from_word(word, &is_probe, &is_drill), FLAGSHM_STAGE_FULL);
    world_pass(w, 3 * HOUR);
    flagshm_rollout_stage_word(&w->s, word);
    cr_assert_str_eq(word, "complete");
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ROLLBACK), 0);
    flagshm_rollout_stage_word(&w->s, word);
    cr_assert_str_eq(word, "rolled-back");
    cr_assert_eq(flagshm_stage_from_word(word, &is_probe, &is_drill), FLAGSHM_STAGE_ROLLED_BACK);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_KILL), 0);
    flagshm_rollout_stage_word(&w->s, word);
    cr_assert_str_eq(word, "killed");
    free(w);
    w = world_make("", "\"default\"");
    w->file.cap_mpct = 10000;
    world_edit(w);
    flagshm_rollout_stage_word(&w->s, word);
    cr_assert_str_eq(word, "static-10pct");
    free(w);
}

Test(rollout, ten_percent_is_still_a_canary)
{
    struct world *w =
        world_make("{\"plan\": [{\"pct\": 10}, {\"pct\": 10.001}], \"hold\": \"1h\"}", "\"default\"");
    char word[24];

    world_tick(w);
    flagshm_rollout_stage_word(&w->s, word);
    cr_assert_str_eq(word, "canary-10pct");
    cr_assert_eq(w->plan.steps[0].min_users, 20);
    world_reach(w, 10001);
    flagshm_rollout_stage_word(&w->s, word);
    cr_assert_str_eq(word, "ramp-10.001pct");
    cr_assert_eq(w->plan.steps[1].min_users, 100);
    free(w);
}

Test(rollout, a_plan_that_ends_below_the_top_stays_there)
{
    struct world *w =
        world_make("{\"plan\": [{\"pct\": 5}, {\"pct\": 20}], \"hold\": \"1h\"}", "\"default\"");

    world_reach(w, 20000);
    cr_assert_not(world_run(w, DAY));
    cr_assert_eq(w->last.waits, BIT(PLAN_END));
    free(w);
}

Test(rollout, what_is_held_back_stays_with_control_at_the_top)
{
    struct world *w = world_make(
        "{\"plan\": [{\"pct\": 50}, {\"pct\": 100}], \"hold\": \"1h\", \"holdback_pct\": 2}", "\"default\"");

    world_reach(w, 98000);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_FULL);
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK,
                 "there is a control: no probe is needed");
    free(w);
}

/* ---- users ---- */

Test(rollout, twenty_users_are_waited_for_up_to_ten_percent)
{
    struct world *w = world_new();

    world_reach(w, 1000);
    w->users = 19;
    cr_assert_not(world_run(w, HOUR + 5 * MINUTE));
    cr_assert_eq(w->last.waits, BIT(MIN_USERS));
    cr_assert_eq(w->last.users, 19);
    cr_assert_eq(w->last.min_users, 20);
    w->users = 20;
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_ADVANCED);
    free(w);
}

Test(rollout, two_holds_short_of_users_a_canary_goes_on_and_says_how_thin_it_was)
{
    struct world *w = world_new();

    world_reach(w, 1000);
    w->users = 4;
    cr_assert_not(world_run(w, 2 * HOUR - MINUTE));
    cr_assert(world_run(w, 2 * MINUTE));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_ADVANCED_THIN);
    cr_assert_not_null(strstr(w->changed.sentence, "thin: 4 users, only total failure was visible"), "%s",
                       w->changed.sentence);
    free(w);
}

Test(rollout, above_ten_percent_it_needs_the_users_or_an_approval)
{
    struct world *w = world_new();

    world_reach(w, 25000);
    w->users = 99;
    cr_assert_not(world_run(w, 5 * HOUR));
    cr_assert_eq(w->last.waits, BIT(MIN_USERS));
    cr_assert_eq(world_say(w, FLAGSHM_VERB_APPROVE), 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 50000);
    free(w);
}

Test(rollout, what_must_be_proven_is_waited_for_above_ten_percent_only)
{
    struct world *w = world_make("{\"plan\": [{\"pct\": 5}, {\"pct\": 10}, {\"pct\": 25}], \"hold\": \"1h\","
                                 " \"prove\": {\"error_rate\": 3}}",
                                 "\"default\"");

    world_reach(w, 10000);
    cr_assert_not(world_run(w, 5 * HOUR));
    cr_assert_eq(w->last.waits, BIT(PROVE));
    w->look.verdict.guards[0].ruled_out = 5;
    cr_assert_not(world_run(w, HOUR));
    w->look.verdict.guards[0].ruled_out = 3;
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    free(w);
}

/* ---- time that does not count ---- */

Test(rollout, no_hold_counts_while_the_server_is_down)
{
    struct world *w = world_new();
    struct flagshm_rollout_served served = {
        .fingerprint = 0xb, .share_mpct = 1000, .stage = FLAGSHM_STAGE_STEP, .is_slot_kept = true};
    uint64_t held;

    world_reach(w, 1000);
    world_pass(w, 30 * MINUTE);
    held = w->s.hold_ns;
    cr_assert_not(world_restart(w, 3 * HOUR, &served, false), "nothing to say");
    cr_assert_eq(w->s.hold_ns, held);
    world_look(w);
    cr_assert_eq(w->s.hold_ns, held, "the first look only begins");
    cr_assert_not(world_run(w, 29 * MINUTE));
    cr_assert(world_run(w, 3 * MINUTE));
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000, "three holds of downtime: one watched step");
    cr_assert_not(world_run(w, 59 * MINUTE));
    free(w);
}

Test(rollout, after_a_start_it_watches_before_it_rises)
{
    struct world *w = world_new();
    struct flagshm_rollout_served served = {
        .fingerprint = 0xb, .share_mpct = 1000, .stage = FLAGSHM_STAGE_STEP, .is_slot_kept = true};

    world_reach(w, 1000);
    w->look.is_frozen = true;
    world_pass(w, 3 * HOUR);
    w->look.is_frozen = false;
    world_restart(w, HOUR, &served, false);
    cr_assert_not(world_tick(w));
    cr_assert_eq(w->last.waits, BIT(RECOVERING));
    cr_assert_not(world_run(w, MINUTE - 2 * TICK));
    cr_assert(world_run(w, 3 * TICK));
    free(w);
}

Test(rollout, what_was_complete_at_a_start_begins_a_new_attempt_without_recovering)
{
    struct world *w = world_new();
    struct flagshm_rollout_served served = {
        .fingerprint = 0xb, .share_mpct = 100000, .stage = FLAGSHM_STAGE_COMPLETE};

    world_reach(w, 100000);
    world_pass(w, 3 * HOUR);
    world_restart(w, MINUTE, &served, false);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_COMPLETE);
    world_pass(w, HOUR);
    w->file.control_fingerprint = 0xb;
    w->file.variant_fingerprint = 0xc;
    cr_assert(world_edit(w));
    cr_assert(world_tick(w), "waits for %x", w->last.waits);
    cr_assert_eq(flagshm_rollout_share(&w->s), 1000);
    free(w);
}

Test(rollout, jumps_suspends_and_gaps_add_nothing)
{
    static const struct {
        const char *what;
        uint64_t mono_ns, wall_ns;
        bool is_back;
    } cases[] = {{"the clock is set forth", TICK, 5 * HOUR, false},
                 {"the clock is set back", TICK, 5 * HOUR, true},
                 {"a suspend", TICK, 10 * HOUR, false},
                 {"the server was stopped", 3 * HOUR, 3 * HOUR, false}};
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *w = world_new();
        uint64_t held, wall;

        world_reach(w, 1000);
        world_pass(w, 30 * MINUTE);
        held = w->s.hold_ns;
        wall = w->look.now.wall_ns;
        flagshm_moment_tick(&w->look.now, w->look.now.mono_ns + cases[i].mono_ns,
                            cases[i].is_back ? wall - cases[i].wall_ns : wall + cases[i].wall_ns);
        cr_assert_not(world_look(w), "%s", cases[i].what);
        cr_assert_eq(w->s.hold_ns, held, "%s", cases[i].what);
        cr_assert_not(world_run(w, 29 * MINUTE), "%s", cases[i].what);
        cr_assert(world_run(w, 2 * MINUTE), "%s", cases[i].what);
        free(w);
    }
}

Test(rollout, traffic_that_stops_mid_stage_stops_the_plan)
{
    struct world *w = world_new();

    world_reach(w, 5000);
    world_pass(w, 20 * MINUTE);
    w->has_traffic = w->has_outcomes = false;
    cr_assert_not(world_run(w, 20 * DAY));
    cr_assert_eq(w->last.waits, BIT(NO_TRAFFIC));
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    w->has_traffic = w->has_outcomes = true;
    cr_assert(world_run(w, HOUR));
    free(w);
}

Test(rollout, a_long_hold_counts_six_hours_behind_an_outcome_and_no_more)
{
    struct world *w =
        world_make("{\"plan\": [{\"pct\": 5, \"hold\": \"2d\"}, {\"pct\": 10}]}", "\"default\"");

    world_reach(w, 5000);
    world_pass(w, HOUR);
    w->has_traffic = w->has_outcomes = false;
    world_pass(w, 20 * HOUR);
    cr_assert_geq(w->s.hold_ns, 7 * HOUR - MINUTE);
    cr_assert_leq(w->s.hold_ns, 7 * HOUR + MINUTE);
    free(w);
}

Test(rollout, decisions_without_outcomes_are_no_silent_pass)
{
    struct world *w = world_new();

    world_reach(w, 1000);
    w->has_outcomes = false;
    memset(&w->look.verdict, 0, sizeof w->look.verdict);
    cr_assert_not(world_run(w, 10 * DAY));
    cr_assert(w->last.waits & BIT(NO_OUTCOMES));
    cr_assert_not(w->last.waits & BIT(NO_TRAFFIC));
    free(w);
}

Test(rollout, a_variant_that_never_ends_is_no_silent_pass)
{
    struct world *w = world_new();
    int i;

    world_reach(w, 1000);
    w->look.verdict.variant_calls = 0;
    for (i = 0; i < 3000; i++) {
        flagshm_moment_tick(&w->look.now, w->look.now.mono_ns + TICK, w->look.now.wall_ns + TICK);
        w->look.verdict.variant_calls = UINT64_MAX; /* which the tick makes 0 */
        cr_assert_not(world_look(w));
    }
    cr_assert_eq(w->last.waits, BIT(NO_OUTCOMES));
    free(w);
}

Test(rollout, no_data_does_what_the_plan_says_after_its_grace)
{
    static const struct {
        const char *action;
        enum flagshm_cause cause;
        uint32_t mpct;
    } cases[] = {{"advance", FLAGSHM_CAUSE_ADVANCED_THIN, 25000}, {"rollback", FLAGSHM_CAUSE_NO_DATA, 0}};
    size_t i;

    for (i = 0; i < 2; i++) {
        char plan[256];
        struct world *w;

        snprintf(plan, sizeof plan,
                 "{\"plan\": [{\"pct\": 5}, {\"pct\": 25}, {\"pct\": 50}], \"hold\": \"1h\", \"no_data\": "
                 "{\"grace\": \"8h\", "
                 "\"action\": \"%s\"}}",
                 cases[i].action);
        w = world_make(plan, "\"default\"");
        world_reach(w, 5000);
        w->has_traffic = w->has_outcomes = false;
        w->users = 0;
        world_heal(w);
        cr_assert_not(world_run(w, 8 * HOUR - MINUTE), "%s", cases[i].action);
        cr_assert(world_run(w, 2 * MINUTE), "%s", cases[i].action);
        cr_assert_eq(w->changed.cause, cases[i].cause, "%s", w->changed.sentence);
        cr_assert_eq(flagshm_rollout_share(&w->s), cases[i].mpct);
        free(w);
    }
}

Test(rollout, without_a_slot_nothing_is_known_and_nothing_rises)
{
    struct world *w = world_new();
    int i;

    world_reach(w, 1000);
    for (i = 0; i < 5000; i++) {
        flagshm_moment_tick(&w->look.now, w->look.now.mono_ns + TICK, w->look.now.wall_ns + TICK);
        w->look.has_verdict = false;
        cr_assert_not(flagshm_rollout_look(&w->s, &w->file, &w->look, &w->last));
    }
    cr_assert(w->last.waits & BIT(UNWATCHED));
    cr_assert_leq(w->s.hold_ns, TICK);
    free(w);
}

Test(rollout, a_verdict_of_an_older_share_is_not_looked_at)
{
    struct world *w = world_new();

    world_reach(w, 5000);
    flagshm_moment_tick(&w->look.now, w->look.now.mono_ns + TICK, w->look.now.wall_ns + TICK);
    world_harm(w, 0);
    w->look.has_verdict = true;
    w->look.evidence = w->s.evidence - 1;
    cr_assert_not(flagshm_rollout_look(&w->s, &w->file, &w->look, &w->last));
    w->look.evidence = w->s.evidence;
    cr_assert(flagshm_rollout_look(&w->s, &w->file, &w->look, &w->last));
    free(w);
}

/* ---- who may ---- */

Test(rollout, nothing_starts_outside_its_hours)
{
    static const struct {
        uint8_t weekday;
        uint16_t minute;
        bool is_inside;
    } cases[] = {{0, 540, true},  {0, 539, false}, {3, 959, true},  {3, 960, false},
                 {4, 600, false}, {5, 600, false}, {6, 600, false}, {0, 0, false}};
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *w = world_make(
            "{\"plan\": \"b2b\", \"window\": {\"tz\": \"Europe/Berlin\", \"days\": \"mon-thu\", \"hours\": "
            "\"09:00-16:00\"}}",
            "\"default\"");

        w->look.local = (struct flagshm_local_time){true, cases[i].weekday, cases[i].minute};
        cr_assert_eq(world_tick(w), cases[i].is_inside, "%zu", i);
        cr_assert_eq(w->last.waits, cases[i].is_inside ? 0 : BIT(WINDOW), "%zu", i);
        free(w);
    }
}

Test(rollout, an_unknown_zone_is_no_window)
{
    struct world *w =
        world_make("{\"plan\": \"b2b\", \"window\": {\"tz\": \"Europe/Nowhere\", \"days\": \"mon-sun\"}}",
                   "\"default\"");

    w->look.local.is_known = false;
    cr_assert_not(world_run(w, HOUR));
    cr_assert_eq(w->last.waits, BIT(WINDOW));
    free(w);
}

Test(rollout, a_closed_window_stops_no_roll_back)
{
    struct world *w = world_make(
        "{\"plan\": [{\"pct\": 5}, {\"pct\": 25}], \"hold\": \"1h\", \"window\": {\"tz\": \"UTC\", "
        "\"days\": \"mon\"}}",
        "\"default\"");

    world_reach(w, 5000);
    w->look.local.weekday = 5;
    cr_assert_not(world_run(w, 3 * HOUR));
    cr_assert_eq(w->last.waits, BIT(WINDOW));
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK);
    free(w);
}

Test(rollout, a_freeze_stops_starts_and_steps_and_no_roll_back)
{
    struct world *w = world_new();

    w->look.is_frozen = true;
    cr_assert_not(world_run(w, HOUR));
    cr_assert_eq(w->last.waits, BIT(FREEZE));
    w->look.is_frozen = false;
    world_reach(w, 1000);
    w->look.is_frozen = true;
    cr_assert_not(world_run(w, 3 * HOUR));
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    free(w);
}

Test(rollout, an_approval_is_asked_once_and_last)
{
    struct world *w = world_make(
        "{\"plan\": [{\"pct\": 5}, {\"pct\": 25, \"approval\": true}, {\"pct\": 50}], \"hold\": \"1h\"}",
        "\"default\"");
    uint32_t changes;

    world_reach(w, 5000);
    cr_assert_not(world_run(w, HOUR - MINUTE));
    cr_assert_not(w->last.waits & BIT(APPROVAL), "not while it waits for anything else");
    cr_assert(world_run(w, 2 * MINUTE));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_APPROVAL_ASKED);
    cr_assert(w->changed.is_told);
    cr_assert_not_null(strstr(w->changed.sentence, "flagctl approve f"), "%s", w->changed.sentence);
    changes = w->changes;
    world_pass(w, DAY);
    cr_assert_eq(w->changes, changes, "asked once");
    cr_assert_eq(w->last.waits, BIT(APPROVAL));
    w->look.is_frozen = true;
    world_tick(w);
    cr_assert_eq(w->last.waits, BIT(FREEZE));
    w->look.is_frozen = false;
    cr_assert_eq(world_say(w, FLAGSHM_VERB_APPROVE), 0);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_APPROVE), -EALREADY);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    world_reach(w, 50000);
    free(w);
}

Test(rollout, an_approval_is_of_one_step_and_one_value)
{
    struct world *w = world_make(
        "{\"plan\": [{\"pct\": 5}, {\"pct\": 25, \"approval\": true}], \"hold\": \"1h\"}", "\"default\"");

    world_reach(w, 5000);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_APPROVE), 0, "before it is asked for");
    world_plan(w, "{\"plan\": [{\"pct\": 5}, {\"pct\": 30, \"approval\": true}], \"hold\": \"1h\"}",
               "\"default\"");
    world_edit(w);
    world_pass(w, 3 * HOUR);
    cr_assert_eq(w->last.waits, BIT(APPROVAL), "another step");
    cr_assert_eq(world_say(w, FLAGSHM_VERB_APPROVE), 0);
    w->file.variant_fingerprint = 0xc;
    world_edit(w);
    world_reach(w, 5000);
    world_pass(w, 3 * HOUR);
    cr_assert_eq(w->last.waits, BIT(APPROVAL), "another value");
    free(w);
}

Test(rollout, a_paused_rollout_can_still_be_rolled_back)
{
    struct world *w = world_new();

    world_reach(w, 1000);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_PAUSE), 0);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_PAUSE), -EALREADY);
    cr_assert_not(world_run(w, 5 * HOUR));
    cr_assert_eq(w->last.waits, BIT(PAUSED));
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK);
    free(w);
}

Test(rollout, resumed_it_goes_on)
{
    struct world *w = world_new();

    world_reach(w, 1000);
    world_say(w, FLAGSHM_VERB_PAUSE);
    world_pass(w, 5 * HOUR);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_RESUME), 0);
    cr_assert_eq(world_say(w, FLAGSHM_VERB_RESUME), -EALREADY);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    free(w);
}

/* ---- modes ---- */

Test(rollout, observing_it_says_what_it_would_do_and_does_nothing)
{
    struct world *w = world_make(
        "{\"plan\": [{\"pct\": 5}, {\"pct\": 25}], \"hold\": \"1h\", \"mode\": \"observe\"}", "\"default\"");

    cr_assert(world_run(w, MINUTE));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_WOULD_ADVANCE);
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    cr_assert_not(world_run(w, HOUR));
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ADVANCE), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_WOULD_ROLL_BACK);
    cr_assert_eq(w->changed.to_mpct, 5000);
    cr_assert_not_null(strstr(w->changed.sentence, "would have rolled back"), "%s", w->changed.sentence);
    cr_assert_not(world_run(w, 3 * HOUR), "said once, and nothing else done");
    w->look.verdict.has_breaker = true;
    cr_assert(world_tick(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_WOULD_ROLL_BACK);
    w->look.verdict.is_limited = true;
    cr_assert(world_tick(w) || true);
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    free(w);
}

Test(rollout, guarding_it_only_ever_lowers)
{
    struct world *w = world_make(
        "{\"plan\": [{\"pct\": 5}, {\"pct\": 25}], \"hold\": \"1h\", \"mode\": \"guard\"}", "\"default\"");

    cr_assert_not(world_run(w, 3 * HOUR));
    cr_assert_eq(w->last.waits, BIT(MODE));
    cr_assert_eq(world_say(w, FLAGSHM_VERB_ADVANCE), 0);
    cr_assert_not(world_run(w, 3 * HOUR));
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    free(w);
}

Test(rollout, a_flag_without_a_plan_disables_itself_too)
{
    struct world *w = world_make("", "\"default\"");

    w->file.cap_mpct = 5000;
    world_edit(w);
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    cr_assert(flagshm_rollout_is_guarded(&w->s, &w->file));
    cr_assert_not(world_run(w, DAY));
    cr_assert_eq(w->last.waits, 0);
    world_harm(w, 2);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    cr_assert(flagshm_rollout_is_latched(&w->s));
    w->file.cap_mpct = 10000;
    cr_assert(world_edit(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 0, "a percentage edit lifts no latch");
    cr_assert_eq(world_say(w, FLAGSHM_VERB_CLEAR), 0);
    cr_assert_eq(flagshm_rollout_share(&w->s), 10000);
    free(w);
}

Test(rollout, who_refuses_guardrails_is_left_alone)
{
    struct world *w = world_make("", "[]");

    w->file.cap_mpct = 5000;
    world_edit(w);
    cr_assert_not(flagshm_rollout_is_guarded(&w->s, &w->file));
    w->look.verdict.has_breaker = true;
    cr_assert_not(world_run(w, HOUR));
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    free(w);
}

Test(rollout, a_static_flag_at_the_top_is_nobodys_experiment)
{
    struct world *w = world_make("", "\"default\"");

    cr_assert_eq(flagshm_rollout_share(&w->s), 100000);
    cr_assert_not(flagshm_rollout_is_guarded(&w->s, &w->file));
    w->look.verdict.has_breaker = true;
    cr_assert_not(world_run(w, HOUR));
    cr_assert_eq(flagshm_rollout_share(&w->s), 100000);
    free(w);
}

/* ---- the words ---- */

Test(rollout, every_wait_is_explained_with_what_ends_it)
{
    struct world *w = world_new();
    char text[512], small[8];
    enum flagshm_wait again;
    int i;

    world_reach(w, 1000);
    for (i = 0; i < FLAGSHM_WAITS; i++) {
        size_t used =
            flagshm_wait_explain((enum flagshm_wait)i, &w->s, &w->file, &w->last, text, sizeof text);

        cr_assert(used > 0 && used < sizeof text, "%s", flagshm_wait_name((enum flagshm_wait)i));
        cr_assert_eq(strlen(text), used);
        cr_assert_null(strchr(text, '%') && strstr(text, "%s") ? text : NULL, "%s", text);
        cr_assert(i == FLAGSHM_WAIT_PLAN_END || strstr(text, "flagctl ") != NULL, "%s", text);
        cr_assert_eq(
            flagshm_wait_explain((enum flagshm_wait)i, &w->s, &w->file, &w->last, small, sizeof small), used);
        cr_assert_eq(strlen(small), sizeof small - 1);
        cr_assert(flagshm_wait_from_name(flagshm_wait_name((enum flagshm_wait)i), &again) &&
                  again == (enum flagshm_wait)i);
    }
    cr_assert_not(flagshm_wait_from_name("weather", &again));
    for (i = 0; i < FLAGSHM_CAUSES; i++)
        cr_assert_gt(strlen(flagshm_cause_name((enum flagshm_cause)i)), 0, "%d", i);
    free(w);
}

Test(rollout, durations_are_short_words)
{
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {{0, "0s"},
                 {90 * SECOND, "90s"},
                 {150 * SECOND, "2m 30s"},
                 {10 * MINUTE, "10m"},
                 {3 * HOUR, "3h"},
                 {3 * HOUR + 20 * MINUTE, "3h 20m"},
                 {24 * HOUR, "24h"},
                 {72 * HOUR, "3d"},
                 {73 * HOUR, "3d 1h"}};
    char text[32];
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_str_eq(flagshm_duration_text(cases[i].ns, text), cases[i].text);
}
