/* What a flag's plan and guardrails come to: its own words, the file's defaults, ours. */
#include "server/lastgood.h"
#include "server/plan.h"
#include "tests/flagfile_fixture.h"

#include <criterion/criterion.h>
#include <math.h>

#define SECOND UINT64_C(1000000000)
#define HOUR   (3600 * SECOND)

/* A file of one flag "f" with these members beside its arms. */
static struct fixture parse_with(const char *defaults, const char *members)
{
    char text[4096];

    snprintf(
        text, sizeof text, "{%s%s%s \"flags\": {\"f\": {\"control\": \"old\", \"variant\": \"new\"%s%s}}}",
        *defaults ? "\"defaults\": " : "", defaults, *defaults ? "," : "", *members ? ", " : "", members);
    return fixture_parse(text);
}

static const struct flagshm_flag *only_flag(const struct fixture *f)
{
    cr_assert_eq(f->result, 0);
    cr_assert_eq(f->file.errors, 0, "%s", f->printed);
    cr_assert_eq(f->file.count, 1);
    return &f->file.entries[0].flag;
}

static struct flagshm_plan plan_of(const char *defaults, const char *rollout)
{
    char members[2048];
    struct fixture f;
    struct flagshm_plan plan;

    snprintf(members, sizeof members, "\"rollout\": %s", rollout);
    f = parse_with(defaults, members);
    cr_assert_not_null(only_flag(&f)->plan);
    plan = *only_flag(&f)->plan;
    fixture_free(&f);
    return plan;
}

static struct flagshm_guards guards_of(const char *defaults, const char *members)
{
    struct fixture f = parse_with(defaults, members);
    struct flagshm_guards guards;

    cr_assert_not_null(only_flag(&f)->guards);
    guards = *only_flag(&f)->guards;
    fixture_free(&f);
    return guards;
}

static bool is_near(double a, double b)
{
    return fabs(a - b) < 1e-12;
}

/* ---- plans ---- */

Test(plan, the_presets_are_seven_steps_with_their_holds)
{
    static const uint32_t shares[] = {1000, 5000, 10000, 25000, 50000, 75000, 100000};
    struct flagshm_plan b2b = plan_of("", "{\"plan\": \"b2b\"}"), b2c = plan_of("", "{\"plan\": \"b2c\"}");
    uint32_t i;

    cr_assert_eq(b2b.step_count, 7);
    cr_assert_eq(b2c.step_count, 7);
    for (i = 0; i < 7; i++) {
        cr_assert_eq(b2b.steps[i].mpct, shares[i]);
        cr_assert_eq(b2c.steps[i].mpct, shares[i]);
        cr_assert_eq(b2b.steps[i].hold_ns, 24 * HOUR);
        cr_assert_eq(b2c.steps[i].hold_ns, 2 * HOUR);
        cr_assert_eq(b2b.steps[i].min_users, shares[i] <= 10000 ? 20 : 100);
        cr_assert_not(b2b.steps[i].is_shadow || b2b.steps[i].needs_approval);
    }
}

Test(plan, what_is_not_said_has_its_default)
{
    struct flagshm_plan plan = plan_of("", "{\"plan\": [{\"pct\": 5}]}");
    size_t i;

    cr_assert_eq(plan.mode, FLAGSHM_MODE_AUTO);
    cr_assert_eq(plan.steps[0].hold_ns, 24 * HOUR);
    cr_assert_eq(plan.watch_ns, 72 * HOUR);
    cr_assert_eq(plan.overdue_ns, 60 * SECOND);
    cr_assert_eq(plan.drill_every_ns, 7 * 24 * HOUR);
    cr_assert_eq(plan.no_data_grace_ns, 24 * HOUR);
    cr_assert_eq(plan.no_data, FLAGSHM_NO_DATA_HOLD);
    cr_assert(is_near(plan.alpha, 0.01));
    cr_assert_not(plan.window.is_set);
    cr_assert_eq(plan.holdback_mpct, 0);
    cr_assert_eq(plan.notify_count, 0);
    for (i = 0; i < FLAGSHM_GUARD_KINDS; i++)
        cr_assert(is_near(plan.prove[i], 0));
}

