/* wards_take: what edits of the file, starts, and a lack of memory make of rollouts. */
#include "wards_fixture.h"

static struct wards_world w;

static void begin(const char *flags)
{
    world_begin(&w);
    world_take(&w, flags);
}

/* ---- edits ---- */

Test(wards_take, a_flag_that_comes_back_begins_at_its_first_step_and_keeps_its_latch)
{
    begin(PLANNED("f") "," PLANNED("g") "," PLANNED("h"));
    world_advance(&w, "f", 5000);
    world_advance(&w, "g", 5000);
    world_say(&w, "g", (struct flagshm_ask){.verb = FLAGSHM_VERB_ROLLBACK});
    world_take(&w, PLANNED("h"));
    cr_assert_not(ward_of(&w, "f")->file.is_present);
    cr_assert_null(ward_of(&w, "f")->source);
    cr_assert_eq(share_of(&w, "f"), 0);
    world_take(&w, PLANNED("f") "," PLANNED("g") "," PLANNED("h"));
    cr_assert_eq(ward_of(&w, "f")->state.stage, FLAGSHM_STAGE_OFF);
    cr_assert_eq(ward_of(&w, "g")->state.stage, FLAGSHM_STAGE_ROLLED_BACK);
    cr_assert_eq(share_of(&w, "g"), 0);
    cr_assert_not_null(ward_of(&w, "f")->source);
    world_end(&w);
}

Test(wards_take, an_edit_of_other_flags_says_nothing_of_this_one)
{
    begin(PLANNED("f") "," PLANNED("g"));
    w.wards.moved = 0;
    world_take(&w, PLANNED("f") "," PLANNED_NEWER("g"));
    cr_assert_eq(w.wards.moved, 1);
    world_take(&w, PLANNED("f") "," PLANNED_NEWER("g"));
    cr_assert_eq(w.wards.moved, 1);
    world_end(&w);
}

static void expect_refused(const char *flags, size_t errors)
{
    struct flagshm_flagfile file;
    struct flagshm_diags diags;

    world_parse(&w, flags, &file, &diags);
    flagshm_wards_refuse(&w.wards, &file, &diags);
    cr_assert_eq(file.errors, errors);
    cr_assert_eq(diags.errors, errors);
    cr_assert_eq(file.entries[0].broken, errors > 0);
    cr_assert_not(file.entries[1].broken);
    if (errors > 0) {
        cr_assert_str_eq(diags.items[0].pointer, "/flags/f");
        cr_assert_not_null(strstr(diags.items[0].message, "flagctl finish f"), "%s", diags.items[0].message);
    }
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
}

Test(wards_take, at_the_top_another_variant_beside_the_old_control_is_refused)
{
    static const char both[] = PLANNED_NEWER("f") "," PLANNED("g"),
                      finished[] = "\"f\": {\"control\": \"new\", \"variant\": \"newer\", \"rollout\": " PLAN
                                   "}," PLANNED("g");

    begin(PLANNED("f") "," PLANNED("g"));
    expect_refused(both, 0);
    world_advance(&w, "f", 25000);
    expect_refused(both, 0);
    world_advance(&w, "f", 100000);
    cr_assert_eq(ward_of(&w, "f")->state.stage, FLAGSHM_STAGE_FULL);
    expect_refused(both, 1);
    expect_refused(finished, 0);
    ward_of(&w, "f")->state.stage = FLAGSHM_STAGE_COMPLETE;
    expect_refused(both, 1);
    expect_refused(PLANNED("f") "," PLANNED("g"), 0);
    world_say(&w, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_ROLLBACK});
    expect_refused(both, 0);
    world_end(&w);
}

/* ---- starts ---- */

static void recover(const char *flags)
{
    world_restart(&w);
    world_take(&w, flags);
}

