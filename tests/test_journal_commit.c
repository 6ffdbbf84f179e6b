/* test_journal_commit: what a commit leaves in the journal; disks that do not serve stand in test_journal_commit_faults.c */
#include "tests/journal_commit_fixture.h"

/* ---- all of it, or nothing ---- */

Test(journal_commit, all_of_a_commit_is_there_after_reopening)
{
    const char *const targets[] = {"oncall", "audit"};
    struct world w;
    cJSON *events;
    char *text;

    world_make(&w);
    open_well(&w);
    flagshm_journal_commit(w.journal, &(struct flagshm_journal_commit){.realtime_ns = NOON,
                                                                       .flag = "checkout",
                                                                       .state = "{\"step\":2}",
                                                                       .kind = "advance",
                                                                       .user = "ann",
                                                                       .detail = "to 5 %",
                                                                       .numbers = "{\"a\":3,\"b\":1}",
                                                                       .version = 42,
                                                                       .setting = "frozen",
                                                                       .value = "friday",
                                                                       .notice_id = "n1",
                                                                       .notice = "checkout is at 5 %",
                                                                       .targets = targets,
                                                                       .target_count = 2,
                                                                       .is_condition = true,
                                                                       .ticket = 7});
    cr_assert_eq(reported(&w, 7), 0);
    reopen_well(&w);
    cr_assert_eq(w.start.version, 42);
    cr_assert_str_eq(states(&w), "{\"checkout\":\"{\\\"step\\\":2}\"}");
    cr_assert_str_eq(setting(&w, "frozen"), "friday");
    cr_assert_str_eq(notices(&w), "n1>oncall:checkout is at 5 %,n1>audit:checkout is at 5 %");
    events = flagshm_journal_history(w.journal, "checkout", 10);
    text = cJSON_PrintUnformatted(events);
    cr_assert_str_eq(text,
                     "[{\"time\":\"2025-11-25T12:00:00.123Z\",\"kind\":\"advance\",\"flag\":\"checkout\","
                     "\"user\":\"ann\",\"detail\":\"to 5 %\",\"file_rev\":null,\"version\":42,\"numbers\":"
                     "{\"a\":3,\"b\":1}}]");
    free(text);
    cJSON_Delete(events);
    world_end(&w);
}

Test(journal_commit, a_new_journal_knows_no_states_settings_and_notices)
{
    struct world w;

    world_make(&w);
    open_well(&w);
    cr_assert_str_eq(states(&w), "{}");
    cr_assert_str_empty(notices(&w));
    cr_assert_null(flagshm_journal_setting(w.journal, "frozen"));
    world_end(&w);
}

Test(journal_commit, the_later_of_two_commits_of_one_flag_counts)
{
    struct world w;
    char text[32];
    int i;

    world_make(&w);
    open_well(&w);
    for (i = 1; i <= 300; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        flagshm_journal_commit(w.journal, &(struct flagshm_journal_commit){.realtime_ns = NOON - (uint64_t)i,
                                                                           .flag = i % 3 ? "a" : "b",
                                                                           .state = text,
                                                                           .setting = "word",
                                                                           .value = text,
                                                                           .is_condition = i % 2,
                                                                           .ticket = (uint64_t)i});
        memset(text, 'x', sizeof text - 1); /* it was copied */
    }
    cr_assert_eq(reported(&w, 1), 0);
    for (i = 2; i <= 300; i++)
        cr_assert_eq(reported(&w, (uint64_t)i), 0, "in the order of the commits");
    cr_assert_str_eq(states(&w), "{\"a\":\"299\",\"b\":\"300\"}");
    cr_assert_str_eq(setting(&w, "word"), "300");
    cr_assert_str_empty(told(&w, NULL, 10), "without a kind there is no event");
    world_end(&w);
}

Test(journal_commit, a_state_is_forgotten_and_a_setting_taken_out)
{
    struct world w;

    world_make(&w);
    open_well(&w);
    commit_state(&w, "a", "1", 0);
    commit_state(&w, "b", "2", 0);
    flagshm_journal_commit(w.journal, &(struct flagshm_journal_commit){.setting = "frozen", .value = "yes"});
    flagshm_journal_commit(w.journal,
                           &(struct flagshm_journal_commit){
                               .flag = "a", .is_forgotten = true, .kind = "forget", .realtime_ns = NOON});
    reopen_well(&w);
    cr_assert_str_eq(states(&w), "{\"b\":\"2\"}");
    cr_assert_str_eq(setting(&w, "frozen"), "yes");
    flagshm_journal_commit(w.journal, &(struct flagshm_journal_commit){.setting = "frozen"});
    flagshm_journal_commit(
        w.journal, &(struct flagshm_journal_commit){.flag = "b", .kind = "note", .realtime_ns = NOON});
    flush_well(&w);
    cr_assert_null(flagshm_journal_setting(w.journal, "frozen"));
    cr_assert_str_eq(states(&w), "{\"b\":\"2\"}", "it stays as it is");
    cr_assert_str_eq(told(&w, NULL, 10), "note:-,forget:-");
    world_end(&w);
}

