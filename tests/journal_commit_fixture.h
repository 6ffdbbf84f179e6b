/* journal_commit_fixture: commits, their reports, and what lasts of them, as text. */
#ifndef FLAGSHM_TESTS_JOURNAL_COMMIT_FIXTURE_H
#define FLAGSHM_TESTS_JOURNAL_COMMIT_FIXTURE_H

#include "tests/journal_fixture.h"

#include <poll.h>

static inline void commit_state(struct world *w, const char *flag, const char *state, uint64_t ticket)
{
    const struct flagshm_journal_commit commit = {
        .realtime_ns = NOON, .flag = flag, .state = state, .ticket = ticket};

    flagshm_journal_commit(w->journal, &commit);
}

static inline void commit_condition(struct world *w, const char *flag, const char *state, uint64_t ticket)
{
    const struct flagshm_journal_commit commit = {.realtime_ns = NOON,
                                                  .flag = flag,
                                                  .state = state,
                                                  .kind = "advance",
                                                  .detail = state,
                                                  .is_condition = true,
                                                  .ticket = ticket};

    flagshm_journal_commit(w->journal, &commit);
}

static inline bool is_readable(struct world *w, int timeout_ms)
{
    struct pollfd place = {.fd = flagshm_journal_fd(w->journal), .events = POLLIN};

    return poll(&place, 1, timeout_ms) == 1 && (place.revents & POLLIN) != 0;
}

/* Its result, with the sentence in w->error; 1: there was no report of that ticket. */
static inline int reported(struct world *w, uint64_t ticket)
{
    struct flagshm_journal_report report;

    if (!is_readable(w, 10000) || !flagshm_journal_take(w->journal, &report) || report.ticket != ticket)
        return 1;
    w->error = report.error;
    return report.result;
}

/* "" where they cannot be read. */
static inline const char *states(struct world *w)
{
    static char text[4096];
    cJSON *states = flagshm_journal_states(w->journal);

    text[0] = '\0';
    if (states != NULL && !cJSON_PrintPreallocated(states, text, sizeof text, false))
        (void)snprintf(text, sizeof text, "too long");
    cJSON_Delete(states);
    return text;
}

/* "" where there is none. */
static inline const char *setting(struct world *w, const char *name)
{
    static char text[200];
    char *value = flagshm_journal_setting(w->journal, name);

    (void)snprintf(text, sizeof text, "%s", value != NULL ? value : "");
    free(value);
    return text;
}

/* As "id>target:notice,...". */
static inline const char *notices(struct world *w)
{
    static char text[4096];
    cJSON *notices = flagshm_journal_notices(w->journal), *one;
    size_t at = 0;

    (void)snprintf(text, sizeof text, "%s", notices != NULL ? "" : "unreadable");
    cJSON_ArrayForEach(one, notices)
    {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s>%s:%s", at > 0 ? "," : "",
                               cJSON_GetStringValue(cJSON_GetObjectItem(one, "id")),
                               cJSON_GetStringValue(cJSON_GetObjectItem(one, "target")),
                               cJSON_GetStringValue(cJSON_GetObjectItem(one, "notice")));
    }
    cJSON_Delete(notices);
    return text;
}

static inline char *seen_text(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    char *text;

    cr_assert_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_step(statement), SQLITE_ROW);
    text = strdup((const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return text;
}

/* A journal as the first release left it, with a file, a kill, the numbers, and `more`. */
static inline void make_schema_1(struct world *w, const char *more)
{
    static const char schema[] =
        "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;"
        "BEGIN IMMEDIATE;"
        "CREATE TABLE text(id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, bytes INTEGER NOT NULL, body BLOB "
        "NOT "
        "NULL) STRICT;"
        "CREATE INDEX text_by_hash ON text(hash, bytes);"
        "CREATE TABLE event(id INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL, kind TEXT NOT "
        "NULL, "
        "flag TEXT, user TEXT, detail TEXT, file_rev INTEGER, version INTEGER, text INTEGER REFERENCES "
        "text(id), faults TEXT) STRICT;"
        "CREATE INDEX event_by_flag ON event(flag, id) WHERE flag IS NOT NULL;"
        "CREATE INDEX event_of_all ON event(id) WHERE flag IS NULL AND kind IN ('kill', 'unkill');"
        "CREATE INDEX event_by_text ON event(text, id) WHERE text IS NOT NULL;"
        "CREATE INDEX event_by_file_rev ON event(file_rev, id) WHERE text IS NOT NULL;"
        "CREATE INDEX event_by_time ON event(time_ns);"
        "CREATE TABLE number(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        "PRAGMA application_id=1718378855; PRAGMA user_version=1;"
        "INSERT INTO text VALUES(1, 5, 2, x'7b7d');"
        "INSERT INTO event VALUES(4, 1764072000123456789, 'file', NULL, NULL, NULL, 3, NULL, 1, '[]');"
        "INSERT INTO event VALUES(9, 1764072000123456789, 'kill', 'a', 'ann', 'hurts', NULL, 12, NULL, NULL);"
        "INSERT INTO number VALUES('version', 12), ('file_rev', 3), ('opened', 1);"
        "COMMIT;";
    sqlite3 *db = NULL;

    cr_assert_eq(mkdir(w->dir, 0700), 0);
    cr_assert_eq(sqlite3_open(w->db, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, schema, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_exec(db, more, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    sqlite3_close(db);
}

#endif
