/* A rollout whose file is edited under its feet, and one whose server starts anew. */
#include "server/rollout_zone.h"
#include "tests/rollout_fixture.h"

#include <time.h>

static struct world *at(uint32_t mpct)
{
    struct world *w = world_new();

    world_reach(w, mpct);
    world_tick(w);
    return w;
}

static void replan(struct world *w, const char *rollout)
{
    world_plan(w, rollout, "\"default\"");
    world_edit(w);
}

/* ---- the cap ---- */

Test(rollout_edit, a_cap_is_lowered_at_once_and_raised_it_only_lifts)
{
    struct world *w = at(25000);
    uint32_t evidence = w->s.evidence;

    w->file.cap_mpct = 5000;
    cr_assert(world_edit(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_CAP);
    cr_assert(w->changed.is_lowering);
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    cr_assert_eq(w->s.evidence, evidence + 1, "another share is another evidence");
    cr_assert_eq(w->s.hold_ns, 0);
    cr_assert_not(world_run(w, 5 * HOUR));
    cr_assert_eq(w->last.waits, BIT(FILE_CAP));
    w->file.cap_mpct = 100000;
    cr_assert(world_edit(w));
    cr_assert_not(w->changed.is_lowering);
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000, "what the plan had reached, and no more");
    cr_assert_not(world_run(w, HOUR - MINUTE));
    free(w);
}

Test(rollout_edit, a_cap_between_two_steps_is_served)
{
    struct world *w = world_new();

    w->file.cap_mpct = 3000;
    world_edit(w);
    world_reach(w, 3000);
    cr_assert_eq(w->s.share_mpct, 5000);
    cr_assert_not(world_run(w, 5 * HOUR));
    cr_assert_eq(w->last.waits, BIT(FILE_CAP));
    free(w);
}

Test(rollout_edit, a_cap_of_0_starts_nothing_and_stops_everything)
{
    struct world *w = world_new();

    w->file.cap_mpct = 0;
    world_edit(w);
    cr_assert_not(world_run(w, HOUR));
    cr_assert_eq(w->last.waits, BIT(FILE_CAP));
    free(w);
    w = at(25000);
    w->file.cap_mpct = 0;
    cr_assert(world_edit(w));
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    cr_assert_not(world_run(w, DAY));
    free(w);
}

Test(rollout_edit, a_complete_flag_that_is_lowered_is_watched_again)
{
    struct world *w = at(100000);

    world_pass(w, 3 * HOUR);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_COMPLETE);
    w->file.cap_mpct = 40000;
    world_edit(w);
    cr_assert_eq(flagshm_rollout_share(&w->s), 40000);
    cr_assert(flagshm_rollout_is_guarded(&w->s, &w->file));
    cr_assert_not(world_run(w, 5 * HOUR), "it does not complete below its cap");
    world_harm(w, 0);
    cr_assert(world_tick(w));
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK);
    free(w);
}

/* ---- the plan ---- */

Test(rollout_edit, a_plan_edited_mid_way_never_raises)
{
    static const struct {
        const char *steps;
        uint32_t share, next;
    } cases[] = {
        {"{\"pct\": 1}, {\"pct\": 50}, {\"pct\": 75}", 25000, 50000},
        {"{\"pct\": 30}, {\"pct\": 60}", 25000, 30000},
        {"{\"pct\": 1}, {\"pct\": 10}", 10000, 0},
        {"{\"pct\": 1}, {\"pct\": 25}", 25000, 0},
        {"{\"shadow_pct\": 50}, {\"pct\": 100}", 25000, 100000},
        {"{\"shadow_pct\": 50}", 0, 0},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *w = at(25000);
        char plan[200];
        int32_t next;

        snprintf(plan, sizeof plan, "{\"plan\": [%s], \"hold\": \"1s\", \"min_users\": 1}", cases[i].steps);
        replan(w, plan);
        cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_PLAN_EDITED);
        cr_assert_eq(flagshm_rollout_share(&w->s), cases[i].share, "%s", cases[i].steps);
        next = flagshm_rollout_next_step(&w->s, &w->plan);
        if (cases[i].share > 0)
            cr_assert_eq(next < 0 ? 0 : w->plan.steps[next].mpct, cases[i].next, "%s", cases[i].steps);
        free(w);
    }
}