Test(plan, all_that_is_said_is_kept)
{
    struct flagshm_plan plan = plan_of(
        "", "{\"plan\": [{\"shadow_pct\": 10, \"hold\": \"4h\"}, {\"shadow_pct\": 20, \"min_users\": 7},"
            " {\"pct\": 0.5, \"hold\": \"30s\", \"min_users\": 3}, {\"pct\": 100, \"approval\": true}],"
            " \"hold\": \"90m\", \"min_users\": 50, \"watch\": \"2d\", \"mode\": \"observe\", \"overdue\": "
            "\"5m\","
            " \"window\": {\"tz\": \"Europe/Berlin\", \"days\": \"sat-mon,wed\", \"hours\": \"09:30-16:00\"},"
            " \"no_data\": {\"grace\": \"3h\", \"action\": \"rollback\"}, \"notify\": [\"oncall\", \"team\"],"
            " \"prove\": {\"error_rate\": 3, \"lost\": 2.5}, \"alpha\": 0.05, \"holdback_pct\": 2.5,"
            " \"drill_every\": \"1d\"}");

    cr_assert_eq(plan.step_count, 4);
    cr_assert(plan.steps[0].is_shadow && plan.steps[1].is_shadow && !plan.steps[2].is_shadow);
    cr_assert_eq(plan.steps[0].mpct, 10000);
    cr_assert_eq(plan.steps[0].hold_ns, 4 * HOUR);
    cr_assert_eq(plan.steps[0].min_users, 50);
    cr_assert_eq(plan.steps[1].min_users, 7);
    cr_assert_eq(plan.steps[1].hold_ns, 90 * 60 * SECOND);
    cr_assert_eq(plan.steps[2].mpct, 500);
    cr_assert_eq(plan.steps[2].hold_ns, 30 * SECOND);
    cr_assert_eq(plan.steps[2].min_users, 3);
    cr_assert_eq(plan.steps[3].min_users, 50);
    cr_assert(plan.steps[3].needs_approval && !plan.steps[2].needs_approval);
    cr_assert_eq(plan.mode, FLAGSHM_MODE_OBSERVE);
    cr_assert_eq(plan.watch_ns, 48 * HOUR);
    cr_assert_eq(plan.overdue_ns, 300 * SECOND);
    cr_assert_eq(plan.drill_every_ns, 24 * HOUR);
    cr_assert(plan.window.is_set);
    cr_assert_str_eq(plan.window.tz, "Europe/Berlin");
    cr_assert_eq(plan.window.days, 1 | 4 | 32 | 64);
    cr_assert_eq(plan.window.from_minute, 9 * 60 + 30);
    cr_assert_eq(plan.window.to_minute, 16 * 60);
    cr_assert_eq(plan.no_data, FLAGSHM_NO_DATA_ROLLBACK);
    cr_assert_eq(plan.no_data_grace_ns, 3 * HOUR);
    cr_assert_eq(plan.notify_count, 2);
    cr_assert_str_eq(plan.notify[0], "oncall");
    cr_assert_str_eq(plan.notify[1], "team");
    cr_assert(is_near(plan.prove[FLAGSHM_GUARD_ERROR_RATE], 3));
    cr_assert(is_near(plan.prove[FLAGSHM_GUARD_LOST], 2.5));
    cr_assert(is_near(plan.alpha, 0.05));
    cr_assert_eq(plan.holdback_mpct, 2500);
}

Test(plan, half_a_window_is_all_days_or_the_whole_day)
{
    struct flagshm_plan days =
        plan_of("", "{\"plan\": \"b2b\", \"window\": {\"tz\": \"UTC\", \"days\": \"mon-thu\"}}");
    struct flagshm_plan hours =
        plan_of("", "{\"plan\": \"b2b\", \"window\": {\"tz\": \"UTC\", \"hours\": \"09:00-24:00\"}}");

    cr_assert_eq(days.window.days, 15);
    cr_assert_eq(days.window.from_minute, 0);
    cr_assert_eq(days.window.to_minute, 1440);
    cr_assert_eq(hours.window.days, 127);
    cr_assert_eq(hours.window.to_minute, 1440);
}

