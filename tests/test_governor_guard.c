/* governor: whom it guards: flags without a plan, the hidden flag of a drill, rollouts over restarts, frozen ones, and many at once. */
#include "governor_fixture.h"

static struct place place;
static struct flagshm_governor_answer answer;

/* ---- the default guard ---- */

static uint64_t calls_of(const char *flag)
{
    static struct flagshm_slot_counts counts;
    uint32_t slot = slot_of(&place, flag);

    if (slot >= FLAGSHM_SLOTS || !flagshm_ledger_read(&place.publisher.ledger, slot, &counts))
        return UINT64_MAX;
    return counts.arms[0].n[FLAGSHM_N_FINISHED] + counts.arms[1].n[FLAGSHM_N_FINISHED];
}

Test(governor_guard, a_flag_without_a_plan_is_guarded_when_its_outcomes_come_and_keeps_its_counts)
{
    uint32_t generation;

    set_up(&place);
    take(&place, PLAIN("f", "50") "," PLAIN("g", "50"));
    pass(&place, 5 * SECOND);
    cr_assert_null(ward_of(&place, "f"), "nobody books");
    be_well(&place, "f", 0);
    generation = generation_of(&place, "f");
    pass(&place, 25 * SECOND); /* in each beat it looks at a quarter of the slots */
    cr_assert_not_null(ward_of(&place, "f"));
    cr_assert_null(ward_of(&place, "g"));
    cr_assert_eq(generation_of(&place, "f"), generation);
    cr_assert_eq(calls_of("f"), 400);
    cr_assert_eq(share(&place, "f"), 50.0);
    be_well(&place, "f", 0);
    cr_assert_eq(calls_of("f"), 800, "decisions of before go on");
    pass(&place, 2 * MINUTE);
    harm(&place, "f");
    news(&place);
    cr_assert_eq(share(&place, "f"), 0.0);
    commit(&place);
    cr_assert_eq(written(&place, "f").stage, FLAGSHM_STAGE_ROLLED_BACK);
    tear_down(&place);
}

Test(governor_guard, it_refuses_no_guardrails_and_several_variants)
{
    set_up(&place);
    take(&place, "\"f\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 50, \"guardrails\": []}");
    be_well(&place, "f", 0);
    pass(&place, 25 * SECOND); /* in each beat it looks at a quarter of the slots */
    cr_assert(ward_of(&place, "f") == NULL || !ward_of(&place, "f")->state.is_seen);
    harm(&place, "f");
    pass(&place, 2 * MINUTE);
    cr_assert_eq(share(&place, "f"), 50.0);
    tear_down(&place);
}

Test(governor_guard, fifty_flags_whose_outcomes_come_in_one_second_are_all_guarded)
{
    static char flags[16384];
    size_t used = 0;
    char flag[16];
    int i;

    for (i = 0; i < 50; i++)
        used +=
            (size_t)snprintf(flags + used, sizeof flags - used,
                             "%s\"f%d\": {\"control\": \"old\", \"variant\": \"new\", \"rollout_pct\": 50}",
                             i > 0 ? ", " : "", i);
    set_up(&place);
    take(&place, flags);
    for (i = 0; i < 50; i++) {
        snprintf(flag, sizeof flag, "f%d", i);
        be_well(&place, flag, 0);
    }
    pass(&place, 25 * SECOND); /* in each beat it looks at a quarter of the slots */
    for (i = 0; i < 50; i++) {
        snprintf(flag, sizeof flag, "f%d", i);
        cr_assert_not_null(ward_of(&place, flag), "%s", flag);
        cr_assert(ward_of(&place, flag)->state.is_seen);
    }
    tear_down(&place);
}

/* ---- drills ---- */

static bool is_there(const char *flag)
{
    struct flagshm_decision d;

    return flagshm_decide(&place.client, flag, "user-1", &d) != FLAGSHM_FLAG_NOT_FOUND;
}

static void begin_drill(void)
{
    cr_assert(flagshm_governor_drill(place.governor, "f", "ann", &answer));
    cr_assert_eq(answer.result, 0, "%s", answer.sentence);
    cr_assert_str_not_empty(answer.hidden);
}