Test(wards_take, after_a_start_the_table_may_only_say_less_than_the_journal)
{
    begin(PLANNED("f"));
    world_advance(&w, "f", 5000);
    recover(PLANNED("f"));
    cr_assert_eq(share_of(&w, "f"), 5000, "no table: as it is written down");
    cr_assert_eq(ward_of(&w, "f")->state.evidence, 2, "its slot is lost");
    cr_assert_eq(w.asked_share_mpct, 5000, "the served table is asked by the journal's word");
    w.is_adopted = true;
    w.served = (struct flagshm_rollout_served){.fingerprint = ward_of(&w, "f")->state.variant_fingerprint,
                                               .share_mpct = 5000,
                                               .stage = FLAGSHM_STAGE_STEP,
                                               .is_slot_kept = true};
    recover(PLANNED("f"));
    cr_assert_eq(ward_of(&w, "f")->state.evidence, 2, "the same evidence goes on");
    w.served.share_mpct = 25000;
    recover(PLANNED("f"));
    cr_assert_eq(share_of(&w, "f"), 5000, "a table raises nothing");
    w.served.share_mpct = 1000;
    recover(PLANNED("f"));
    cr_assert_eq(share_of(&w, "f"), 1000);
    w.served.is_latched = true;
    recover(PLANNED("f"));
    cr_assert_eq(ward_of(&w, "f")->state.stage, FLAGSHM_STAGE_ROLLED_BACK);
    world_end(&w);
}

Test(wards_take, where_the_journal_was_lost_what_is_complete_stays_and_all_else_begins_anew)
{
    static const struct {
        bool is_journal_lost, is_state_lost, was_planned;
        enum flagshm_stage stage;
        uint32_t share_mpct, expected_mpct;
        enum flagshm_cause cause;
    } cases[] = {
        {true, false, false, FLAGSHM_STAGE_STEP, 5000, 0, FLAGSHM_CAUSE_JOURNAL_LOST},
        {false, true, false, FLAGSHM_STAGE_STEP, 5000, 0, FLAGSHM_CAUSE_JOURNAL_LOST},
        {false, false, true, FLAGSHM_STAGE_STEP, 5000, 0, FLAGSHM_CAUSE_JOURNAL_LOST},
        {false, false, false, FLAGSHM_STAGE_STEP, 5000, 0, FLAGSHM_CAUSE_FLAG_NEW},
        {true, false, true, FLAGSHM_STAGE_COMPLETE, 100000, 100000, FLAGSHM_CAUSE_JOURNAL_LOST},
        {true, false, true, FLAGSHM_STAGE_FULL, 100000, 0, FLAGSHM_CAUSE_JOURNAL_LOST},
    };
    struct flagshm_flagfile parsed;
    struct flagshm_diags diags;
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        world_begin(&w);
        world_parse(&w, PLANNED("f"), &parsed, &diags);
        w.is_adopted = true;
        w.was_planned = cases[i].was_planned;
        w.served = (struct flagshm_rollout_served){.fingerprint = parsed.entries[0].flag.arms[1].fingerprint,
                                                   .share_mpct = cases[i].share_mpct,
                                                   .stage = cases[i].stage};
        w.wards.is_journal_lost = cases[i].is_journal_lost;
        if (cases[i].is_state_lost)
            flagshm_wards_add(&w.wards, "f")->is_state_lost = true;
        world_take(&w, PLANNED("f"));
        cr_assert_eq(share_of(&w, "f"), cases[i].expected_mpct, "%zu", i);
        cr_assert_eq(ward_of(&w, "f")->moves->transition.cause, cases[i].cause, "%zu: %s", i,
                     ward_of(&w, "f")->moves->transition.sentence);
        flagshm_flagfile_free(&parsed);
        world_end(&w);
    }
}

Test(wards_take, at_a_start_the_files_of_kills_are_newer_than_the_state)
{
    begin(PLANNED("f"));
    world_advance(&w, "f", 5000);
    w.is_killed = true;
    recover(PLANNED("f"));
    cr_assert(ward_of(&w, "f")->state.is_killed);
    cr_assert_eq(share_of(&w, "f"), 0);
    recover(PLANNED("f"));
    cr_assert(ward_of(&w, "f")->state.is_killed, "as before");
    w.is_killed = false;
    recover(PLANNED("f"));
    cr_assert_not(ward_of(&w, "f")->state.is_killed);
    cr_assert_eq(ward_of(&w, "f")->state.stage, FLAGSHM_STAGE_OFF, "lifted, as by hand: at its first step");
    world_end(&w);
}