Test(plan, the_flags_own_key_wins_over_the_files)
{
    static const char defaults[] =
        "{\"rollout\": {\"hold\": \"4h\", \"min_users\": 9, \"alpha\": 0.02, \"mode\": \"observe\","
        " \"notify\": [\"all\"], \"no_data\": {\"grace\": \"1h\", \"action\": \"advance\"}}}";
    struct flagshm_plan silent =
        plan_of(defaults, "{\"plan\": [{\"pct\": 5}, {\"pct\": 50, \"hold\": \"1h\"}]}");
    struct flagshm_plan own =
        plan_of(defaults, "{\"plan\": [{\"pct\": 5}], \"hold\": \"6h\", \"min_users\": 2,"
                          " \"mode\": \"auto\", \"notify\": [],"
                          " \"no_data\": {\"action\": \"rollback\"}}");

    cr_assert_eq(silent.steps[0].hold_ns, 4 * HOUR);
    cr_assert_eq(silent.steps[1].hold_ns, HOUR);
    cr_assert_eq(silent.steps[0].min_users, 9);
    cr_assert_eq(silent.mode, FLAGSHM_MODE_OBSERVE);
    cr_assert_eq(silent.notify_count, 1);
    cr_assert_eq(silent.no_data, FLAGSHM_NO_DATA_ADVANCE);
    cr_assert(is_near(silent.alpha, 0.02));
    cr_assert_eq(own.steps[0].hold_ns, 6 * HOUR);
    cr_assert_eq(own.steps[0].min_users, 2);
    cr_assert_eq(own.mode, FLAGSHM_MODE_AUTO);
    cr_assert_eq(own.notify_count, 0);
    cr_assert_eq(own.no_data, FLAGSHM_NO_DATA_ROLLBACK);
    cr_assert_eq(own.no_data_grace_ns, 24 * HOUR, "a key wins as a whole");
    cr_assert(is_near(own.alpha, 0.02));
}

Test(plan, a_presets_hold_stands_between_the_flags_and_the_files)
{
    static const char defaults[] = "{\"rollout\": {\"hold\": \"4h\"}}";

    cr_assert_eq(plan_of(defaults, "{\"plan\": \"b2c\"}").steps[0].hold_ns, 2 * HOUR);
    cr_assert_eq(plan_of(defaults, "{\"plan\": \"b2c\", \"hold\": \"1h\"}").steps[0].hold_ns, HOUR);
}

Test(plan, defaults_may_stand_behind_the_flags)
{
    struct fixture f =
        fixture_parse("{\"flags\": {\"f\": {\"control\": \"a\", \"variant\": \"b\", \"rollout\":"
                      " {\"plan\": [{\"pct\": 5}]}}}, \"defaults\": {\"rollout\": {\"hold\": \"4h\"}}}");

    cr_assert_eq(only_flag(&f)->plan->steps[0].hold_ns, 4 * HOUR);
    fixture_free(&f);
}

Test(plan, a_flag_without_one_is_guarded_by_what_the_file_says_for_all)
{
    struct fixture f = parse_with(
        "{\"rollout\": {\"alpha\": 0.05, \"mode\": \"auto\", \"notify\": [\"all\"]}}", "\"rollout_pct\": 5");

    cr_assert_eq(only_flag(&f)->plan->step_count, 0);
    cr_assert_eq(only_flag(&f)->plan->mode, FLAGSHM_MODE_GUARD, "nobody asked for raising");
    cr_assert(is_near(only_flag(&f)->plan->alpha, 0.05));
    cr_assert_eq(only_flag(&f)->plan->notify_count, 1);
    fixture_free(&f);
    f = parse_with("{\"rollout\": {\"mode\": \"observe\"}}", "\"rollout_pct\": 5");
    cr_assert_eq(only_flag(&f)->plan->mode, FLAGSHM_MODE_OBSERVE);
    fixture_free(&f);
}

Test(plan, several_variants_and_broken_entries_have_none)
{
    struct fixture f = fixture_parse(
        "{\"flags\": {\"many\": {\"control\": \"a\", \"variants\": {\"b\": {\"value\": \"b\"}, \"c\": "
        "{\"value\": \"c\"}}},"
        " \"broken\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 500}}}");

    cr_assert_eq(f.file.count, 2);
    cr_assert(!f.file.entries[0].broken && f.file.entries[1].broken);
    cr_assert_null(f.file.entries[0].flag.plan);
    cr_assert_null(f.file.entries[0].flag.guards);
    cr_assert_null(f.file.entries[1].flag.plan);
    cr_assert_null(f.file.entries[1].flag.guards);
    fixture_free(&f);
}

/* ---- guardrails ---- */

