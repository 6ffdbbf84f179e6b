/* governor: the orders of writing down and publishing, what a disk and a table that refuse change of it, and answers. */
#include "governor_fixture.h"

static struct place place;
static struct flagshm_governor_answer answer;

/* ---- what raises ---- */

Test(governor, a_start_is_an_advance_and_waits_for_its_commit)
{
    uint64_t version;

    set_up(&place);
    take(&place, PLANNED("f"));
    commit(&place);
    version = place.publisher.version;
    beat(&place);
    beat(&place);
    cr_assert_eq(share(&place, "f"), 0.0);
    cr_assert_not_null(ward_of(&place, "f")->pending);
    cr_assert_eq(place.publisher.version, version);
    commit(&place);
    cr_assert_eq(share(&place, "f"), 5.0);
    cr_assert_eq(written(&place, "f").share_mpct, 5000);
    cr_assert_eq(place.publisher.version, version + 1, "one table for one step");
    cr_assert_null(ward_of(&place, "f")->pending);
    tear_down(&place);
}

Test(governor, a_plan_is_walked_to_its_end_by_time_and_users)
{
    static const double shares[] = {5, 50, 100};
    unsigned i, minute;

    set_up(&place);
    take(&place, PLANNED("f"));
    beat(&place);
    for (i = 0; i < 3; i++) {
        commit(&place);
        cr_assert_eq(share(&place, "f"), shares[i]);
        for (minute = 0; i < 2 && minute < 10; minute++) {
            be_well(&place, "f", 1000 * minute);
            pass(&place, MINUTE);
            cr_assert_null(ward_of(&place, "f")->pending, "before its time");
        }
        pass(&place, MINUTE);
        cr_assert_eq(ward_of(&place, "f")->pending != NULL, i < 2, "%s", ward_of(&place, "f")->state.why);
    }
    tear_down(&place);
}

Test(governor, a_rise_that_cannot_be_written_down_changes_nothing_and_is_tried_later_and_later)
{
    uint64_t wait_ns = SECOND;
    struct flagshm_ward *ward;
    int i;

    set_up(&place);
    take(&place, PLANNED("f"));
    commit(&place);
    fill_disk(true);
    beat(&place);
    ward = ward_of(&place, "f");
    for (i = 0; i < 9; i++) {
        commit(&place);
        cr_assert_eq(share(&place, "f"), 0.0);
        cr_assert_null(ward->pending);
        cr_assert_str_not_empty(ward->trouble.text);
        cr_assert_eq(ward->retry_wait_ns, wait_ns, "%d", i);
        passed_ns += wait_ns - SECOND / 2;
        beat(&place);
        cr_assert_null(ward->pending, "too early");
        passed_ns += SECOND;
        beat(&place);
        cr_assert_not_null(ward->pending, "%d", i);
        wait_ns = 2 * wait_ns < MINUTE ? 2 * wait_ns : MINUTE;
    }
    commit(&place);
    fill_disk(false);
    pass(&place, 61 * SECOND);
    commit(&place);
    cr_assert_eq(share(&place, "f"), 5.0);
    cr_assert_str_empty(ward->trouble.text);
    cr_assert_eq(ward->retry_wait_ns, 0);
    cr_assert_eq(written(&place, "f").share_mpct, 5000);
    tear_down(&place);
}

Test(governor, a_rise_that_is_written_and_cannot_be_published_comes_to_nothing)
{
    struct flagshm_ward *ward;
    uint64_t number;

    set_up(&place);
    take(&place,
         "\"f\": {\"control\": \"old\", \"variant\": \"new\", \"rollout\": {\"plan\": \"b2c\", \"notify\": "
         "[\"oncall\"]}}");
    commit(&place);
    beat(&place);
    ward = ward_of(&place, "f");
    number = ward->pending->transitions;
    place.publisher.beats_unlocked = 1;
    commit(&place);
    cr_assert_eq(share(&place, "f"), 0.0);
    cr_assert_not_null(strstr(ward->trouble.text, "another writer"), "%s", ward->trouble.text);
    cr_assert_gt(ward->retry_mono_ns, 0);
    commit(&place);
    cr_assert_eq(written(&place, "f").share_mpct, 0, "a restart would begin where nothing ever was");
    cr_assert_eq(count_notices(&place), 0, "a restart would tell of what never was");
    cr_assert_eq(strncmp(last_event(&place, "f"), "undone ", 7), 0, "%s", last_event(&place, "f"));
    cr_assert_not_null(strstr(last_event(&place, "f"), "another writer"), "%s", last_event(&place, "f"));
    place.publisher.beats_unlocked = 0;
    pass(&place, 2 * SECOND);
    cr_assert_eq(ward->pending->transitions, number + 1, "its number is in the history");
    commit(&place);
    cr_assert_eq(share(&place, "f"), 1.0);
    tear_down(&place);
}