Test(rollout_edit, a_longer_hold_is_held_and_a_shorter_one_has_been)
{
    struct world *w = at(25000);

    world_pass(w, 40 * MINUTE);
    replan(w, "{\"plan\": [{\"pct\": 1}, {\"pct\": 25}, {\"pct\": 50}], \"hold\": \"2h\"}");
    cr_assert_not(world_run(w, 79 * MINUTE));
    replan(w, "{\"plan\": [{\"pct\": 1}, {\"pct\": 25}, {\"pct\": 50}], \"hold\": \"1h\"}");
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000, "not by the edit itself");
    cr_assert(world_tick(w));
    free(w);
}

Test(rollout_edit, a_static_flag_that_gets_a_plan_goes_down_to_its_first_step)
{
    static const struct {
        uint32_t before, after;
    } cases[] = {{25000, 1000}, {1000, 1000}, {500, 500}, {0, 0}};
    size_t i;

    for (i = 0; i < 4; i++) {
        struct world *w = world_make("", "\"default\"");

        w->file.cap_mpct = cases[i].before;
        world_edit(w);
        w->file.cap_mpct = 100000;
        replan(w, PLAN);
        cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_PLAN_NEW);
        cr_assert_eq(flagshm_rollout_share(&w->s), cases[i].after, "%u", cases[i].before);
        free(w);
    }
}

Test(rollout_edit, without_its_plan_a_flag_serves_the_files_share)
{
    struct world *w = at(25000);

    w->file.cap_mpct = 10000;
    replan(w, "");
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_PLAN_GONE);
    cr_assert_eq(flagshm_rollout_share(&w->s), 10000);
    world_harm(w, 0);
    cr_assert(world_tick(w), "and its default guard watches it");
    replan(w, PLAN);
    cr_assert_eq(flagshm_rollout_share(&w->s), 0, "a latch outlives plans");
    free(w);
}

Test(rollout_edit, thresholds_change_no_share_and_no_latch)
{
    struct world *w = at(25000);

    world_plan(w, PLAN, "[{\"kind\": \"error_rate\", \"rollback\": {\"ratio\": 5}}]");
    cr_assert(world_edit(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_PLAN_EDITED);
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    cr_assert_not(world_edit(w));
    free(w);
}

Test(rollout_edit, counts_of_another_meaning_are_other_evidence)
{
    static const uint32_t shares[] = {1000, 25000, 100000};
    struct world *w;
    uint32_t evidence;
    size_t i;

    for (i = 0; i < 6; i++) {
        w = at(shares[i / 2]);
        world_pass(w, 30 * MINUTE);
        evidence = w->s.evidence;
        if (i % 2 == 0)
            w->file.form_hash++;
        else
            world_plan(w, PLAN, "[{\"kind\": \"error_rate\", \"rollback\": {\"ratio\": 5}}]");
        cr_assert(world_edit(w), "it is journalled: a number must not be spent twice");
        cr_assert_eq(w->changed.cause, i % 2 == 0 ? FLAGSHM_CAUSE_FORM_EDITED : FLAGSHM_CAUSE_PLAN_EDITED);
        cr_assert_not_null(strstr(w->changed.sentence, "evidence begins anew"), "%s", w->changed.sentence);
        cr_assert_eq(w->s.evidence, evidence + 1);
        cr_assert_eq(w->s.hold_ns, 0);
        cr_assert_eq(flagshm_rollout_share(&w->s), shares[i / 2]);
        cr_assert_not(world_edit(w), "once");
        free(w);
    }

    w = world_make("", "\"default\""); /* without a plan it is judged too */
    w->file.cap_mpct = 5000;
    cr_assert(world_edit(w));
    evidence = w->s.evidence;
    w->file.form_hash++;
    cr_assert(world_edit(w));
    cr_assert_eq(w->s.evidence, evidence + 1);
    world_plan(w, "", "[]");
    cr_assert_not(world_edit(w), "nobody judges it any more");
    w->file.form_hash++;
    cr_assert_not(world_edit(w));
    world_plan(w, "", "\"default\"");
    cr_assert(world_edit(w));
    cr_assert_eq(w->s.evidence, evidence + 2);
    free(w);
}

Test(rollout_edit, where_nothing_is_counted_no_evidence_begins)
{
    struct world *w = at(100000);
    struct flagshm_rollout_served served;
    uint32_t evidence;

    world_pass(w, 3 * HOUR);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_COMPLETE);
    evidence = w->s.evidence;
    w->file.form_hash++;
    cr_assert_not(world_edit(w));
    cr_assert_eq(w->s.evidence, evidence);
    free(w);

    w = at(25000);
    world_harm(w, 0);
    world_tick(w);
    evidence = w->s.evidence;
    w->file.form_hash++;
    cr_assert_not(world_edit(w), "rolled back");
    cr_assert_eq(w->s.evidence, evidence);
    free(w);

    w = at(25000); /* edited while no server ran: it is as if nothing had been kept */
    evidence = w->s.evidence;
    served = (struct flagshm_rollout_served){.fingerprint = w->s.variant_fingerprint,
                                             .share_mpct = 25000,
                                             .stage = FLAGSHM_STAGE_STEP,
                                             .is_slot_kept = true};
    w->file.form_hash++;
    cr_assert(world_restart(w, MINUTE, &served, false));
    cr_assert_eq(w->s.evidence, evidence + 1);
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    free(w);
}