Test(plan, default_guards_are_the_four_of_the_manual)
{
    static const char *const ways[] = {"", "\"guardrails\": \"default\"", "\"rollout\": {\"plan\": \"b2b\"}"};
    size_t i;

    for (i = 0; i < 3; i++) {
        struct flagshm_guards g = guards_of("", ways[i]);

        cr_assert_eq(g.count, 4);
        cr_assert(g.is_default);
        cr_assert_eq(g.list[0].kind, FLAGSHM_GUARD_ERROR_RATE);
        cr_assert_eq(g.list[1].kind, FLAGSHM_GUARD_JSON_VALID);
        cr_assert_eq(g.list[2].kind, FLAGSHM_GUARD_LATENCY_P95);
        cr_assert_eq(g.list[3].kind, FLAGSHM_GUARD_TOKENS_TOTAL);
        cr_assert(is_near(g.list[0].weight, 0.4) && is_near(g.list[3].weight, 0.2));
        cr_assert(is_near(g.list[0].rollback.ratio, 2) && is_near(g.list[0].rollback.min_delta, 0.002));
        cr_assert(is_near(g.list[0].hold.delta, 0.001) && is_near(g.list[0].hold.ratio, 0));
        cr_assert(is_near(g.list[2].rollback.min_delta, 2000));
        cr_assert(is_near(g.list[3].hold.ratio, 1.2));
        cr_assert_eq(g.list[0].absolute_over_ns, 300 * SECOND);
        cr_assert_eq(g.list[0].absolute_min_users, 5);
    }
}

Test(plan, an_empty_list_refuses_and_the_files_default_does_too_unless_the_flag_wants_them)
{
    cr_assert_eq(guards_of("", "\"guardrails\": []").count, 0);
    cr_assert_eq(guards_of("{\"guardrails\": []}", "\"rollout_pct\": 5").count, 0);
    cr_assert_eq(guards_of("{\"guardrails\": []}", "\"guardrails\": \"default\"").count, 4);
    cr_assert_eq(guards_of("{\"guardrails\": [{\"kind\": \"lost\"}]}", "").list[0].kind, FLAGSHM_GUARD_LOST);
    cr_assert_eq(guards_of("{\"guardrails\": [{\"kind\": \"lost\"}]}", "\"guardrails\": []").count, 0);
}

Test(plan, a_guardrail_that_says_less_has_the_limits_of_its_kind)
{
    struct flagshm_guards g =
        guards_of("", "\"guardrails\": [{\"kind\": \"error_rate\", \"hold\": {\"delta\": 0.01}},"
                      " {\"kind\": \"latency_p95\", \"rollback\": {\"ratio\": 3, \"min_delta_ms\": 700}, "
                      "\"absolute\": {\"max_ms\": 9000, "
                      "\"over\": \"1m\"}},"
                      " {\"kind\": \"custom\", \"name\": \"sql_ok\", \"index\": 2, \"hold\": {\"drop\": "
                      "0.02}, \"mode\": \"observe\"},"
                      " {\"kind\": \"custom\", \"name\": \"other\", \"index\": 1}]");

    cr_assert_eq(g.count, 4);
    cr_assert_not(g.is_default);
    cr_assert(is_near(g.list[0].hold.delta, 0.01));
    cr_assert(g.list[0].has_rollback && is_near(g.list[0].rollback.ratio, 2));
    cr_assert(is_near(g.list[1].rollback.ratio, 3) && is_near(g.list[1].rollback.min_delta, 700));
    cr_assert(g.list[1].has_hold && is_near(g.list[1].hold.min_delta, 500));
    cr_assert(g.list[1].has_absolute && is_near(g.list[1].absolute_max, 9000));
    cr_assert_eq(g.list[1].absolute_over_ns, 60 * SECOND);
    cr_assert_eq(g.list[1].absolute_min_users, 5);
    cr_assert_not(g.list[0].has_absolute);
    cr_assert_str_eq(g.list[2].name, "sql_ok");
    cr_assert_eq(g.list[2].custom_index, 2);
    cr_assert(g.list[2].is_observed && !g.list[1].is_observed);
    cr_assert(is_near(g.list[2].hold.drop, 0.02) && is_near(g.list[2].hold.ratio, 0));
    cr_assert_not(g.list[2].has_rollback);
    cr_assert(g.list[3].has_hold && is_near(g.list[3].hold.ratio, 1.3));
    cr_assert(is_near(g.list[0].weight, 0.5) && is_near(g.list[1].weight, 0.5));
    cr_assert(is_near(g.list[2].weight, 0));
}