Test(governor, what_is_kept_now_and_then_is_not_written_over_a_rise)
{
    struct flagshm_ward *ward;
    int i;

    set_up(&place);
    take(&place, PLANNED("f"));
    reach(&place, "f", 5000);
    ward = ward_of(&place, "f");
    for (i = 0; i < 200 && ward->pending == NULL; i++) {
        be_well(&place, "f", 0);
        ward->kept_mono_ns = 1; /* long ago */
        pass(&place, 5 * SECOND);
    }
    cr_assert_not_null(ward->pending, "waits %x hold %llu", ward->judgement.waits,
                       (unsigned long long)ward->state.hold_ns / SECOND);
    ward->is_unkept = true;
    beat(&place);
    commit(&place);
    cr_assert_eq(share(&place, "f"), 50.0);
    commit(&place);
    cr_assert_eq(written(&place, "f").share_mpct, 50000);
    tear_down(&place);
}

Test(governor, a_server_that_ends_before_a_rise_is_published_goes_on_where_it_was)
{
    set_up(&place);
    take(&place, PLANNED("f"));
    commit(&place);
    beat(&place);
    cr_assert_not_null(ward_of(&place, "f")->pending);
    stop(&place);
    start(&place);
    cr_assert_eq(written(&place, "f").share_mpct, 0);
    take(&place, PLANNED("f"));
    cr_assert_eq(share(&place, "f"), 0.0);
    tear_down(&place);
}

/* ---- what lowers ---- */

Test(governor, a_roll_back_is_published_whatever_the_disk_does)
{
    struct flagshm_decision d;

    set_up(&place);
    take(&place, PLANNED("f"));
    reach(&place, "f", 50000);
    pass(&place, 2 * MINUTE);
    commit(&place);
    fill_disk(true);
    harm(&place, "f");
    news(&place);
    cr_assert_eq(share(&place, "f"), 0.0);
    cr_assert_eq(flagshm_decide(&place.client, "f", "user-1", &d), FLAGSHM_DISABLED);
    cr_assert_str_eq(d.stage, "rolled-back");
    commit(&place);
    fill_disk(false);
    cr_assert_eq(written(&place, "f").share_mpct, 50000);
    commit(&place);
    cr_assert_eq(written(&place, "f").stage, FLAGSHM_STAGE_ROLLED_BACK);
    tear_down(&place);
}

Test(governor, one_look_at_a_time_that_brings_no_news_publishes_nothing)
{
    uint64_t version;

    set_up(&place);
    take(&place, PLANNED("f"));
    reach(&place, "f", 50000);
    pass(&place, 2 * MINUTE);
    version = place.publisher.version;
    be_well(&place, "f", 0);
    book(&place, "f", 1, 1, 5000, 500);
    news(&place);
    news(&place);
    pass(&place, 30 * SECOND);
    cr_assert_eq(place.publisher.version, version);
    tear_down(&place);
}

static void expect_taken_away(const char *flag)
{
    struct flagshm_decision d;

    cr_assert_eq(flagshm_decide(&place.client, flag, "user-1", &d), FLAGSHM_DISABLED);
    cr_assert_eq(share(&place, flag), 0.0);
    cr_assert_eq(ward_of(&place, flag)->state.stage, FLAGSHM_STAGE_ROLLED_BACK);
}

Test(governor, where_no_table_can_be_published_the_variant_is_taken_away_in_place)
{
    set_up(&place);
    take(&place, PLANNED("f") "," PLANNED("g"));
    reach(&place, "f", 50000);
    reach(&place, "g", 50000);
    pass(&place, 2 * MINUTE);
    harm(&place, "f");
    place.publisher.beats_unlocked = 1;
    news(&place);
    expect_taken_away("f");
    cr_assert_eq(share(&place, "g"), 50.0, "and no other");
    cr_assert_not(say(&place, "g", (struct flagshm_ask){.verb = FLAGSHM_VERB_ROLLBACK}, 5, &answer));
    expect_taken_away("g");
    commit(&place);
    cr_assert_eq(place.answer_count, 1);
    cr_assert_eq(place.answers[0].result, 0);
    cr_assert_eq(written(&place, "f").stage, FLAGSHM_STAGE_ROLLED_BACK);
    place.publisher.beats_unlocked = 0;
    take(&place, PLANNED("f") "," PLANNED("g") "," PLAIN("h", "3"));
    cr_assert_eq(share(&place, "h"), 3.0);
    expect_taken_away("f");
    expect_taken_away("g");
    tear_down(&place);
}