/* ---- values ---- */

Test(rollout_edit, a_new_value_is_a_new_attempt_in_every_state)
{
    static const uint32_t shares[] = {0, 1000, 25000};
    size_t i;

    for (i = 0; i < 3; i++) {
        struct world *w = shares[i] ? at(shares[i]) : world_new();

        w->file.variant_fingerprint = 0xc;
        cr_assert(world_edit(w));
        cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_VALUE_NEW);
        cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_OFF);
        cr_assert_eq(w->s.attempt, 2);
        world_tick(w);
        cr_assert_eq(flagshm_rollout_share(&w->s), 1000);
        free(w);
    }
}

Test(rollout_edit, a_new_value_of_a_killed_flag_stays_killed)
{
    struct world *w = at(25000);

    world_say(w, FLAGSHM_VERB_KILL);
    w->file.variant_fingerprint = 0xc;
    world_edit(w);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_KILLED);
    cr_assert_eq(world_ask(w, (struct flagshm_ask){.verb = FLAGSHM_VERB_UNKILL, .is_resume = true}), 0);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_OFF, "there is no old step of this value");
    free(w);
}

Test(rollout_edit, a_controls_new_value_begins_the_stage_anew)
{
    struct world *w = at(25000);
    uint32_t evidence;

    world_pass(w, 50 * MINUTE);
    evidence = w->s.evidence;
    w->file.control_fingerprint = 0xaa;
    cr_assert(world_edit(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_CONTROL_EDITED);
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    cr_assert_eq(w->s.evidence, evidence + 1);
    cr_assert_not(world_run(w, HOUR - MINUTE));
    cr_assert(world_run(w, 2 * MINUTE));
    free(w);
}

Test(rollout_edit, at_100_a_variant_is_not_changed_over_an_old_control)
{
    struct world *w = at(100000);
    char text[512];
    int i;

    for (i = 0; i < 2; i++) {
        struct flagshm_rollout_file file = w->file;

        cr_assert_not(flagshm_rollout_refuses(&w->s, &file, text, sizeof text));
        file.variant_fingerprint = 0xc;
        cr_assert(flagshm_rollout_refuses(&w->s, &file, text, sizeof text), "%d", i);
        cr_assert_not_null(strstr(text, "flagctl finish f"), "%s", text);
        file.control_fingerprint = 0xb;
        cr_assert_not(flagshm_rollout_refuses(&w->s, &file, text, sizeof text), "control is what all have");
        file.control_fingerprint = 0xcc;
        cr_assert_not(flagshm_rollout_refuses(&w->s, &file, text, sizeof text), "both were written anew");
        world_pass(w, 3 * HOUR); /* complete */
    }
    w->file.control_fingerprint = 0xb;
    w->file.variant_fingerprint = 0xc;
    world_edit(w);
    cr_assert_eq(flagshm_rollout_share(&w->s), 0, "all get the control, which is what they had");
    cr_assert_eq(w->s.attempt, 2);
    free(w);
    w = at(50000);
    w->file.variant_fingerprint = 0xc;
    cr_assert_not(flagshm_rollout_refuses(&w->s, &w->file, text, sizeof text),
                  "below 100 %% it is a new attempt");
    free(w);
}

Test(rollout_edit, a_finished_flag_moves_nobody_and_is_ready_for_the_next_variant)
{
    char text[512];
    unsigned i;

    for (i = 0; i < 2; i++) {
        struct world *w = at(100000);

        world_pass(w, i * 3 * HOUR); /* full, complete */
        w->file.control_fingerprint = w->file.variant_fingerprint;
        w->file.cap_mpct = 0;
        world_plan(w, "", "\"default\"");
        cr_assert_not(flagshm_rollout_refuses(&w->s, &w->file, text, sizeof text));
        world_edit(w);
        cr_assert_eq(flagshm_rollout_share(&w->s), 0, "all get the control, which is what they had");
        cr_assert_not(flagshm_rollout_is_latched(&w->s));
        w->file.variant_fingerprint = 0xc;
        w->file.cap_mpct = 100000;
        cr_assert_not(flagshm_rollout_refuses(&w->s, &w->file, text, sizeof text));
        replan(w, PLAN);
        cr_assert_eq(flagshm_rollout_share(&w->s), 0);
        cr_assert_eq(w->s.attempt, 2);
        world_tick(w);
        cr_assert_eq(flagshm_rollout_share(&w->s), 1000, "from the first step");
        free(w);
    }
}

/* ---- gone and back ---- */

Test(rollout_edit, a_flag_that_comes_back_begins_anew_but_for_what_is_stopped_or_complete)
{
    struct world *w = at(25000);

    w->file.is_present = false;
    cr_assert(world_edit(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_FLAG_GONE);
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    cr_assert_not(world_edit(w));
    cr_assert_not(world_run(w, HOUR));
    w->file.is_present = true;
    cr_assert(world_edit(w));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_FLAG_BACK);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_OFF);
    world_reach(w, 25000);
    world_tick(w);
    world_harm(w, 0);
    world_tick(w);
    w->file.is_present = false;
    world_edit(w);
    w->file.is_present = true;
    world_edit(w);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK,
                 "deleted and restored it stays rolled back");
    w->file.is_present = false;
    world_edit(w);
    w->file.is_present = true;
    w->file.variant_fingerprint = 0xc;
    world_edit(w);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_OFF, "with another value it is another attempt");
    free(w);
    w = at(100000);
    world_pass(w, 3 * HOUR);
    w->file.is_present = false;
    world_edit(w);
    w->file.is_present = true;
    world_edit(w);
    cr_assert_eq(flagshm_rollout_share(&w->s), 100000, "what is complete stays so");
    free(w);
}