Test(plan, weights_that_are_said_stay_and_the_rest_is_shared)
{
    struct flagshm_guards g = guards_of(
        "", "\"guardrails\": [{\"kind\": \"error_rate\", \"weight\": 0.4}, {\"kind\": \"json_valid\"},"
            " {\"kind\": \"latency_p95\"}, {\"kind\": \"lost\"}]");
    struct fixture f;

    cr_assert(is_near(g.list[0].weight, 0.4));
    cr_assert(is_near(g.list[1].weight, 0.3) && is_near(g.list[2].weight, 0.3));
    cr_assert(is_near(g.list[3].weight, 0), "it only holds");
    f = parse_with("",
                   "\"guardrails\": [{\"kind\": \"error_rate\", \"weight\": 1}, {\"kind\": \"json_valid\"}]");
    cr_assert_eq(f.file.errors, 1);
    cr_assert_not_null(strstr(f.printed, "leave nothing for json_valid"), "%s", f.printed);
    fixture_free(&f);
}

Test(plan, guards_whose_outcomes_arrive_join_the_default_set)
{
    struct flagshm_guards g;
    int kind;

    flagshm_guards_default(&g);
    for (kind = FLAGSHM_GUARD_LOST; kind < FLAGSHM_GUARD_CUSTOM; kind++)
        flagshm_guards_add(&g, (enum flagshm_guard_kind)kind);
    flagshm_guards_add(&g, FLAGSHM_GUARD_LOST);
    cr_assert_eq(g.count, 8);
    cr_assert_eq(g.list[4].kind, FLAGSHM_GUARD_LOST);
    cr_assert_not(g.list[4].has_rollback);
    cr_assert(g.list[4].has_hold);
}

/* ---- hashes ---- */

Test(plan, the_hash_tells_meanings_apart_and_not_spellings)
{
    static const char *const others[] = {
        "{\"plan\": [{\"pct\": 6}]}",
        "{\"plan\": [{\"pct\": 5, \"approval\": true}]}",
        "{\"plan\": [{\"pct\": 5}, {\"pct\": 6}]}",
        "{\"plan\": [{\"shadow_pct\": 5}]}",
        "{\"plan\": [{\"pct\": 5, \"min_users\": 21}]}",
        "{\"plan\": [{\"pct\": 5}], \"hold\": \"23h\"}",
        "{\"plan\": [{\"pct\": 5}], \"watch\": \"71h\"}",
        "{\"plan\": [{\"pct\": 5}], \"mode\": \"guard\"}",
        "{\"plan\": [{\"pct\": 5}], \"overdue\": \"61s\"}",
        "{\"plan\": [{\"pct\": 5}], \"drill_every\": \"8d\"}",
        "{\"plan\": [{\"pct\": 5}], \"no_data\": {\"action\": \"advance\"}}",
        "{\"plan\": [{\"pct\": 5}], \"no_data\": {\"grace\": \"23h\"}}",
        "{\"plan\": [{\"pct\": 5}], \"window\": {\"tz\": \"UTC\", \"days\": \"mon\"}}",
        "{\"plan\": [{\"pct\": 5}], \"window\": {\"tz\": \"GMT\", \"days\": \"mon\"}}",
        "{\"plan\": [{\"pct\": 5}], \"window\": {\"tz\": \"UTC\", \"hours\": \"09:00-10:00\"}}",
        "{\"plan\": [{\"pct\": 5}], \"alpha\": 0.02}",
        "{\"plan\": [{\"pct\": 5}], \"prove\": {\"lost\": 2}}",
        "{\"plan\": [{\"pct\": 5}], \"prove\": {\"empty\": 2}}",
        "{\"plan\": [{\"pct\": 5}], \"holdback_pct\": 1}",
        "{\"plan\": [{\"pct\": 5}], \"notify\": [\"ab\"]}",
        "{\"plan\": [{\"pct\": 5}], \"notify\": [\"a\", \"b\"]}",
    };
    struct flagshm_plan plan = plan_of("", "{\"plan\": [{\"pct\": 5}]}"),
                        same = plan_of("{\"rollout\": {\"hold\": \"1d\"}}",
                                       "{\"watch\": \"72h\", \"plan\": [{\"min_users\": 20, \"pct\": 5.0}]}");
    uint64_t hashes[64] = {flagshm_plan_hash(&plan)};
    size_t i, j, count = sizeof others / sizeof others[0];

    cr_assert_eq(hashes[0], flagshm_plan_hash(&same));
    for (i = 0; i < count; i++) {
        struct flagshm_plan other = plan_of("", others[i]);

        hashes[i + 1] = flagshm_plan_hash(&other);
        for (j = 0; j <= i; j++)
            cr_assert_neq(hashes[i + 1], hashes[j], "%s", others[i]);
    }
}

