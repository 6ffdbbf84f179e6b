/* test_journal: what the journal keeps, and for how long; its faults stand in test_journal_faults.c */
#include "server/replace_file.h"
#include "tests/journal_fixture.h"

/* ---- what is kept ---- */

Test(journal, a_new_journal_is_private_and_empty)
{
    struct world w;
    struct stat status;
    mode_t old = umask(0);
    char wal[140];

    world_make(&w);
    open_well(&w);
    umask(old);
    cr_assert_eq(w.start.version, 0);
    cr_assert_eq(w.start.file_rev, 0);
    cr_assert_not(w.start.was_damaged);
    cr_assert_str_empty(told(&w, NULL, 10));
    cr_assert_eq(stat(w.dir, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0700);
    cr_assert_eq(stat(w.db, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0600);
    (void)snprintf(wal, sizeof wal, "%s-wal", w.db);
    cr_assert_eq(stat(wal, &status), 0, "it is in WAL mode");
    cr_assert_eq(status.st_mode & 07777, 0600);
    cr_assert_eq(seen(w.db, "PRAGMA user_version"), JOURNAL_SCHEMA);
    world_end(&w);
}

Test(journal, an_event_says_when_what_and_who)
{
    struct world w;
    cJSON *events;
    char *text;

    world_make(&w);
    open_well(&w);
    flagshm_journal_event(w.journal, NOON, "kill", "checkout", "ann", "it \"hurts\"");
    flagshm_journal_publish(w.journal, NOON + SECOND, UINT64_C(1849752858624005), 7);
    flagshm_journal_file(w.journal, NOON + 2 * SECOND, 0, "{", 1,
                         "[{\"file\":\"f\",\"line\":1,\"column\":2,\"message\":\"ends\"}]");
    events = flagshm_journal_history(w.journal, NULL, 10);
    text = cJSON_PrintUnformatted(events);
    cr_assert_str_eq(
        text,
        "[{\"time\":\"2025-11-25T12:00:02.123Z\",\"kind\":\"refused\",\"flag\":null,\"user\":null,\"detail\":"
        "null,"
        "\"file_rev\":null,\"version\":null,\"faults\":[{\"file\":\"f\",\"line\":1,\"column\":2,\"message\":"
        "\"ends\"}]},"
        "{\"time\":\"2025-11-25T12:00:01.123Z\",\"kind\":\"publish\",\"flag\":null,\"user\":null,\"detail\":"
        "null,"
        "\"file_rev\":7,\"version\":1849752858624005},"
        "{\"time\":\"2025-11-25T12:00:00.123Z\",\"kind\":\"kill\",\"flag\":\"checkout\",\"user\":\"ann\","
        "\"detail\":\"it \\\"hurts\\\"\",\"file_rev\":null,\"version\":null}]");
    free(text);
    cJSON_Delete(events);
    world_end(&w);
}

Test(journal, history_is_newest_first_and_of_one_flag_with_the_kills_of_all)
{
    struct world w;

    world_make(&w);
    open_well(&w);
    event(&w, NOON, "kill", "a", "1");
    event(&w, NOON - SECOND, "kill", "b", "2"); /* a clock that was set back does not change the order */
    event(&w, NOON, "kill", NULL, "3");
    event(&w, NOON, "reload", NULL, "4");
    event(&w, NOON, "unkill", "a", "5");
    cr_assert_str_eq(told(&w, NULL, 10), "unkill:5,reload:4,kill:3,kill:2,kill:1");
    cr_assert_str_eq(told(&w, NULL, 2), "unkill:5,reload:4");
    cr_assert_str_eq(told(&w, "a", 10), "unkill:5,kill:3,kill:1");
    cr_assert_str_eq(told(&w, "a", 2), "unkill:5,kill:3");
    cr_assert_str_eq(told(&w, "b", 10), "kill:3,kill:2");
    cr_assert_str_eq(told(&w, "'; DROP TABLE event; --", 10), "kill:3");
    cr_assert_str_empty(told(&w, NULL, 0));
    world_end(&w);
}

Test(journal, the_numbers_survive)
{
    struct world w;

    world_make(&w);
    open_well(&w);
    flagshm_journal_publish(w.journal, NOON, 41, 6);
    flagshm_journal_publish(w.journal, NOON, 42, 6);
    file(&w, NOON, 7, "seven");
    file(&w, NOON, 0, "refused");
    reopen_well(&w);
    cr_assert_eq(w.start.version, 42);
    cr_assert_eq(w.start.file_rev, 7);
    flagshm_journal_publish(w.journal, NOON, 40, 5);
    reopen_well(&w);
    cr_assert_eq(w.start.version, 42, "the highest, not the last");
    cr_assert_eq(w.start.file_rev, 7);
    world_end(&w);
}

Test(journal, a_text_comes_back_byte_for_byte_and_is_stored_once)
{
    struct world w;
    char *text;
    size_t bytes = 99;
    int i;

    world_make(&w);
    open_well(&w);
    for (i = 1; i <= 50; i++)
        file(&w, NOON, (uint64_t)i, i % 2 ? "{ \"flags\": {} }\n" : "{\"flags\":{}}");
    flagshm_journal_file(w.journal, NOON, 51, "\xff\0b", 3, NULL);
    flagshm_journal_file(w.journal, NOON, 52, "", 0, NULL);
    file(&w, NOON, 51, "again"); /* numbers may repeat where a journal was lost: the newest counts */
    text = flagshm_journal_text(w.journal, 49, &bytes);
    cr_assert_str_eq(text, "{ \"flags\": {} }\n");
    cr_assert_eq(bytes, 16);
    free(text);
    text = flagshm_journal_text(w.journal, 51, &bytes);
    cr_assert_str_eq(text, "again");
    free(text);
    text = flagshm_journal_text(w.journal, 52, &bytes);
    cr_assert_not_null(text);
    cr_assert_eq(bytes, 0);
    free(text);
    cr_assert_null(flagshm_journal_text(w.journal, 53, &bytes));
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event"), 53);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM text"), 5);
    world_end(&w);
}

