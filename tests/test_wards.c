/* wards: drafts and what comes of them, moves, a rise that waits, and the guardrails of an evidence. */
#include "wards_fixture.h"

#define GUARDED        FLAG("guarded", "new", ", \"guardrails\": [{\"kind\": \"error_rate\"}]")
#define PLAIN          FLAG("plain", "new", ", \"rollout_pct\": 5")
#define REFUSED        FLAG("refused", "new", ", \"rollout_pct\": 5, \"guardrails\": []")
#define VALUES         "{\"b\": {\"value\": \"b\"}, \"c\": {\"value\": \"c\"}}"
#define MANY           "\"many\": {\"control\": \"a\", \"variants\": " VALUES ", \"rollout_pct\": 5}"
#define OWN            FLAG("own", "new", ", \"rollout\": " PLAN ", \"guardrails\": [{\"kind\": \"error_rate\"}]")
#define SHORT          FLAG("short", "new", ", \"rollout\": {\"plan\": [{\"pct\": 1, \"hold\": \"8s\"}]}")
#define KINDS_OF_FLAGS PLANNED("planned") ", " GUARDED ", " PLAIN ", " REFUSED ", " MANY

static struct wards_world w;

static void begin(const char *flags)
{
    world_begin(&w);
    world_take(&w, flags);
}

static struct flagshm_table_entry entry_of(const char *flag)
{
    struct flagshm_table_entry entry = {0};

    flagshm_ward_entry(ward_of(&w, flag), &entry);
    return entry;
}

/* As the governor does it with a rise that must be written down first. */
static void begin_rise(const char *flag, uint32_t mpct)
{
    struct flagshm_ward *ward = ward_of(&w, flag);

    cr_assert_eq(world_ask(&w, flag, (struct flagshm_ask){.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = mpct}), 0);
    ward->pending = malloc(sizeof *ward->pending);
    *ward->pending = ward->draft->state;
    ward->pending_ticket = 7;
    flagshm_ward_drop_draft(ward);
}

/* ---- who has a ward ---- */

Test(wards, a_plan_or_guardrails_of_its_own_make_a_ward_and_nothing_else_does)
{
    begin(KINDS_OF_FLAGS);
    cr_assert_eq(w.wards.count, 2);
    cr_assert(ward_of(&w, "planned")->state.is_planned);
    cr_assert(ward_of(&w, "guarded")->state.is_seen);
    cr_assert_not(ward_of(&w, "guarded")->state.is_planned);
    cr_assert_null(ward_of(&w, "plain"));
    world_end(&w);
}

Test(wards, any_number_is_found_and_one_that_is_removed_is_not)
{
    char flag[16];
    unsigned i;

    world_begin(&w);
    for (i = 0; i < 300; i++) {
        snprintf(flag, sizeof flag, "f%u", i);
        cr_assert_not_null(flagshm_wards_add(&w.wards, flag));
        cr_assert_eq(flagshm_wards_add(&w.wards, flag), ward_of(&w, flag), "the same again");
    }
    cr_assert_eq(w.wards.count, 300);
    for (i = 0; i < 300; i += 3) {
        snprintf(flag, sizeof flag, "f%u", i);
        flagshm_wards_remove(&w.wards, ward_of(&w, flag));
    }
    for (i = 0; i < 300; i++) {
        snprintf(flag, sizeof flag, "f%u", i);
        cr_assert_eq(ward_of(&w, flag) != NULL, i % 3 != 0, "%s", flag);
        cr_assert(i % 3 == 0 || strcmp(ward_of(&w, flag)->flag, flag) == 0);
    }
    world_end(&w);
}

/* ---- drafts ---- */