Test(journal_commit, what_the_data_base_cannot_hold_is_refused_whole_and_the_others_are_written)
{
    struct world w;

    world_make(&w);
    open_well(&w);
    commit_state(&w, "a", "1", 1);
    flagshm_journal_commit(w.journal, &(struct flagshm_journal_commit){.realtime_ns = NOON,
                                                                       .kind = "advance",
                                                                       .state = "a state of no flag",
                                                                       .setting = "frozen",
                                                                       .value = "yes",
                                                                       .is_condition = true,
                                                                       .ticket = 2});
    commit_state(&w, "c", "3", 3);
    cr_assert_eq(reported(&w, 1), 0);
    cr_assert_eq(reported(&w, 2), -EINVAL);
    cr_assert_eq(reported(&w, 3), 0);
    cr_assert_str_eq(states(&w), "{\"a\":\"1\",\"c\":\"3\"}");
    cr_assert_null(flagshm_journal_setting(w.journal, "frozen"));
    cr_assert_null(strstr(told(&w, NULL, 10), "advance"));
    world_end(&w);
}

Test(journal_commit, numbers_that_are_no_object_are_left_out_of_the_history)
{
    static const char *const cases[] = {NULL, "", "{}", "[1]", "7", "{\"a\":", "null"};
    cJSON *events, *one;
    struct world w;
    size_t i;

    world_make(&w);
    open_well(&w);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        flagshm_journal_commit(w.journal, &(struct flagshm_journal_commit){
                                              .realtime_ns = NOON, .kind = "x", .numbers = cases[i]});
    events = flagshm_journal_history(w.journal, NULL, 10);
    cr_assert_eq(cJSON_GetArraySize(events), 7);
    cJSON_ArrayForEach(one, events) cr_assert_null(cJSON_GetObjectItem(one, "numbers"));
    cJSON_Delete(events);
    world_end(&w);
}

/* ---- reports ---- */

Test(journal_commit, the_report_comes_once_and_only_where_it_is_wanted)
{
    struct flagshm_journal_report report;
    struct world w;

    world_make(&w);
    open_well(&w);
    cr_assert_not(is_readable(&w, 0));
    cr_assert_not(flagshm_journal_take(w.journal, &report));
    commit_state(&w, "a", "1", 0);
    event(&w, NOON, "kill", "a", "x");
    flush_well(&w);
    cr_assert_not(is_readable(&w, 0), "nobody waits for these");
    commit_state(&w, "a", "2", UINT64_MAX);
    commit_state(&w, "a", "3", 5);
    flush_well(&w);
    cr_assert(is_readable(&w, 0));
    cr_assert(flagshm_journal_take(w.journal, &report));
    cr_assert(report.ticket == UINT64_MAX && report.result == 0);
    cr_assert_str_empty(report.error.text);
    cr_assert(is_readable(&w, 0), "there is one more");
    cr_assert(flagshm_journal_take(w.journal, &report));
    cr_assert_eq(report.ticket, 5);
    cr_assert_not(is_readable(&w, 0));
    flush_well(&w);
    cr_assert_not(flagshm_journal_take(w.journal, &report));
    commit_state(&w, "a", "4", 6); /* and one that nobody takes */
    world_end(&w);
}

/* ---- notices ---- */

static void notice(struct world *w, const char *id, const char *text, const char *const *targets,
                   size_t target_count)
{
    flagshm_journal_commit(w->journal, &(struct flagshm_journal_commit){.realtime_ns = NOON,
                                                                        .notice_id = id,
                                                                        .notice = text,
                                                                        .targets = targets,
                                                                        .target_count = target_count});
}

Test(journal_commit, notices_are_kept_oldest_first_until_they_are_done)
{
    const char *const targets[] = {"x", "y"};
    struct world w;
    cJSON *all;

    world_make(&w);
    open_well(&w);
    notice(&w, "z", "first", targets, 2);
    notice(&w, "b", "second", targets, 1);
    notice(&w, "z", "once more", targets, 2);
    notice(&w, "c", "for nobody", targets, 0);
    flagshm_journal_notice_done(w.journal, "nowhere", "x");
    reopen_well(&w);
    cr_assert_str_eq(notices(&w), "z>x:first,z>y:first,b>x:second");
    all = flagshm_journal_notices(w.journal);
    cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(all, 0), "time_ns")),
                     "1764072000123456789", "to the last digit");
    cJSON_Delete(all);
    flagshm_journal_notice_done(w.journal, "z", "x");
    reopen_well(&w);
    cr_assert_str_eq(notices(&w), "z>y:first,b>x:second");
    flagshm_journal_notice_done(w.journal, "z", "y");
    flagshm_journal_notice_done(w.journal, "b", "x");
    reopen_well(&w);
    cr_assert_str_empty(notices(&w));
    world_end(&w);
}

/* ---- how long ---- */