Test(governor, a_table_that_does_not_fit_holds_back_no_roll_back)
{
    struct flagshm_flagfile large;
    struct flagshm_diags diags = {0};
    char *text = NULL;
    size_t bytes = 0, i;
    FILE *stream = open_memstream(&text, &bytes);

    fprintf(stream, "{\"flags\": {");
    for (i = 0; i < 100; i++)
        fprintf(stream,
                "%s\"big-%zu\": {\"control\": \"a\", \"variant\": {\"model\": \"b\", \"prompt\": \"%*d\"}}",
                i > 0 ? ", " : "", i, 60000, (int)i);
    fprintf(stream, "}}");
    fclose(stream);
    cr_assert_eq(flagshm_flagfile_parse(&large, text, bytes, NULL, &diags), 0);
    cr_assert_eq(diags.errors, 0);
    set_up(&place);
    take(&place, PLANNED("f"));
    reach(&place, "f", 50000);
    pass(&place, 2 * MINUTE);
    commit(&place);
    harm(&place, "f");
    place.publisher.hidden = &large; /* a table that is made now needs a larger segment */
    fill_disk(true);
    news(&place);
    fill_disk(false);
    cr_assert_str_not_empty(place.publisher.refusal.text);
    expect_taken_away("f");
    place.publisher.hidden = NULL;
    flagshm_flagfile_free(&large);
    flagshm_diags_free(&diags);
    free(text);
    tear_down(&place);
}

/* ---- a rise that another change comes before ---- */

static void begin_rise_by(uint64_t asker)
{
    const struct flagshm_ask ask = {.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = 50000};

    cr_assert_not(say(&place, "f", ask, asker, &answer), "%s", answer.sentence);
    cr_assert_not_null(ward_of(&place, "f")->pending);
}

Test(governor, a_rise_that_waits_never_comes_over_a_roll_back)
{
    set_up(&place);
    take(&place, PLANNED("f"));
    reach(&place, "f", 5000);
    begin_rise_by(1);
    cr_assert_not(say(&place, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_ROLLBACK}, 2, &answer));
    commit(&place);
    commit(&place);
    cr_assert_eq(place.answer_count, 2);
    cr_assert_eq(place.answers[0].asker, 1);
    cr_assert_eq(place.answers[0].result, -EAGAIN);
    cr_assert_eq(place.answers[1].asker, 2);
    cr_assert_eq(place.answers[1].result, 0);
    cr_assert_eq(share(&place, "f"), 0.0);
    cr_assert_eq(written(&place, "f").stage, FLAGSHM_STAGE_ROLLED_BACK);
    tear_down(&place);
}

Test(governor, nor_over_a_kill_for_which_no_table_could_be_made)
{
    set_up(&place);
    take(&place, PLANNED("f"));
    reach(&place, "f", 5000);
    begin_rise_by(1);
    place.publisher.beats_unlocked = 1;
    cr_assert_eq(flagshm_publisher_kill(&place.publisher, "f", "ann", "hurts"), 0);
    flagshm_governor_work(place.governor);
    place.publisher.beats_unlocked = 0;
    cr_assert_eq(share(&place, "f"), 0.0);
    commit(&place);
    commit(&place);
    cr_assert(ward_of(&place, "f")->state.is_killed);
    cr_assert_eq(ward_of(&place, "f")->state.share_mpct, 5000);
    cr_assert(written(&place, "f").is_killed);
    cr_assert_eq(place.answers[0].result, -EAGAIN);
    cr_assert_eq(flagshm_publisher_unkill(&place.publisher, "f", "ann", NULL), 0);
    cr_assert_eq(share(&place, "f"), 0.0, "at its first step, by the plan's pace");
    tear_down(&place);
}

Test(governor, what_is_in_force_is_written_down_again_where_a_written_rise_comes_to_nothing)
{
    set_up(&place);
    take(&place, PLANNED("f"));
    reach(&place, "f", 5000);
    begin_rise_by(1);
    take(&place,
         "\"f\": {\"control\": \"old\", \"variant\": \"new\", \"description\": \"x\", \"rollout\": " PLAN
         "}");
    cr_assert_null(ward_of(&place, "f")->pending);
    commit(&place);
    commit(&place);
    cr_assert_eq(place.answers[0].result, -EAGAIN);
    cr_assert_eq(strncmp(last_event(&place, "f"), "undone ", 7), 0, "%s", last_event(&place, "f"));
    cr_assert_eq(share(&place, "f"), 5.0);
    cr_assert_eq(written(&place, "f").share_mpct, 5000);

    begin_rise_by(2); /* written; and the one that takes its place is not */
    {
        uint64_t passed = passed_ns;

        passed_ns = 0;
        cr_assert(flagshm_journal_flush(place.publisher.journal, 10000));
        passed_ns = passed;
    }
    fill_disk(true);
    begin_rise_by(3);
    commit(&place);
    fill_disk(false);
    commit(&place);
    cr_assert_eq(place.answer_count, 3);
    cr_assert_eq(place.answers[1].result, -EAGAIN);
    cr_assert_eq(place.answers[2].result, -EIO);
    cr_assert_eq(share(&place, "f"), 5.0);
    cr_assert_eq(written(&place, "f").share_mpct, 5000);
    tear_down(&place);
}