Test(wards, a_draft_is_what_the_next_table_serves_and_in_force_only_when_that_is_out)
{
    begin(PLANNED("f"));
    cr_assert_eq(world_ask(&w, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = 5000}), 0);
    cr_assert_eq(flagshm_rollout_share(entry_of("f").rollout), 5000);
    cr_assert_eq(share_of(&w, "f"), 0);
    flagshm_wards_settle(&w.wards, false);
    cr_assert_null(ward_of(&w, "f")->draft);
    cr_assert_eq(share_of(&w, "f"), 0);
    cr_assert_eq(flagshm_rollout_share(entry_of("f").rollout), 0);
    world_advance(&w, "f", 5000);
    cr_assert_null(ward_of(&w, "f")->draft);
    cr_assert_eq(share_of(&w, "f"), 5000);
    world_end(&w);
}

Test(wards, a_file_whose_table_did_not_come_out_leaves_all_as_it_was)
{
    const struct flagshm_plan *plan;
    struct flagshm_rollout state;

    begin(PLANNED("f"));
    world_advance(&w, "f", 5000);
    plan = ward_of(&w, "f")->file.plan;
    state = ward_of(&w, "f")->state;
    world_take_or_not(&w, FLAG("f", "newer", ", \"rollout\": {\"plan\": [{\"pct\": 3}]}"), false);
    cr_assert_eq(ward_of(&w, "f")->file.plan, plan);
    cr_assert_eq(ward_of(&w, "f")->next_file.plan, plan, "not that of a file that was freed");
    cr_assert_eq(memcmp(&ward_of(&w, "f")->state, &state, sizeof state), 0);
    world_take_or_not(&w, PLANNED("g"), false);
    cr_assert(ward_of(&w, "f")->file.is_present);
    cr_assert(ward_of(&w, "f")->state.is_present);
    cr_assert_not(ward_of(&w, "g")->state.is_seen);
    cr_assert_null(ward_of(&w, "g")->source);
    cr_assert_null(entry_of("g").guards);
    world_end(&w);
}

Test(wards, the_table_is_made_anew_for_what_it_shows_and_not_for_the_rest)
{
    static const struct {
        struct flagshm_ask ask;
        bool is_visible;
    } cases[] = {
        {{.verb = FLAGSHM_VERB_PAUSE}, false},
        {{.verb = FLAGSHM_VERB_RESUME}, false},
        {{.verb = FLAGSHM_VERB_APPROVE}, false},
        {{.verb = FLAGSHM_VERB_WAIVE, .wait = FLAGSHM_WAIT_HOLD, .for_ns = HOUR}, false},
        {{.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = 25000}, true},
        {{.verb = FLAGSHM_VERB_DRILL, .for_ns = SECOND}, true},
        {{.verb = FLAGSHM_VERB_DRILL_END, .drill_ns = 5}, true},
        {{.verb = FLAGSHM_VERB_DRILL_END, .drill_ns = 5}, false},
        {{.verb = FLAGSHM_VERB_KILL}, true},
        {{.verb = FLAGSHM_VERB_UNKILL}, true},
        {{.verb = FLAGSHM_VERB_ROLLBACK}, true},
        {{.verb = FLAGSHM_VERB_CLEAR}, true},
    };
    size_t i;

    begin(PLANNED("f"));
    world_advance(&w, "f", 1000);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(world_ask(&w, "f", cases[i].ask), 0, "%zu", i);
        cr_assert_eq(flagshm_ward_is_visible(ward_of(&w, "f")), cases[i].is_visible, "%zu", i);
        flagshm_ward_apply(&w.wards, ward_of(&w, "f"));
    }
    world_end(&w);
}

/* ---- moves ---- */

