#include "server/journal.h"
#include "server/journal_store.h"
#include "server/replace_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)
#define DAY    (86400 * SECOND)
#define NOON   UINT64_C(1764072000123456789) /* 2025-11-25T12:00:00.123 */

struct world {
    char root[64], dir[80], db[120];
    struct flagshm_journal *journal;
    struct flagshm_journal_start start;
    struct flagshm_error error;
};

static void world_make(struct world *w)
{
    memset(w, 0, sizeof *w);
    (void)snprintf(w->root, sizeof w->root, "/tmp/flagshm-journal-XXXXXX");
    cr_assert_not_null(mkdtemp(w->root));
    (void)snprintf(w->dir, sizeof w->dir, "%s/state", w->root);
    (void)snprintf(w->db, sizeof w->db, "%s/journal.sqlite", w->dir);
}

static void open_journal(struct world *w)
{
    w->error.text[0] = '\0';
    cr_assert_eq(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error), 0, "%s", w->error.text);
}

static void open_well(struct world *w)
{
    open_journal(w);
    cr_assert(w->start.is_writable, "%s", w->error.text);
    cr_assert_str_empty(w->error.text);
}

static void reopen_well(struct world *w)
{
    flagshm_journal_close(w->journal);
    open_well(w);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *at)
{
    (void)status;
    (void)kind;
    (void)at;
    return remove(path);
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void world_end(struct world *w)
{
    flagshm_journal_close(w->journal);
    remove_tree(w->root);
}

static void flush(struct world *w)
{
    cr_assert(flagshm_journal_flush(w->journal, 20000));
}

static const char *health(struct world *w)
{
    static char text[2200];

    flagshm_journal_health(w->journal, text, sizeof text);
    return text;
}

static void flush_well(struct world *w)
{
    flush(w);
    cr_assert_str_empty(health(w));
}

static void event(struct world *w, uint64_t time_ns, const char *kind, const char *flag, const char *detail)
{
    flagshm_journal_event(w->journal, time_ns, kind, flag, "ann", detail);
}

static void file(struct world *w, uint64_t time_ns, uint64_t file_rev, const char *text)
{
    flagshm_journal_file(w->journal, time_ns, file_rev, text, strlen(text), NULL);
}

/* The history as "kind:detail,kind:detail,...". */
static const char *told(struct world *w, const char *flag, size_t limit)
{
    static char text[4096];
    cJSON *events = flagshm_journal_history(w->journal, flag, limit), *one;
    size_t at = 0;

    cr_assert_not_null(events);
    text[0] = '\0';
    cJSON_ArrayForEach(one, events)
    {
        const char *detail = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(one, "detail"));

        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s:%s", at > 0 ? "," : "",
                               cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(one, "kind")),
                               detail != NULL ? detail : "-");
    }
    cJSON_Delete(events);
    return text;
}

/* What another program sees in the file. */
static long long seen(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    long long number = -1;

    cr_assert_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    if (sqlite3_step(statement) == SQLITE_ROW)
        number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return number;
}

static void write_file(const char *path, const char *text, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    cr_assert_eq(write(fd, text, bytes), (ssize_t)bytes);
    close(fd);
}

/* How many files of the state directory begin with `prefix`. */
static int files_like(const struct world *w, const char *prefix)
{
    char command[300], answer[32] = "";
    FILE *pipe;

    (void)snprintf(command, sizeof command, "ls -A %s | grep -c '^%s'", w->dir, prefix);
    pipe = popen(command, "r");
    cr_assert_not_null(fgets(answer, sizeof answer, pipe));
    pclose(pipe);
    return atoi(answer);
}

static int in_child(struct world *w, int (*work)(struct world *w))
{
    pid_t child = fork();
    int status = -1;

    if (child == 0)
        _exit(work(w));
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "the child died of signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

/* In a child criterion's asserts do not reach the test. */
#define NO_NAMESPACE 77
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            (void)fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                    \
            return 1;                                                                                        \
        }                                                                                                    \
    } while (0)

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

/* ---- damage ---- */