Test(journal, what_is_queued_is_written_at_the_end)
{
    struct world w;
    int i;

    world_make(&w);
    open_well(&w);
    for (i = 0; i < 500; i++)
        event(&w, NOON, "kill", "a", "x");
    flagshm_journal_close(w.journal);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event"), 500);
    open_well(&w);
    world_end(&w);
}

Test(journal, two_journals_on_one_file_lose_nothing)
{
    struct world w, other;
    int i;

    world_make(&w);
    open_well(&w);
    other = w;
    open_well(&other);
    for (i = 0; i < 100; i++) {
        event(&w, NOON, "kill", "a", "first");
        event(&other, NOON, "kill", "b", "second");
        if (i % 25 == 0)
            flush_well(&w);
    }
    flush_well(&other);
    flush_well(&w);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event"), 200);
    flagshm_journal_close(other.journal);
    world_end(&w);
}

Test(journal, a_commit_waits_for_the_disk)
{
    struct world w;
    struct journal_store store;
    struct flagshm_error error = {""};
    int64_t number = -1;

    world_make(&w);
    cr_assert_eq(journal_store_open(&store, w.dir, &error), 0, "%s", error.text);
    cr_assert_eq(journal_store_ask(&store, "PRAGMA synchronous", &number, &error), 0);
    cr_assert_eq(number, 2, "FULL");
    journal_store_close(&store);
    remove_tree(w.root);
}

/* ---- the last good set ---- */