Test(rollout_edit, two_rollouts_of_one_file_go_their_own_ways)
{
    struct world *a = at(25000), *b = at(1000);

    a->file.variant_fingerprint = 0xc;
    b->file.cap_mpct = 500;
    world_edit(a);
    world_edit(b);
    cr_assert_eq(flagshm_rollout_share(&a->s), 0);
    cr_assert_eq(flagshm_rollout_share(&b->s), 500);
    cr_assert_eq(b->s.attempt, 1);
    free(a);
    free(b);
}

Test(rollout_edit, a_flag_of_a_file_is_what_the_rollout_sees)
{
    struct fixture f = fixture_parse(
        "{\"flags\": {\"plain\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 5},"
        " \"planned\": {\"control\": \"a\", \"variant\": \"b\", \"rollout\": {\"plan\": \"b2b\"}},"
        " \"off\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 5, \"enabled\": false},"
        " \"many\": {\"control\": \"a\", \"variants\": {\"b\": {\"value\": \"b\"}, \"c\": {\"value\": "
        "\"c\"}}}, \"broken\": {}}}");
    static const uint32_t caps[] = {5000, 100000, 0};
    struct flagshm_rollout_file file;
    size_t i;

    for (i = 0; i < 5; i++) {
        const struct flagshm_flag *flag = &f.file.entries[i].flag;

        cr_assert_eq(flagshm_rollout_file_of(flag, &file), i < 3, "%s", flag->name);
        if (i >= 3)
            continue;
        cr_assert_eq(file.cap_mpct, caps[i], "%s", flag->name);
        cr_assert_eq(file.variant_fingerprint, flag->arms[1].fingerprint);
        cr_assert_neq(file.variant_fingerprint, file.control_fingerprint);
        cr_assert_eq(file.plan->step_count, i == 1 ? 7 : 0);
    }
    fixture_free(&f);
}