Test(wards, each_change_in_force_is_one_move_and_they_come_in_their_order)
{
    struct flagshm_ward_move move;
    uint64_t id = 0;
    int i, count = 0;

    begin(PLANNED("f") "," PLANNED("g"));
    while (flagshm_ward_take_move(&w.wards, ward_of(&w, "g"), &move))
        ;
    world_advance(&w, "f", 5000);
    for (i = 0; i < 3; i++) {
        cr_assert_eq(world_ask(&w, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_PAUSE}), 0);
        ward_of(&w, "f")->draft->asker = 70 + (uint64_t)i;
        flagshm_ward_apply(&w.wards, ward_of(&w, "f"));
        cr_assert_eq(world_ask(&w, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_RESUME}), 0);
        flagshm_ward_drop_draft(ward_of(&w, "f")); /* nothing came of it: no move */
        world_say(&w, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_RESUME});
    }
    cr_assert_eq(w.wards.moved, 8);
    while (flagshm_ward_take_move(&w.wards, ward_of(&w, "f"), &move)) {
        cr_assert_eq(move.transition.id, id + 1, "%llu after %llu", (unsigned long long)move.transition.id,
                     (unsigned long long)id);
        id = move.transition.id;
        cr_assert_eq(move.asker, count >= 2 && count % 2 == 0 ? 69 + (uint64_t)count / 2 : 0, "%d", count);
        count++;
    }
    cr_assert_eq(count, 8);
    cr_assert_eq(w.wards.moved, 0);
    world_advance(&w, "f", 25000);
    flagshm_wards_remove(&w.wards, ward_of(&w, "f"));
    cr_assert_eq(w.wards.moved, 0, "those of one that is removed count no more");
    world_end(&w);
}

/* ---- a rise that is being written down ---- */

Test(wards, a_rise_that_waits_is_not_in_force_and_its_number_is_given_out)
{
    uint64_t number;

    begin(PLANNED("f"));
    number = ward_of(&w, "f")->state.transitions;
    begin_rise("f", 5000);
    cr_assert_eq(share_of(&w, "f"), 0);
    cr_assert_eq(flagshm_rollout_share(entry_of("f").rollout), 0, "nor in any table that is made meanwhile");
    flagshm_wards_settle(&w.wards, true);
    cr_assert_not_null(ward_of(&w, "f")->pending, "a table of others does not end it");
    cr_assert_eq(flagshm_ward_draft(ward_of(&w, "f"))->state.transitions, number + 1);
    ward_of(&w, "f")->draft->state.hold_ns += SECOND;
    flagshm_ward_apply(&w.wards, ward_of(&w, "f"));
    cr_assert_not_null(ward_of(&w, "f")->pending, "nor does time that passes");
    world_end(&w);
}

Test(wards, any_other_change_ends_a_rise_that_waits)
{
    static const struct flagshm_ask asks[] = {{.verb = FLAGSHM_VERB_ROLLBACK},
                                              {.verb = FLAGSHM_VERB_KILL},
                                              {.verb = FLAGSHM_VERB_PAUSE},
                                              {.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = 25000}};
    struct flagshm_ward_move move;
    size_t i;

    for (i = 0; i < sizeof asks / sizeof asks[0]; i++) {
        begin(PLANNED("f"));
        world_advance(&w, "f", 1000);
        begin_rise("f", 5000);
        world_say(&w, "f", asks[i]);
        cr_assert_null(ward_of(&w, "f")->pending, "%zu", i);
        cr_assert_eq(ward_of(&w, "f")->pending_ticket, 0);
        while (ward_of(&w, "f")->moves->next != NULL)
            (void)flagshm_ward_take_move(&w.wards, ward_of(&w, "f"), &move);
        cr_assert_eq(ward_of(&w, "f")->moves->transition.id, 4, "the rise had 3");
        world_end(&w);
    }
    begin(PLANNED("f"));
    begin_rise("f", 5000);
    world_take(&w, FLAG("f", "new", ", \"rollout_pct\": 2, \"rollout\": " PLAN));
    cr_assert_null(ward_of(&w, "f")->pending, "an edit of the file");
    world_end(&w);
}

/* ---- guardrails ---- */

static bool has_kind(const struct flagshm_guards *guards, enum flagshm_guard_kind kind)
{
    uint32_t i;

    for (i = 0; i < guards->count; i++)
        if (guards->list[i].kind == kind)
            return true;
    return false;
}