Test(governor_guard, a_drill_serves_a_hidden_flag_that_is_rolled_back_and_removed)
{
    struct flagshm_governor_answer second;
    char hidden[72];

    set_up(&place);
    take(&place, PLANNED("f") "," PLANNED("g"));
    reach(&place, "f", 5000);
    begin_drill();
    memcpy(hidden, answer.hidden, sizeof hidden);
    cr_assert_eq(share(&place, hidden), 50.0);
    cr_assert(flagshm_governor_drill(place.governor, "g", "bob", &second));
    cr_assert_eq(second.result, -EPERM, "one at a time");
    book(&place, hidden, 0, 30, 0, 200);
    news(&place);
    harm(&place, hidden);
    news(&place);
    cr_assert_eq(share(&place, hidden), 0.0);
    cr_assert_eq(share(&place, "f"), 5.0, "nobody else is touched");
    cr_assert_not(flagshm_governor_drill_end(place.governor, "f", 1500000, false, "ann", 9, &answer));
    cr_assert_not(is_there(hidden));
    commit(&place);
    cr_assert_eq(place.answer_count, 1);
    cr_assert_eq(place.answers[0].asker, 9);
    cr_assert_eq(written(&place, "f").drill_took_ns, 1500000);
    cr_assert_gt(written(&place, "f").drilled_wall_ns, 0);
    cr_assert_eq(written(&place, hidden).stage, FLAGSHM_STAGE_KILLED, "nobody writes it down");
    tear_down(&place);
}

Test(governor_guard, a_drill_that_nobody_ends_ends_by_itself)
{
    char hidden[72];
    size_t count;

    set_up(&place);
    take(&place, PLANNED("f"));
    commit(&place);
    count = place.publisher.wards.count;
    begin_drill();
    memcpy(hidden, answer.hidden, sizeof hidden);
    take(&place, PLANNED("f") "," PLAIN("g", "5"));
    cr_assert(is_there(hidden), "an edit meanwhile");
    pass(&place, 9 * SECOND);
    cr_assert(is_there(hidden));
    pass(&place, 2 * SECOND);
    cr_assert_not(is_there(hidden));
    cr_assert_eq(place.publisher.wards.count, count);
    cr_assert_eq(share(&place, "g"), 5.0);
    begin_drill();
    memcpy(hidden, answer.hidden, sizeof hidden);
    stop(&place);
    start(&place);
    take(&place, PLANNED("f"));
    cr_assert_not(is_there(hidden), "nor over the server's end");
    tear_down(&place);
}

Test(governor_guard, a_drill_that_cannot_be_published_is_none)
{
    set_up(&place);
    take(&place, PLANNED("f"));
    place.publisher.beats_unlocked = 1;
    cr_assert(flagshm_governor_drill(place.governor, "f", "ann", &answer));
    cr_assert_eq(answer.result, -EIO);
    place.publisher.beats_unlocked = 0;
    cr_assert_not(place.governor->drill.is_on);
    cr_assert_null(place.publisher.hidden);
    begin_drill();
    tear_down(&place);
}

/* ---- restarts ---- */

Test(governor_guard, a_restart_goes_on_with_the_same_evidence_in_the_same_slot)
{
    static const char *const flags[] = {"planned", "plain"};
    uint32_t evidence[2], generation[2];
    uint64_t calls;
    size_t i, k;

    set_up(&place);
    take(&place, PLANNED("planned") "," PLAIN("plain", "50"));
    reach(&place, "planned", 50000);
    be_well(&place, "planned", 0);
    be_well(&place, "plain", 0);
    pass(&place, 3 * MINUTE);
    commit(&place);
    calls = calls_of("planned");
    for (i = 0; i < 2; i++) {
        evidence[i] = ward_of(&place, flags[i])->state.evidence;
        generation[i] = generation_of(&place, flags[i]);
    }
    for (k = 0; k < 3; k++) {
        stop(&place);
        start(&place);
        take(&place, PLANNED("planned") "," PLAIN("plain", "50"));
        pass(&place, 5 * SECOND);
        for (i = 0; i < 2; i++) {
            cr_assert_eq(ward_of(&place, flags[i])->state.evidence, evidence[i], "%s", flags[i]);
            cr_assert_eq(generation_of(&place, flags[i]), generation[i], "%s", flags[i]);
            cr_assert_eq(share(&place, flags[i]), 50.0);
            cr_assert(place.publisher.ledger.entries[slot_of(&place, flags[i])].is_open, "%s", flags[i]);
        }
        cr_assert_eq(calls_of("planned"), calls);
    }
    harm(&place, "planned");
    news(&place);
    cr_assert_eq(share(&place, "planned"), 0.0);
    commit(&place);
    for (k = 0; k < 3; k++) {
        stop(&place);
        start(&place);
        take(&place, PLANNED("planned") "," PLAIN("plain", "50"));
        beat(&place);
        cr_assert_eq(share(&place, "planned"), 0.0);
        commit(&place);
    }
    tear_down(&place);
}

/* ---- freezing ---- */