static uint64_t form_hash_of(const char *members)
{
    struct flagshm_rollout_file file;
    struct fixture f;
    char text[400];

    snprintf(text, sizeof text, "{\"flags\": {\"f\": {\"control\": \"a\", %s, \"rollout_pct\": 5}}}",
             members);
    f = fixture_parse(text);
    cr_assert_eq(f.diags.errors, 0, "%s", text);
    cr_assert(flagshm_rollout_file_of(&f.file.entries[0].flag, &file));
    fixture_free(&f);
    return file.form_hash;
}

Test(rollout_edit, what_counts_depend_on_is_told_apart)
{
#define B   "\"variant\": \"b\""
#define TWO ", \"force\": {\"control\": [\"x\"], \"variant\": [\"y\"]}"
    static const char *const others[] = {
        B,
        B ", \"salt\": \"s\"",
        B TWO,
        B ", \"force\": {\"variant\": [\"x\", \"y\"]}",
        B ", \"force\": {\"control\": [\"x\"]}",
        "\"variants\": {\"b\": {\"value\": \"b\"}}",
        "\"variants\": {\"b\": {\"value\": \"b\", \"weight\": 2}}",
        B ", \"rollout\": {\"plan\": \"b2b\", \"overdue\": \"90s\"}",
    };
    size_t count = sizeof others / sizeof others[0], i, j;

    for (i = 0; i < count; i++)
        for (j = 0; j < i; j++)
            cr_assert_neq(form_hash_of(others[i]), form_hash_of(others[j]), "%s", others[i]);
    cr_assert_eq(form_hash_of(B ", \"force\": {\"variant\": [\"y\", \"x\"]}"),
                 form_hash_of(B ", \"force\": {\"variant\": [\"x\", \"y\"]}"), "in whatever order");
    cr_assert_eq(form_hash_of("\"variant\": \"c\""), form_hash_of(B), "values have their own way");
    cr_assert_eq(form_hash_of(B ", \"rollout\": {\"plan\": \"b2b\"}"), form_hash_of(B), "shares too");
    cr_assert_eq(form_hash_of(B ", \"description\": \"words\""), form_hash_of(B));
#undef B
#undef TWO
}

/* ---- restarts ---- */

static struct flagshm_rollout_served as_served(const struct world *w)
{
    return (struct flagshm_rollout_served){.fingerprint = w->s.variant_fingerprint,
                                           .share_mpct = flagshm_rollout_share(&w->s),
                                           .stage = flagshm_rollout_stage(&w->s),
                                           .is_slot_kept = true};
}