Test(journal, a_damaged_file_is_set_aside_and_a_new_one_begun)
{
    static const struct {
        const char *text;
        size_t bytes;
    } cases[] = {{"this is not a data base at all, but it is long enough to look like a file", 73},
                 {"SQLite format 3\0\x10\x00\x02\x02\x00\x40\x20\x20", 24}};
    struct world w;
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        world_make(&w);
        cr_assert_eq(mkdir(w.dir, 0700), 0);
        write_file(w.db, cases[i].text, cases[i].bytes);
        open_journal(&w);
        cr_assert(w.start.is_writable, "%s", w.error.text);
        cr_assert(w.start.was_damaged);
        cr_assert_not_null(strstr(w.error.text, "was damaged and is set aside as"), "%s", w.error.text);
        cr_assert_not_null(strstr(health(&w), "set aside"));
        cr_assert_eq(files_like(&w, "journal.sqlite.damaged-2"), 1);
        event(&w, NOON, "kill", "a", "after");
        flush(&w);
        cr_assert_eq(memcmp(told(&w, NULL, 10), "kill:after,damaged:", 19), 0);
        reopen_well(&w);
        world_end(&w);
    }
}

Test(journal, a_data_base_of_somebody_else_is_set_aside_too)
{
    struct world w;
    sqlite3 *db;

    world_make(&w);
    cr_assert_eq(mkdir(w.dir, 0700), 0);
    cr_assert_eq(sqlite3_open(w.db, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "CREATE TABLE event(x); INSERT INTO event VALUES(1)", NULL, NULL, NULL),
                 SQLITE_OK);
    sqlite3_close(db);
    open_journal(&w);
    cr_assert(w.start.is_writable && w.start.was_damaged, "%s", w.error.text);
    cr_assert_eq(files_like(&w, "journal.sqlite.damaged-2"), 1);
    world_end(&w);
}