Test(governor_guard, what_is_frozen_neither_starts_nor_rises_until_it_is_thawed_over_a_restart_too)
{
    set_up(&place);
    take(&place, PLANNED("f"));
    commit(&place);
    cr_assert_not(flagshm_governor_freeze(place.governor, true, "ann", "fair", 1, &answer));
    cr_assert(flagshm_governor_freeze(place.governor, true, "bob", "too", 2, &answer));
    cr_assert_eq(answer.result, -EALREADY);
    commit(&place);
    cr_assert_eq(place.answer_count, 1);
    pass(&place, MINUTE);
    cr_assert_null(ward_of(&place, "f")->pending);
    cr_assert(ward_of(&place, "f")->judgement.waits & 1u << FLAGSHM_WAIT_FREEZE);
    stop(&place);
    start(&place);
    take(&place, PLANNED("f"));
    pass(&place, 2 * MINUTE);
    cr_assert_null(ward_of(&place, "f")->pending);
    cr_assert_str_eq(place.governor->frozen_reason, "fair");
    reach(&place, "f", 5000); /* a person still may, by hand */
    fill_disk(true);
    cr_assert_not(flagshm_governor_freeze(place.governor, false, "ann", "", 3, &answer));
    commit(&place);
    fill_disk(false);
    cr_assert_eq(place.answers[place.answer_count - 1].asker, 3);
    cr_assert_neq(place.answers[place.answer_count - 1].result, 0);
    cr_assert(place.governor->is_frozen, "a thaw that is not written down is none");
    cr_assert_not(flagshm_governor_freeze(place.governor, false, "ann", "", 4, &answer));
    commit(&place);
    cr_assert_not(place.governor->is_frozen);
    tear_down(&place);
}

Test(governor_guard, a_rise_that_waits_when_all_is_frozen_comes_to_nothing)
{
    set_up(&place);
    take(&place, PLANNED("f"));
    commit(&place);
    beat(&place);
    cr_assert_not_null(ward_of(&place, "f")->pending);
    cr_assert_not(flagshm_governor_freeze(place.governor, true, "ann", "fair", 1, &answer));
    commit(&place);
    commit(&place);
    cr_assert_eq(share(&place, "f"), 0.0);
    cr_assert_eq(written(&place, "f").share_mpct, 0);
    cr_assert_not(flagshm_governor_freeze(place.governor, false, "ann", "", 2, &answer));
    commit(&place);
    beat(&place);
    commit(&place);
    cr_assert_eq(share(&place, "f"), 5.0);
    tear_down(&place);
}

Test(governor_guard, what_a_live_drill_took_away_comes_back_also_while_all_is_frozen)
{
    const struct flagshm_ask drill = {.verb = FLAGSHM_VERB_DRILL, .user = "ann", .reason = ""};

    set_up(&place);
    take(&place, PLANNED("f"));
    reach(&place, "f", 5000);
    cr_assert_not(flagshm_governor_ask(place.governor, "f", &drill, 1, &answer));
    cr_assert_eq(share(&place, "f"), 0.0);
    commit(&place);
    cr_assert_not(flagshm_governor_freeze(place.governor, true, "ann", "fair", 2, &answer));
    commit(&place);
    pass(&place, 5 * SECOND); /* nobody ends it */
    commit(&place);
    cr_assert_eq(share(&place, "f"), 5.0);
    tear_down(&place);
}

/* ---- many ---- */

Test(governor_guard, of_sixty_four_rollouts_each_goes_its_own_way)
{
    static char flags[32768];
    size_t used = 0;
    char flag[16];
    int i;

    for (i = 0; i < 64; i++)
        used += (size_t)snprintf(flags + used, sizeof flags - used,
                                 "%s\"f%d\": {\"control\": \"old\", \"variant\": \"new\", \"rollout\": %s}",
                                 i > 0 ? ", " : "", i, PLAN);
    set_up(&place);
    take(&place, flags);
    beat(&place);
    commit(&place);
    for (i = 0; i < 64; i++) {
        snprintf(flag, sizeof flag, "f%d", i);
        cr_assert_eq(share(&place, flag), 5.0, "%s", flag);
        cr_assert_lt(slot_of(&place, flag), FLAGSHM_SLOTS);
        reach(&place, flag, 50000);
    }
    pass(&place, 2 * MINUTE);
    harm(&place, "f7");
    harm(&place, "f63");
    for (i = 0; i < 64; i += 3)
        if (i != 63) {
            snprintf(flag, sizeof flag, "f%d", i);
            be_well(&place, flag, 0);
        }
    news(&place);
    for (i = 0; i < 64; i++) {
        snprintf(flag, sizeof flag, "f%d", i);
        cr_assert_eq(share(&place, flag), i == 7 || i == 63 ? 0.0 : 50.0, "%s", flag);
    }
    commit(&place);
    cr_assert_eq(written(&place, "f7").stage, FLAGSHM_STAGE_ROLLED_BACK);
    cr_assert_eq(written(&place, "f8").stage, FLAGSHM_STAGE_STEP);
    tear_down(&place);
}