Test(journal, the_last_good_set_is_whole_or_the_one_before)
{
    struct world w;
    char path[120], text[32] = "";
    struct stat status;
    int i, fd;

    world_make(&w);
    open_well(&w);
    (void)snprintf(path, sizeof path, "%s/last-good.json", w.dir);
    for (i = 0; i < 50; i++) {
        (void)snprintf(text, sizeof text, "number %d", i);
        flagshm_journal_last_good(w.journal, text, strlen(text));
    }
    flush_well(&w);
    memset(text, 0, sizeof text);
    fd = open(path, O_RDONLY);
    cr_assert_eq(read(fd, text, sizeof text - 1), 9);
    close(fd);
    cr_assert_str_eq(text, "number 49");
    cr_assert_eq(stat(path, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0600);
    cr_assert_eq(files_like(&w, "last-good.json"), 1, "nothing else is left");
    world_end(&w);
}

Test(journal, a_file_that_cannot_be_replaced_stays_as_it_was)
{
    struct world w;
    char path[120], fresh[130];
    struct flagshm_error error = {""};
    struct stat status;

    world_make(&w);
    cr_assert_eq(mkdir(w.dir, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/file", w.dir);
    (void)snprintf(fresh, sizeof fresh, "%s/file.new", w.dir);
    cr_assert_eq(flagshm_replace_file(path, "old", 3, 0640, &error), 0);
    cr_assert_eq(mkdir(fresh, 0700), 0);
    cr_assert_eq(flagshm_replace_file(path, "newer", 5, 0640, &error), -EISDIR);
    cr_assert_not_null(strstr(error.text, path), "%s", error.text);
    cr_assert_eq(stat(path, &status), 0);
    cr_assert_eq(status.st_size, 3);
    cr_assert_eq(rmdir(fresh), 0);
    cr_assert_eq(symlink("/tmp/flagshm-journal-nowhere", fresh), 0);
    cr_assert_eq(flagshm_replace_file(path, "newer", 5, 0640, &error), -ELOOP,
                 "a squatted name is not followed");
    cr_assert_eq(flagshm_replace_file(path, "newer", 5, 0640, &error), 0, "and was cleared away");
    cr_assert_eq(stat(path, &status), 0);
    cr_assert_eq(status.st_size, 5);
    remove_tree(w.root);
}

/* ---- how long ---- */

Test(journal, what_is_90_days_old_goes_but_for_the_file_that_is_served_and_the_numbers)
{
    struct world w;
    char *text;
    size_t bytes;

    world_make(&w);
    open_well(&w);
    file(&w, NOON, 1, "first");
    file(&w, NOON, 2, "served");
    flagshm_journal_publish(w.journal, NOON, 9, 2);
    file(&w, NOON, 0, "refused");
    event(&w, NOON + 89 * DAY, "kill", "a", "younger");
    flush_well(&w);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event"), 5);
    event(&w, NOON + 91 * DAY, "kill", "a", "now");
    flush_well(&w);
    cr_assert_str_eq(told(&w, NULL, 10), "kill:now,kill:younger,file:-");
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM text"), 1);
    text = flagshm_journal_text(w.journal, 2, &bytes);
    cr_assert_str_eq(text, "served");
    free(text);
    reopen_well(&w);
    cr_assert_eq(w.start.version, 9);
    cr_assert_eq(w.start.file_rev, 2);
    world_end(&w);
}

Test(journal, a_clock_that_is_wrong_for_a_moment_does_not_cost_the_whole_journal)
{
    struct world w;
    int i;

    world_make(&w);
    open_well(&w);
    for (i = 0; i < 2000; i++)
        event(&w, NOON, "kill", "a", "x");
    flush_well(&w);
    event(&w, NOON + 40000 * DAY, "kill", "a", "2135");
    flush_well(&w);
    event(&w, NOON, "kill", "a", "x");
    flush_well(&w);
    cr_assert_geq(seen(w.db, "SELECT count(*) FROM event"), 1000);
    world_end(&w);
}

/* Writes one file of `bytes` bytes that no other has. */
static void put_large(struct journal_store *store, uint64_t file_rev, size_t bytes, char letter)
{
    struct journal_record record = {.time_ns = NOON, .file_rev = file_rev, .text_bytes = bytes};
    struct flagshm_error error = {""};
    size_t refused;

    record.kind = file_rev > 0 ? "file" : "refused";
    record.text = malloc(bytes);
    memset(record.text, letter, bytes);
    cr_assert_eq(journal_store_write(store, &record, 0, file_rev, &refused, &error), 0, "%s", error.text);
    free(record.text);
}

Test(journal, what_is_too_much_goes_the_texts_used_longest_ago_first)
{
    struct journal_limits limits = {.age_ns = 90 * DAY, .bytes = 1200000};
    struct journal_store store;
    struct flagshm_error error = {""};
    struct stat status;
    struct world w;

    world_make(&w);
    cr_assert_eq(journal_store_open(&store, w.dir, &error), 0, "%s", error.text);
    put_large(&store, 1, 250000, 'a');
    put_large(&store, 2, 250000, 'b');
    put_large(&store, 0, 250000, 'a'); /* the first once more: now the second is the oldest */
    put_large(&store, 3, 250000, 's');
    put_large(&store, 0, 250000, 'p');
    put_large(&store, 0, 250000, 'q');
    cr_assert_eq(journal_store_prune(&store, NOON, &limits, &error), 0, "%s", error.text);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM text"), 4);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event WHERE file_rev = 1 AND text IS NOT NULL"), 1);
    cr_assert_eq(seen(w.db,
                      "SELECT count(*) FROM event WHERE file_rev = 2 AND text IS NULL AND detail LIKE '%no "
                      "longer%'"),
                 1);
    limits.bytes = 300000;
    cr_assert_eq(journal_store_prune(&store, NOON, &limits, &error), 0, "%s", error.text);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM text"), 1, "the served one");
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event WHERE file_rev = 3 AND text IS NOT NULL"), 1);
    journal_store_close(&store);
    cr_assert_eq(stat(w.db, &status), 0);
    cr_assert_lt(status.st_size, 400000, "the file shrinks");
    remove_tree(w.root);
}

Test(journal, events_alone_that_are_too_many_go_too)
{
    const struct journal_limits limits = {.age_ns = 90 * DAY, .bytes = 200000};
    struct journal_record *records = calloc(3000, sizeof *records);
    struct journal_store store;
    struct flagshm_error error = {""};
    struct world w;
    size_t refused;
    int i;

    world_make(&w);
    cr_assert_eq(journal_store_open(&store, w.dir, &error), 0, "%s", error.text);
    for (i = 0; i < 3000; i++)
        records[i] =
            (struct journal_record){.next = i < 2999 ? &records[i + 1] : NULL,
                                    .time_ns = NOON,
                                    .kind = "kill",
                                    .flag = "a",
                                    .detail = "a reason of some length, as people write them in a hurry"};
    cr_assert_eq(journal_store_write(&store, records, 0, 0, &refused, &error), 0, "%s", error.text);
    cr_assert_eq(refused, 0);
    cr_assert_eq(journal_store_prune(&store, NOON, &limits, &error), 0, "%s", error.text);
    i = (int)seen(w.db, "SELECT count(*) FROM event");
    cr_assert(i >= 100 && i < 1800, "%d", i);
    cr_assert_eq(seen(w.db, "SELECT max(id) FROM event"), 3000);
    journal_store_close(&store);
    free(records);
    remove_tree(w.root);
}
