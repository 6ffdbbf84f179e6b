/* test_journal_overflow: a queue that is full gives up events, but no state of a flag and no word of a setting. */
#include "server/journal_internal.h"
#include "tests/journal_commit_fixture.h"

static void overflow(struct world *w)
{
    int i;

    for (i = 0; i < 10000; i++)
        event(w, NOON, "kill", "a", "x");
}

Test(journal_overflow, a_queue_that_overflows_never_drops_the_state_of_a_commit)
{
    const struct flagshm_journal_commit first = {.realtime_ns = NOON,
                                                 .flag = "first",
                                                 .state = "1",
                                                 .kind = "rollback",
                                                 .setting = "frozen",
                                                 .value = "yes",
                                                 .ticket = 1};
    struct world w;

    world_make(&w);
    write_file(w.dir, "a file where the directory should be", 36);
    open_journal(&w);
    flagshm_journal_commit(w.journal, &first);
    cr_assert_eq(reported(&w, 1), -ENOTDIR);
    commit_state(&w, "second", "old", 0);
    overflow(&w);
    commit_state(&w, "second", "new", 0);
    overflow(&w);
    flush(&w); /* there and back again */
    commit_state(&w, "third", "3", 0);
    commit_state(&w, "gone", "4", 0);
    flagshm_journal_commit(w.journal, &(struct flagshm_journal_commit){.flag = "gone", .is_forgotten = true});
    overflow(&w);
    cr_assert_leq(w.journal->count, 10000);
    unlink(w.dir);
    flush_well(&w);
    cr_assert_str_eq(states(&w), "{\"first\":\"1\",\"second\":\"new\",\"third\":\"3\"}");
    cr_assert_str_eq(setting(&w, "frozen"), "yes");
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event"), 10001);
    cr_assert_eq(
        seen(w.db, "SELECT count(*) FROM event WHERE kind = 'lost' AND detail LIKE '20001 records%'"), 1,
        "two rounds of events, and the event of the first commit");
    world_end(&w);
}

static size_t waiting(struct world *w)
{
    size_t count;

    pthread_mutex_lock(&w->journal->mutex);
    count = w->journal->count;
    pthread_mutex_unlock(&w->journal->mutex);
    return count;
}

Test(journal_overflow, what_overflows_during_a_try_that_fails_stays_behind_what_was_tried)
{
    struct world w;
    sqlite3 *other;
    int i;

    world_make(&w);
    open_well(&w);
    cr_assert_eq(sqlite3_open(w.db, &other), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    commit_state(&w, "a", "1", 1);
    for (i = 0; i < 10000 && waiting(&w) > 0; i++)
        usleep(1000);
    commit_state(&w, "a", "2", 0);
    overflow(&w);
    commit_state(&w, "b", "3", 0);
    cr_assert_not_null(w.journal->overflow.first, "the try still lasts");
    cr_assert_eq(reported(&w, 1), -EBUSY);
    cr_assert_eq(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    flush_well(&w);
    cr_assert_str_eq(states(&w), "{\"a\":\"2\",\"b\":\"3\"}");
    world_end(&w);
}

/* Of records that are kept, each as "flag=state". */
static const char *kept_text(const struct journal_kept *kept)
{
    const struct journal_record *record;
    static char text[256];
    size_t at = 0;

    text[0] = '\0';
    for (record = kept->first; record != NULL; record = record->next)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s=%s%s%s", at > 0 ? " " : "",
                               record->flag != NULL ? record->flag : "",
                               record->state != NULL ? record->state : "", record->setting != NULL ? "+" : "",
                               record->setting != NULL ? record->setting : "");
    return text;
}

Test(journal_overflow, only_what_is_certain_makes_an_older_word_old)
{
    static const struct {
        struct journal_record record;
        const char *kept;
    } cases[] = {
        {{.flag = "a", .state = "1"}, "a=1"},
        {{.flag = "b", .state = "2", .setting = "frozen", .value = "x"}, "a=1 b=2+frozen"},
        {{.flag = "a", .state = "3"}, "b=2+frozen a=3"},
        {{.flag = "b", .state = "4"}, "b=+frozen a=3 b=4"},
        {{.setting = "frozen"}, "a=3 b=4 =+frozen"},
        {{.flag = "a", .state = "5", .is_condition = true}, "a=3 b=4 =+frozen a=5"},
        {{.flag = "a", .state = "6"}, "b=4 =+frozen a=5 a=6"},
        {{.flag = "a", .is_forgotten = true}, "b=4 =+frozen a=5 a="},
    };
    struct journal_kept kept;
    size_t i;

    journal_kept_begin(&kept);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        journal_keep(&kept, journal_record_copy(&cases[i].record));
        cr_assert_str_eq(kept_text(&kept), cases[i].kept, "%zu: %s", i, kept_text(&kept));
    }
    journal_records_free(kept.first);
}