Test(wards_take, a_start_that_could_not_publish_starts_again)
{
    begin(PLANNED("f"));
    world_advance(&w, "f", 5000);
    world_restart(&w);
    w.is_adopted = true;
    w.served = (struct flagshm_rollout_served){.share_mpct = 1000, .stage = FLAGSHM_STAGE_STEP};
    w.served.fingerprint = ward_of(&w, "f")->state.variant_fingerprint;
    world_take_or_not(&w, PLANNED("f"), false);
    cr_assert_eq(w.wards.moved, 0);
    cr_assert_not(ward_of(&w, "f")->is_recovered);
    world_take(&w, PLANNED("f"));
    cr_assert_eq(share_of(&w, "f"), 1000, "the table's word is still heard");
    cr_assert_eq(w.wards.moved, 1);
    world_end(&w);
}

/* ---- no memory ---- */

/* The linker brings the library's allocations here. */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);

static long until_failure = -1; /* allocations; below 0: none fails */

static bool fails(void)
{
    return until_failure >= 0 && until_failure-- == 0;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    return fails() ? NULL : __real_realloc(old, bytes);
}

/* Forty new flags and an edit of an old one, with the n-th allocation failing; all of it again until none does. */
static void take_without_memory(const char *flags)
{
    struct flagshm_flagfile file;
    struct flagshm_diags diags;
    int result = -ENOMEM;
    size_t i;
    long n;

    world_parse(&w, flags, &file, &diags);
    flagshm_diags_free(&diags);
    for (n = 0; result != 0; n++) {
        until_failure = n;
        result = world_draft(&w, &file);
        until_failure = -1;
        cr_assert(result == 0 || result == -ENOMEM);
        for (i = 0; result != 0 && i < w.wards.count; i++) {
            cr_assert_null(w.wards.list[i]->draft, "%ld", n);
            cr_assert_eq(w.wards.list[i]->next_source, w.wards.list[i]->source);
        }
        cr_assert_lt(n, 1000);
    }
    cr_assert_gt(n, 41, "each draft is an allocation");
    flagshm_wards_settle(&w.wards, true);
    w.wards.is_started = true;
    if (w.has_good)
        flagshm_flagfile_free(&w.good);
    w.good = file;
    w.has_good = true;
}

static const char *many_flags(char *text, size_t room)
{
    size_t used = (size_t)snprintf(text, room, PLANNED_NEWER("f"));
    int i;

    for (i = 0; i < 40; i++)
        used += (size_t)snprintf(text + used, room - used,
                                 ", \"g%d\": {\"control\": \"old\", \"variant\": \"new\", \"rollout\": %s}",
                                 i, PLAN);
    return text;
}

Test(wards_take, without_memory_nothing_is_drafted_and_all_is_as_it_was)
{
    static char flags[16384];

    begin(PLANNED("f"));
    world_advance(&w, "f", 5000);
    take_without_memory(many_flags(flags, sizeof flags));
    cr_assert_eq(w.wards.count, 41);
    cr_assert_eq(ward_of(&w, "f")->state.attempt, 2);
    cr_assert_eq(w.wards.moved, 43, "first sight, the advance and the edit of one; first sight of forty");
    world_end(&w);
    begin(PLANNED("f"));
    world_advance(&w, "f", 5000);
    world_restart(&w);
    take_without_memory(many_flags(flags, sizeof flags));
    cr_assert_eq(ward_of(&w, "f")->state.attempt, 2, "a start is no other");
    world_end(&w);
}

Test(wards_take, without_memory_for_a_draft_a_text_or_a_move_nothing_breaks)
{
    struct flagshm_ward *ward;

    begin(PLANNED("f"));
    ward = ward_of(&w, "f");
    until_failure = 0;
    cr_assert_null(flagshm_ward_draft(ward));
    until_failure = 0;
    cr_assert_null(flagshm_ward_write(ward, &ward->state));
    until_failure = -1;
    w.wards.moved = 1; /* but for that of its first sight */
    cr_assert_eq(world_ask(&w, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_PAUSE}), 0);
    until_failure = 0;
    flagshm_ward_apply(&w.wards, ward);
    until_failure = -1;
    cr_assert(ward->state.is_paused, "in force, though nobody writes it down by itself");
    cr_assert_eq(w.wards.moved, 1);
    world_end(&w);
}