/* ---- answers ---- */

Test(governor, who_asks_is_answered_once_at_once_or_when_it_is_written_down)
{
    const struct flagshm_ask pause = {.verb = FLAGSHM_VERB_PAUSE}, advance = {.verb = FLAGSHM_VERB_ADVANCE};

    set_up(&place);
    take(&place, PLANNED("f"));
    cr_assert(say(&place, "nobody", pause, 1, &answer));
    cr_assert_eq(answer.result, -ENOENT);
    cr_assert_not(say(&place, "f", pause, 2, &answer));
    cr_assert(say(&place, "f", pause, 3, &answer));
    cr_assert_eq(answer.result, -EALREADY);
    cr_assert_not(say(&place, "f", advance, 4, &answer));
    cr_assert_eq(place.answer_count, 0);
    commit(&place);
    beat(&place);
    commit(&place);
    cr_assert_eq(place.answer_count, 2);
    cr_assert_eq(place.answers[0].asker, 2);
    cr_assert(place.answers[0].is_durable);
    cr_assert_eq(place.answers[1].asker, 4);
    cr_assert(place.answers[1].is_durable);
    cr_assert_eq(share(&place, "f"), 5.0);

    fill_disk(true);
    cr_assert_not(say(&place, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_ROLLBACK}, 5, &answer));
    cr_assert_eq(share(&place, "f"), 0.0);
    commit(&place);
    cr_assert_eq(place.answer_count, 3);
    cr_assert_eq(place.answers[2].result, 0);
    cr_assert_not(place.answers[2].is_durable);
    cr_assert_str_not_empty(place.answers[2].warning);
    fill_disk(false);
    commit(&place);
    cr_assert_eq(place.answer_count, 3, "no second one when it is written after all");
    cr_assert_eq(written(&place, "f").stage, FLAGSHM_STAGE_ROLLED_BACK);
    cr_assert(say(&place, "f", advance, 6, &answer));
    cr_assert_eq(answer.result, -EPERM);
    tear_down(&place);
}

Test(governor, a_person_hears_that_a_rise_cannot_be_written_down_or_published)
{
    const struct flagshm_ask advance = {.verb = FLAGSHM_VERB_ADVANCE};

    set_up(&place);
    take(&place, PLANNED("f"));
    commit(&place);
    fill_disk(true);
    cr_assert_not(say(&place, "f", advance, 1, &answer));
    commit(&place);
    fill_disk(false);
    cr_assert_eq(place.answer_count, 1);
    cr_assert_eq(place.answers[0].result, -EIO);
    cr_assert_not_null(strstr(place.answers[0].sentence, "nothing has changed"));
    cr_assert_not(say(&place, "f", advance, 2, &answer), "and need not wait to ask again");
    place.publisher.beats_unlocked = 1;
    commit(&place);
    place.publisher.beats_unlocked = 0;
    cr_assert_eq(place.answer_count, 2);
    cr_assert_eq(place.answers[1].result, -EIO);
    cr_assert_eq(share(&place, "f"), 0.0);
    tear_down(&place);
}

Test(governor, without_memory_who_asks_is_answered_all_the_same)
{
    set_up(&place);
    take(&place, PLANNED("f"));
    commit(&place);
    calloc_fails = true;
    cr_assert_not(say(&place, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_PAUSE}, 1, &answer));
    cr_assert(say(&place, "f", (struct flagshm_ask){.verb = FLAGSHM_VERB_ADVANCE}, 2, &answer));
    calloc_fails = false;
    cr_assert_eq(answer.result, -ENOMEM);
    cr_assert(ward_of(&place, "f")->state.is_paused);
    commit(&place);
    cr_assert_eq(place.answer_count, 1);
    cr_assert_eq(place.answers[0].result, 0);
    cr_assert_not_null(strstr(place.answers[0].warning, "no memory"));
    tear_down(&place);
}