Test(rollout_edit, a_hundred_restarts_change_nothing_and_say_nothing)
{
    struct world *w = at(25000);
    struct flagshm_rollout_served served;
    uint32_t changes;
    int i;

    world_harm(w, 0);
    world_tick(w);
    changes = w->changes;
    for (i = 0; i < 100; i++) {
        served = as_served(w);
        served.is_latched = i % 2 == 0;
        cr_assert_not(world_restart(w, MINUTE, i % 3 ? &served : NULL, false));
        world_tick(w);
        cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    }
    cr_assert_eq(w->changes, changes);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK);
    free(w);
}

Test(rollout_edit, what_the_table_says_of_less_is_true)
{
    struct world *w = at(25000);
    struct flagshm_rollout_served served = as_served(w);

    served.is_latched = true;
    served.share_mpct = 0;
    served.stage = FLAGSHM_STAGE_ROLLED_BACK;
    cr_assert(world_restart(w, MINUTE, &served, false), "published, and not yet written down");
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_RECOVERED);
    cr_assert(w->changed.is_told);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK);
    cr_assert_not(world_restart(w, MINUTE, &served, false), "told once");
    free(w);

    w = at(25000);
    served = as_served(w);
    served.is_killed = true;
    served.share_mpct = 0;
    cr_assert(world_restart(w, MINUTE, &served, false));
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_KILLED);
    free(w);

    w = at(25000);
    served = as_served(w);
    served.share_mpct = 5000;
    cr_assert(world_restart(w, MINUTE, &served, false));
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_STEP);
    free(w);
}

Test(rollout_edit, what_the_table_says_of_more_is_not)
{
    struct world *w = at(5000);
    struct flagshm_rollout_served served = as_served(w);

    served.share_mpct = 50000;
    world_restart(w, MINUTE, &served, false);
    cr_assert_eq(flagshm_rollout_share(&w->s), 5000);
    free(w);
}

Test(rollout_edit, a_cap_that_the_table_knew_is_no_step_back)
{
    struct world *w = at(25000);
    struct flagshm_rollout_served served = as_served(w);

    w->file.cap_mpct = 10000;
    served.share_mpct = 10000;
    world_restart(w, MINUTE, &served, false);
    cr_assert_eq(flagshm_rollout_share(&w->s), 10000);
    cr_assert_eq(w->s.share_mpct, 25000);
    free(w);
}

Test(rollout_edit, a_crash_in_a_drill_or_a_probe)
{
    struct world *w = at(25000);
    struct flagshm_rollout_served served = as_served(w);

    served.is_drill = true;
    served.share_mpct = 0;
    world_restart(w, SECOND, &served, false);
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000, "published, not written: the table says drill");
    world_say(w, FLAGSHM_VERB_DRILL);
    cr_assert(world_restart(w, SECOND, &served, false));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_DRILL_ENDED);
    cr_assert_eq(flagshm_rollout_share(&w->s), 25000);
    free(w);

    w = at(100000);
    served = as_served(w);
    served.is_probe = true;
    served.share_mpct = 50000;
    cr_assert(world_restart(w, SECOND, &served, false));
    cr_assert_eq(flagshm_rollout_share(&w->s), 50000);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_FULL);
    cr_assert_not(world_restart(w, 5 * MINUTE, &served, false));
    cr_assert_not(world_run(w, 4 * MINUTE));
    cr_assert(world_run(w, 2 * MINUTE), "the time that it was down counts for its end");
    cr_assert_eq(flagshm_rollout_share(&w->s), 100000);
    free(w);
}

Test(rollout_edit, a_lost_journal_lowers_nothing_complete_and_starts_the_rest_at_0)
{
    struct world *w = at(100000);
    struct flagshm_rollout_served served;

    world_pass(w, 3 * HOUR);
    served = as_served(w);
    cr_assert(world_restart(w, MINUTE, &served, true));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_JOURNAL_LOST);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_COMPLETE);
    cr_assert_eq(flagshm_rollout_share(&w->s), 100000);
    free(w);

    w = at(50000);
    served = as_served(w);
    cr_assert(world_restart(w, MINUTE, &served, true));
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    cr_assert(w->changed.is_told);
    cr_assert_not_null(strstr(w->changed.sentence, "the journal was lost"), "%s", w->changed.sentence);
    free(w);

    w = at(50000);
    served = as_served(w);
    served.is_latched = true;
    cr_assert(world_restart(w, MINUTE, &served, true));
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_ROLLED_BACK,
                 "a latch is not forgotten where the table has it");
    cr_assert(flagshm_rollout_is_latched(&w->s));
    free(w);

    w = at(50000);
    served = as_served(w);
    served.is_killed = true;
    world_restart(w, MINUTE, &served, true);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_KILLED);
    free(w);
}