Test(journal_commit, what_lasts_outlives_the_events)
{
    const char *const target = "x";
    struct world w;

    world_make(&w);
    open_well(&w);
    flagshm_journal_commit(w.journal, &(struct flagshm_journal_commit){.realtime_ns = NOON,
                                                                       .flag = "a",
                                                                       .state = "rolled back",
                                                                       .kind = "rollback",
                                                                       .setting = "frozen",
                                                                       .value = "yes",
                                                                       .notice_id = "n",
                                                                       .notice = "text",
                                                                       .targets = &target,
                                                                       .target_count = 1});
    flush_well(&w);
    event(&w, NOON + 91 * DAY, "kill", "a", "now");
    flush_well(&w);
    cr_assert_str_eq(told(&w, NULL, 10), "kill:now");
    cr_assert_str_eq(states(&w), "{\"a\":\"rolled back\"}");
    cr_assert_str_eq(setting(&w, "frozen"), "yes");
    cr_assert_str_eq(notices(&w), "n>x:text");
    world_end(&w);
}

Test(journal_commit, what_is_too_much_costs_no_state)
{
    const struct journal_limits limits = {.age_ns = 90 * DAY, .bytes = 4096};
    char *large = calloc(1, 100001);
    struct journal_record records[] = {
        {.next = &records[1], .time_ns = NOON, .flag = "a", .state = large},
        {.time_ns = NOON, .kind = "advance", .flag = "a", .detail = "goes"},
    };
    struct journal_store store;
    struct flagshm_error error = {""};
    struct world w;
    size_t refused;

    world_make(&w);
    memset(large, 's', 100000);
    cr_assert_eq(journal_store_open(&store, w.dir, &error), 0, "%s", error.text);
    cr_assert_eq(journal_store_write(&store, records, 0, 0, &refused, &error), 0, "%s", error.text);
    cr_assert_eq(journal_store_prune(&store, NOON, &limits, &error), 0, "%s", error.text);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event"), 0);
    cr_assert_eq(seen(w.db, "SELECT length(body) FROM state"), 100000);
    journal_store_close(&store);
    free(large);
    remove_tree(w.root);
}

/* ---- journals of an older release ---- */

Test(journal_commit, a_journal_of_schema_1_is_brought_up_to_date_and_loses_nothing)
{
    struct world w;
    size_t bytes;
    char *text;

    world_make(&w);
    make_schema_1(&w, "");
    open_well(&w);
    cr_assert_not(w.start.was_damaged);
    cr_assert_eq(w.start.version, 12);
    cr_assert_eq(w.start.file_rev, 3);
    cr_assert_eq(seen(w.db, "PRAGMA user_version"), 2);
    cr_assert_str_eq(told(&w, NULL, 10), "kill:hurts,file:-");
    cr_assert_str_eq(told(&w, "a", 10), "kill:hurts");
    cr_assert_eq(seen(w.db, "SELECT id FROM event WHERE kind = 'kill'"), 9);
    text = flagshm_journal_text(w.journal, 3, &bytes);
    cr_assert_str_eq(text, "{}");
    free(text);
    cr_assert_str_eq(states(&w), "{}");
    commit_state(&w, "a", "1", 1);
    cr_assert_eq(reported(&w, 1), 0);
    reopen_well(&w);
    cr_assert_str_eq(states(&w), "{\"a\":\"1\"}");
    cr_assert_str_eq(told(&w, NULL, 10), "kill:hurts,file:-");
    world_end(&w);
}

/* A new data base and one that was brought up to date are of one shape. */
Test(journal_commit, both_ways_lead_to_the_same_schema)
{
    static const char shape[] =
        "SELECT group_concat(m.name || ' ' || p.name || ' ' || p.type || ' ' || p.\"notnull\" || "
        "p.pk) FROM (SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name) "
        "m, pragma_table_info(m.name) p";
    struct world fresh, old;
    char *expected, *found;

    world_make(&fresh);
    open_well(&fresh);
    expected = seen_text(fresh.db, shape);
    world_make(&old);
    make_schema_1(&old, "");
    open_well(&old);
    found = seen_text(old.db, shape);
    cr_assert_str_eq(found, expected);
    cr_assert_not_null(strstr(found, "event numbers TEXT"));
    free(found);
    free(expected);
    world_end(&old);
    world_end(&fresh);
}

Test(journal_commit, an_update_that_fails_half_way_leaves_the_old_journal_as_it_was)
{
    struct world w;

    world_make(&w);
    make_schema_1(&w, "CREATE TABLE notice(x);"); /* the last of the new tables */
    open_journal(&w);
    cr_assert_not(w.start.is_writable);
    cr_assert_not(w.start.was_damaged);
    cr_assert_eq(w.start.version, 12);
    cr_assert_eq(seen(w.db, "PRAGMA user_version"), 1);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM sqlite_schema WHERE name = 'state'"), 0);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM pragma_table_info('event') WHERE name = 'numbers'"), 0);
    cr_assert_str_eq(told(&w, NULL, 10), "kill:hurts,file:-");
    world_end(&w);
}