Test(wards, guardrails_of_outcomes_that_arrive_are_judged_from_the_next_evidence_on)
{
    struct flagshm_ward *ward;

    begin(PLANNED("f") ", " OWN);
    world_advance(&w, "f", 1000);
    world_advance(&w, "own", 1000);
    ward = ward_of(&w, "f");
    ward->arrived = ward_of(&w, "own")->arrived = 1u << FLAGSHM_GUARD_TOOL_VALID | 1u << FLAGSHM_GUARD_EMPTY;
    cr_assert_not(has_kind(entry_of("f").guards, FLAGSHM_GUARD_EMPTY));
    world_say(&w, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_PAUSE});
    cr_assert_not(has_kind(&ward->guards, FLAGSHM_GUARD_EMPTY), "a slot's signals are fixed");
    world_say(&w, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_RESUME});
    cr_assert_eq(world_ask(&w, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = 5000}), 0);
    cr_assert(has_kind(entry_of("f").guards, FLAGSHM_GUARD_EMPTY));
    cr_assert_not(has_kind(&ward->guards, FLAGSHM_GUARD_EMPTY), "not before the table is out");
    flagshm_wards_settle(&w.wards, false);
    cr_assert_not(has_kind(entry_of("f").guards, FLAGSHM_GUARD_EMPTY));
    world_advance(&w, "f", 5000);
    cr_assert(has_kind(&ward->guards, FLAGSHM_GUARD_EMPTY));
    cr_assert(has_kind(&ward->guards, FLAGSHM_GUARD_TOOL_VALID));
    cr_assert_eq(ward->guards.count, 6);
    world_advance(&w, "own", 5000);
    cr_assert_eq(ward_of(&w, "own")->guards.count, 1, "the file's own stay its own");
    ward->arrived = 0;
    w.is_adopted = true;
    w.served = (struct flagshm_rollout_served){.fingerprint = ward->state.variant_fingerprint,
                                               .share_mpct = 5000,
                                               .stage = FLAGSHM_STAGE_STEP,
                                               .is_slot_kept = true};
    world_restart(&w);
    world_take(&w, PLANNED("f"));
    cr_assert(has_kind(&ward_of(&w, "f")->guards, FLAGSHM_GUARD_EMPTY), "and over a restart");
    world_end(&w);
}

Test(wards, other_evidence_forgets_the_verdict_and_another_attempt_all_of_it)
{
    struct flagshm_ward_post *post;

    begin(PLANNED("f"));
    world_advance(&w, "f", 1000);
    post = ward_of(&w, "f")->post = calloc(1, sizeof *post);
    post->has_verdict = true;
    post->evidence.generation = 3;
    world_say(&w, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_PAUSE});
    cr_assert(post->has_verdict);
    world_advance(&w, "f", 5000);
    cr_assert_not(post->has_verdict);
    cr_assert_eq(post->evidence.generation, 3, "what is known of control goes on");
    post->has_verdict = true;
    world_take(&w, PLANNED_NEWER("f"));
    cr_assert_not(post->has_verdict);
    cr_assert_eq(post->evidence.generation, 0);
    world_end(&w);
}

Test(wards, a_wash_in_is_a_quarter_of_a_short_hold_and_a_minute_where_nothing_is_known)
{
    begin(PLANNED("f") ", " SHORT);
    world_advance(&w, "f", 1000);
    world_advance(&w, "short", 1000);
    cr_assert_eq(entry_of("f").wash_in_ns, MINUTE);
    cr_assert_eq(entry_of("short").wash_in_ns, 2 * SECOND);
    ward_of(&w, "f")->is_hidden = true;
    cr_assert_eq(entry_of("f").wash_in_ns, 0, "of a drill: none");
    ward_of(&w, "f")->is_hidden = false;
    world_say(&w, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_KILL});
    cr_assert_null(entry_of("f").guards, "who serves nothing is not guarded");
    world_end(&w);
}