Test(journal, a_journal_of_a_newer_release_is_left_alone_and_its_numbers_are_heeded)
{
    struct world w;
    sqlite3 *db;

    world_make(&w);
    open_well(&w);
    flagshm_journal_publish(w.journal, NOON, 12, 3);
    flagshm_journal_close(w.journal);
    cr_assert_eq(sqlite3_open(w.db, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "PRAGMA user_version=2", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    open_journal(&w);
    cr_assert_not(w.start.is_writable);
    cr_assert_not(w.start.was_damaged);
    cr_assert_eq(w.start.version, 12);
    cr_assert_eq(w.start.file_rev, 3);
    cr_assert_not_null(strstr(w.error.text, "newer flagshmd (schema 2, this one knows 1)"), "%s",
                       w.error.text);
    event(&w, NOON, "kill", "a", "kept in memory");
    flush(&w);
    cr_assert_not_null(strstr(health(&w), "newer flagshmd"));
    cr_assert_eq(seen(w.db, "PRAGMA user_version"), 2);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event"), 1);
    cr_assert_eq(files_like(&w, "journal.sqlite.damaged"), 0);
    cr_assert_eq(rename(w.db, "/tmp/flagshm-journal-moved"), 0); /* as the sentence bids */
    flush_well(&w);
    cr_assert_str_eq(told(&w, NULL, 5), "kill:kept in memory");
    cr_assert_eq(seen(w.db, "SELECT value FROM number WHERE name = 'version'"), 12);
    unlink("/tmp/flagshm-journal-moved");
    world_end(&w);
}

/* Writes over the middle of the file while nobody looks. */
static void hurt(const struct world *w)
{
    char noise[4096];
    struct stat status;
    int fd = open(w->db, O_WRONLY);
    off_t at;

    memset(noise, 0xA5, sizeof noise);
    cr_assert_eq(fstat(fd, &status), 0);
    for (at = 4096; at < status.st_size; at += 4096)
        cr_assert_eq(pwrite(fd, noise, sizeof noise, at), (ssize_t)sizeof noise);
    close(fd);
}

Test(journal, damage_that_shows_later_is_met_by_whoever_finds_it)
{
    struct world w;
    char name[80] = "";
    int i;

    world_make(&w);
    open_well(&w);
    for (i = 0; i < 2000; i++) {
        (void)snprintf(name, sizeof name, "a-long-name-of-a-flag-that-takes-room-%d", i);
        event(&w, NOON, "kill", name, "x");
    }
    flagshm_journal_close(w.journal); /* all of it out of the log and in the file */
    hurt(&w);
    open_journal(&w);
    event(&w, NOON, "kill", "a", "after");
    flush(&w);
    if (!w.start.was_damaged) {
        cr_assert_null(flagshm_journal_history(w.journal, NULL, 10000));
        flush(&w);
    }
    cr_assert_eq(files_like(&w, "journal.sqlite.damaged-2"), 1);
    cr_assert_not_null(strstr(health(&w), "set aside"));
    event(&w, NOON, "kill", "a", "later");
    flush(&w);
    cr_assert_eq(memcmp(told(&w, NULL, 1), "kill:later", 11), 0);
    world_end(&w);
}

Test(journal, what_is_no_file_is_said_and_left)
{
    struct world w;

    world_make(&w);
    cr_assert_eq(mkdir(w.dir, 0700), 0);
    cr_assert_eq(mkdir(w.db, 0700), 0);
    open_journal(&w);
    cr_assert_not(w.start.is_writable);
    cr_assert_not_null(strstr(w.error.text, "is not a file"), "%s", w.error.text);
    event(&w, NOON, "kill", "a", "x");
    cr_assert_null(flagshm_journal_history(w.journal, NULL, 10));
    world_end(&w);
}

/* ---- when the disk does not serve ---- */

Test(journal, a_directory_that_goes_away_is_made_again)
{
    struct world w;

    world_make(&w);
    open_well(&w);
    event(&w, NOON, "kill", "a", "before");
    flush_well(&w);
    remove_tree(w.dir);
    event(&w, NOON, "kill", "a", "after");
    flagshm_journal_last_good(w.journal, "{}", 2);
    flush_well(&w);
    cr_assert_str_eq(told(&w, NULL, 10), "kill:after");
    cr_assert_eq(files_like(&w, "last-good.json"), 1);
    world_end(&w);
}

Test(journal, a_queue_that_overflows_gives_up_the_oldest_and_says_how_many)
{
    struct world w;
    size_t bytes = 1 << 20;
    char *large = malloc(bytes), *text;
    int i;

    world_make(&w);
    write_file(w.dir, "a file where the directory should be", 36);
    open_journal(&w);
    cr_assert_not(w.start.is_writable);
    cr_assert_not_null(strstr(w.error.text, "is not a directory"), "%s", w.error.text);
    for (i = 1; i <= 130; i++) { /* two too many */
        memset(large, 'a' + i % 26, bytes);
        memcpy(large, &i, sizeof i);
        flagshm_journal_file(w.journal, NOON, (uint64_t)i, large, bytes, NULL);
    }
    for (i = 0; i < 9874; i++) /* four too many */
        event(&w, NOON, "kill", "a", "x");
    flagshm_journal_publish(w.journal, NOON, 77, 0);
    flagshm_journal_last_good(w.journal, "{}", 2);
    flush(&w);
    cr_assert_not_null(strstr(health(&w), "is not a directory"));
    unlink(w.dir);
    flush_well(&w);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event"), 10001);
    cr_assert_eq(
        seen(w.db,
             "SELECT count(*) FROM event WHERE kind = 'lost' AND id = 1 AND detail LIKE '5 records and 2 "
             "texts%'"),
        1);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM text"), 125);
    cr_assert_eq(seen(w.db, "SELECT value FROM number WHERE name = 'version'"), 77);
    text = flagshm_journal_text(w.journal, 130, &bytes);
    cr_assert_not_null(text);
    cr_assert_eq(bytes, 1 << 20);
    cr_assert_eq(files_like(&w, "last-good.json"), 1);
    free(text);
    free(large);
    world_end(&w);
}

Test(journal, a_lock_held_by_another_is_said_and_waited_for_and_readers_are_told_not_to_wait)
{
    struct world w;
    sqlite3 *other;
    int i;

    world_make(&w);
    open_well(&w);
    event(&w, NOON, "kill", "a", "before");
    flush_well(&w);
    cr_assert_eq(sqlite3_open(w.db, &other), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    event(&w, NOON, "kill", "a", "waits");
    cr_assert_not(flagshm_journal_flush(w.journal, 1300));
    cr_assert_null(flagshm_journal_history(w.journal, NULL, 10), "the thread hangs: nobody else shall");
    flush(&w);
    cr_assert_not_null(strstr(health(&w), "locked by another process"), "%s", health(&w));
    cr_assert_str_eq(told(&w, NULL, 10), "kill:before");
    cr_assert_eq(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    for (i = 0; i < 100 && health(&w)[0] != '\0'; i++) /* by itself: nobody asks for it */
        usleep(100000);
    cr_assert_str_empty(health(&w));
    cr_assert_str_eq(told(&w, NULL, 10), "kill:waits,kill:before");
    world_end(&w);
}

static int lives_with_a_closed_directory(struct world *w)
{
    char text[2200];

    CHECK(geteuid() != 0 || (setgroups(0, NULL) == 0 && setgid(54321) == 0 && setuid(54321) == 0));
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0);
    CHECK(!w->start.is_writable);
    CHECK(w->start.version == 5 && w->start.file_rev == 2);
    CHECK(strstr(w->error.text, "permission denied") != NULL);
    flagshm_journal_event(w->journal, NOON, "kill", "a", "ann", "meanwhile");
    flagshm_journal_last_good(w->journal, "{}", 2);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    flagshm_journal_health(w->journal, text, sizeof text);
    CHECK(strstr(text, "journal.sqlite cannot be written: permission denied") != NULL);
    CHECK(strstr(text, "last-good.json cannot be written") != NULL);
    CHECK(strcmp(told(w, NULL, 5), "publish:-") == 0);
    CHECK(chmod(w->dir, 0700) == 0);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    flagshm_journal_health(w->journal, text, sizeof text);
    CHECK(text[0] == '\0');
    CHECK(strcmp(told(w, NULL, 5), "kill:meanwhile,publish:-") == 0);
    flagshm_journal_close(w->journal);
    return 0;
}

Test(journal, a_directory_that_is_closed_is_said_read_all_the_same_and_used_when_it_opens)
{
    struct world w;

    world_make(&w);
    chmod(w.root, 0755);
    open_well(&w);
    flagshm_journal_publish(w.journal, NOON, 5, 2);
    flagshm_journal_close(w.journal);
    w.journal = NULL;
    chmod(w.dir, 0500);
    if (geteuid() == 0)
        cr_assert(chown(w.dir, 54321, 54321) == 0 && chown(w.db, 54321, 54321) == 0);
    cr_assert_eq(in_child(&w, lives_with_a_closed_directory), 0);
    world_end(&w);
}

static bool has_mounts_of_its_own(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static int lives_with_a_small_disk(struct world *w)
{
    char path[120], text[2200], *large = calloc(1, 100000);
    cJSON *events;
    int i, count;

    if (!has_mounts_of_its_own())
        return NO_NAMESPACE;
    CHECK(mkdir(w->dir, 0700) == 0 && mount("none", w->dir, "tmpfs", 0, "size=2m") == 0);
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0 && w->start.is_writable);
    flagshm_journal_last_good(w->journal, "old", 3);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    (void)snprintf(path, sizeof path, "%s/filler", w->dir);
    i = open(path, O_CREAT | O_WRONLY, 0600);
    while (write(i, large, 4096) > 0)
        continue;
    close(i);
    for (i = 0; i < 20; i++) {
        (void)snprintf(large, 100000, "%d", i);
        flagshm_journal_file(w->journal, NOON, (uint64_t)i + 1, large, 40000, NULL);
        flagshm_journal_event(w->journal, NOON, "kill", "a", "ann", "x");
    }
    flagshm_journal_last_good(w->journal, large, 100000);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    flagshm_journal_health(w->journal, text, sizeof text);
    CHECK(strstr(text, "the disk is full") != NULL && strstr(text, "last-good.json") != NULL);
    (void)snprintf(path, sizeof path, "%s/last-good.json.new", w->dir);
    CHECK(access(path, F_OK) != 0);
    (void)snprintf(path, sizeof path, "%s/last-good.json", w->dir);
    i = open(path, O_RDONLY);
    CHECK(read(i, text, 100) == 3 && memcmp(text, "old", 3) == 0);
    close(i);
    flagshm_journal_close(w->journal); /* a server that starts on a full disk */
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0);
    CHECK(strstr(w->error.text, "the disk is full") != NULL && !w->start.is_writable &&
          !w->start.was_damaged);
    for (i = 0; i < 20; i++)
        flagshm_journal_event(w->journal, NOON, "kill", "a", "ann", "waits");
    flagshm_journal_last_good(w->journal, "new!", 4);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    (void)snprintf(path, sizeof path, "%s/filler", w->dir);
    CHECK(unlink(path) == 0);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    flagshm_journal_health(w->journal, text, sizeof text);
    CHECK(text[0] == '\0');
    events = flagshm_journal_history(w->journal, NULL, 100);
    count = cJSON_GetArraySize(events);
    CHECK(count == 20);
    cJSON_Delete(events);
    flagshm_journal_close(w->journal);
    free(large);
    return 0;
}

Test(journal, a_full_disk_is_said_and_what_waited_is_written_when_there_is_room)
{
    struct world w;
    int code;

    world_make(&w);
    code = in_child(&w, lives_with_a_small_disk);
    remove_tree(w.root);
    if (code == NO_NAMESPACE)
        cr_skip_test("needs root and a mount namespace, to mount a small disk");
    cr_assert_eq(code, 0);
}

static int lives_on_a_read_only_mount(struct world *w)
{
    char text[2200];

    if (!has_mounts_of_its_own())
        return NO_NAMESPACE;
    CHECK(mount(w->dir, w->dir, NULL, MS_BIND, NULL) == 0);
    CHECK(mount(NULL, w->dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0);
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0);
    CHECK(!w->start.is_writable && w->start.version == 5);
    CHECK(strstr(w->error.text, "its file system is read-only") != NULL);
    flagshm_journal_last_good(w->journal, "{}", 2);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    flagshm_journal_health(w->journal, text, sizeof text);
    CHECK(strstr(text, "last-good.json cannot be written: Read-only file system") != NULL);
    flagshm_journal_close(w->journal);
    return 0;
}

Test(journal, a_read_only_file_system_is_said)
{
    struct world w;
    int code;

    world_make(&w);
    open_well(&w);
    flagshm_journal_publish(w.journal, NOON, 5, 2);
    flagshm_journal_close(w.journal);
    w.journal = NULL;
    code = in_child(&w, lives_on_a_read_only_mount);
    world_end(&w);
    if (code == NO_NAMESPACE)
        cr_skip_test("needs root and a mount namespace, to mount read-only");
    cr_assert_eq(code, 0);
}

/* ---- sudden death ---- */

/* Writes events one by one and tells through the pipe which are on the disk, until it is killed. */
static void write_until_killed(const struct world *w, int pipe_fd)
{
    struct flagshm_journal_start start;
    struct flagshm_journal *journal;
    char detail[32];
    int i;

    if (flagshm_journal_open(&journal, w->dir, &start, NULL) != 0 || !start.is_writable)
        _exit(1);
    for (i = 1;; i++) {
        (void)snprintf(detail, sizeof detail, "%d", i);
        flagshm_journal_event(journal, NOON, "kill", "a", "ann", detail);
        flagshm_journal_file(journal, NOON, (uint64_t)i, detail, strlen(detail), NULL);
        flagshm_journal_publish(journal, NOON, (uint64_t)i, (uint64_t)i);
        if (i % 3 == 0 && (!flagshm_journal_flush(journal, 10000) || write(pipe_fd, &i, sizeof i) < 0))
            _exit(2);
    }
}

Test(journal, a_sudden_death_loses_nothing_that_was_flushed)
{
    struct world w;
    int round, last, number, pipe_fds[2];
    char sql[100];
    pid_t child;

    world_make(&w);
    for (round = 0; round < 8; round++) {
        cr_assert_eq(pipe(pipe_fds), 0);
        child = fork();
        if (child == 0)
            write_until_killed(&w, pipe_fds[1]);
        close(pipe_fds[1]);
        cr_assert_eq(read(pipe_fds[0], &last, sizeof last), (ssize_t)sizeof last);
        usleep((useconds_t)(round * 3700));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(pipe_fds[0], &number, sizeof number) == (ssize_t)sizeof number)
            last = number;
        close(pipe_fds[0]);
        open_well(&w);
        cr_assert_geq(w.start.version, (uint64_t)last);
        (void)snprintf(sql, sizeof sql,
                       "SELECT count(DISTINCT detail) FROM event WHERE kind = 'kill' AND "
                       "CAST(detail AS INTEGER) <= %d",
                       last);
        cr_assert_eq(seen(w.db, sql), last);
        cr_assert_eq(seen(w.db, "SELECT count(*) FROM event WHERE text NOT IN (SELECT id FROM text)"), 0);
        flagshm_journal_close(w.journal);
        remove_tree(w.dir);
    }
    open_well(&w);
    world_end(&w);
}