Test(plan, the_hash_of_guards_tells_meanings_apart)
{
    static const char *const lists[] = {
        "[]",
        "\"default\"",
        "[{\"kind\": \"lost\"}]",
        "[{\"kind\": \"empty\"}]",
        "[{\"kind\": \"lost\", \"mode\": \"observe\"}]",
        "[{\"kind\": \"lost\", \"hold\": {\"ratio\": 1.6}}]",
        "[{\"kind\": \"lost\", \"rollback\": {\"ratio\": 1.6}}]",
        "[{\"kind\": \"lost\", \"absolute\": {\"max\": 0.5}}]",
        "[{\"kind\": \"lost\", \"absolute\": {\"max\": 0.5, \"over\": \"4m\"}}]",
        "[{\"kind\": \"lost\", \"absolute\": {\"max\": 0.5, \"min_users\": 4}}]",
        "[{\"kind\": \"lost\", \"weight\": 0.5}]",
        "[{\"kind\": \"custom\", \"name\": \"a\", \"index\": 0}]",
        "[{\"kind\": \"custom\", \"name\": \"b\", \"index\": 0}]",
        "[{\"kind\": \"custom\", \"name\": \"a\", \"index\": 1}]",
    };
    uint64_t hashes[32];
    size_t i, j;

    for (i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        char members[256];
        struct flagshm_guards g;

        snprintf(members, sizeof members, "\"guardrails\": %s", lists[i]);
        g = guards_of("", members);
        hashes[i] = flagshm_guards_hash(&g);
        for (j = 0; j < i; j++)
            cr_assert_neq(hashes[i], hashes[j], "%s", lists[i]);
    }
}

/* ---- last good ---- */

Test(plan, an_error_in_the_defaults_keeps_the_last_good_ones)
{
    struct fixture before =
        parse_with("{\"rollout\": {\"hold\": \"4h\"}}", "\"rollout\": {\"plan\": [{\"pct\": 5}]}");
    struct fixture after = parse_with("{\"rollout\": {\"hold\": \"4 hours\"}}",
                                      "\"rollout\": {\"plan\": [{\"pct\": 5}, {\"pct\": 50}]}");
    struct flagshm_merge merge;

    cr_assert_eq(flagshm_lastgood_merge(&before.file, &after.file, false, NULL, &merge), 0);
    cr_assert_eq(merge.good.count, 1);
    cr_assert_eq(merge.good.entries[0].flag.plan->step_count, 2, "the flag moves on");
    cr_assert_eq(merge.good.entries[0].flag.plan->steps[1].hold_ns, 4 * HOUR);
    flagshm_flagfile_free(&merge.good);
    fixture_free(&before);
    fixture_free(&after);
}

Test(plan, a_broken_entry_keeps_its_plan_and_its_guards)
{
    struct fixture before =
        parse_with("", "\"rollout\": {\"plan\": [{\"pct\": 5}]}, \"guardrails\": [{\"kind\": \"lost\"}]");
    struct fixture after = parse_with("", "\"rollout\": {\"plan\": [{\"pct\": 500}]}, \"guardrails\": []");
    struct flagshm_merge merge;

    cr_assert_eq(flagshm_lastgood_merge(&before.file, &after.file, false, NULL, &merge), 0);
    cr_assert_eq(merge.good.count, 1);
    cr_assert_eq(merge.good.entries[0].flag.plan->steps[0].mpct, 5000);
    cr_assert_eq(merge.good.entries[0].flag.guards->count, 1);
    flagshm_flagfile_free(&merge.good);
    fixture_free(&before);
    fixture_free(&after);
}