Test(rollout_edit, an_edit_while_it_was_down_is_an_edit)
{
    struct world *w = at(25000);
    struct flagshm_rollout_served served = as_served(w);

    w->file.variant_fingerprint = 0xc;
    cr_assert(world_restart(w, DAY, &served, false));
    cr_assert_eq(w->changed.cause, FLAGSHM_CAUSE_VALUE_NEW);
    cr_assert_eq(flagshm_rollout_share(&w->s), 0);
    free(w);
}

Test(rollout_edit, evidence_that_was_lost_gets_the_next_number_and_the_hold_stays)
{
    struct world *w = at(25000);
    struct flagshm_rollout_served served;
    uint32_t evidence;
    uint64_t held;

    world_pass(w, 30 * MINUTE);
    served = as_served(w);
    evidence = w->s.evidence;
    held = w->s.hold_ns;
    world_restart(w, MINUTE, &served, false);
    cr_assert_eq(w->s.evidence, evidence);
    world_restart(w, MINUTE, NULL, false);
    cr_assert_eq(w->s.evidence, evidence + 1, "alpha is spent once");
    cr_assert_eq(w->s.hold_ns, held);
    free(w);
}

/* ---- zones ---- */

Test(rollout_edit, hours_are_those_of_the_zone)
{
    static const struct {
        const char *zone;
        uint64_t seconds;
        uint8_t weekday;
        uint16_t minute;
    } cases[] = {
        {"UTC", 0, 3, 0},                     /* a Thursday */
        {"UTC", 1700000000, 1, 22 * 60 + 13}, /* 2023-11-14, a Tuesday */
        {"Europe/Berlin", 1700000000, 1, 23 * 60 + 13},
        {"Europe/Berlin", 1690000000, 5, 6 * 60 + 26}, /* 2023-07-22: summer */
        {"Asia/Tokyo", 1700000000, 2, 7 * 60 + 13},
        {"America/New_York", 1700000000, 1, 17 * 60 + 13},
        {"Asia/Kolkata", 1700000000, 2, 3 * 60 + 43},
    };
    struct flagshm_local_time local;
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert(flagshm_zone_local(cases[i].zone, cases[i].seconds * SECOND, &local), "%s", cases[i].zone);
        cr_assert_eq(local.weekday, cases[i].weekday, "%s: %u", cases[i].zone, local.weekday);
        cr_assert_eq(local.minute, cases[i].minute, "%s: %u", cases[i].zone, local.minute);
    }
    cr_assert_not(flagshm_zone_local("Europe/Nowhere", 0, &local));
    cr_assert_not(local.is_known);
    cr_assert_not(flagshm_zone_local("../../etc/passwd", 0, &local));
    cr_assert_not(flagshm_zone_local("", 0, &local));
}

Test(rollout_edit, asking_for_a_zone_leaves_the_process_in_its_own)
{
    struct flagshm_local_time local;
    time_t now = 1700000000;
    struct tm before, after;

    setenv("TZ", "America/New_York", 1);
    tzset();
    localtime_r(&now, &before);
    cr_assert(flagshm_zone_local("Asia/Tokyo", 0, &local));
    localtime_r(&now, &after);
    cr_assert_eq(before.tm_hour, after.tm_hour);
    cr_assert_str_eq(getenv("TZ"), "America/New_York");
    unsetenv("TZ");
    cr_assert(flagshm_zone_local("Asia/Tokyo", 0, &local));
    cr_assert_null(getenv("TZ"));
}
