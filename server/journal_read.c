/* journal_read: what `history` and `show` ask of the journal.
 *
 * Runs in the server's loop, on a connection that can only read and lives as long as one question. In WAL mode it waits for no
 * writer, and what was written lately is in memory; a question is cut short after a time. Where the journal's thread has been
 * stuck at the disk for a while, the disk is not asked at all.
 */
#include "server/clock.h"
#include "server/journal_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define QUESTION_NS UINT64_C(300000000)
#define LIMIT_MAX   10000
#define JSON_MAX    ((size_t)8 << 20) /* faults and numbers in one answer; events beyond it come without */

/* ---- the connection ---- */

/* As a URI, with what it would take for itself escaped. False: too long. */
static bool make_uri(const char *path, char *uri, size_t room)
{
    size_t at = (size_t)snprintf(uri, room, "file:");

    for (; *path != '\0'; path++) {
        bool is_plain = strchr("?#%", *path) == NULL;

        if (at + 4 > room)
            return false;
        at += (size_t)snprintf(uri + at, room - at, is_plain ? "%c" : "%%%02X", (unsigned char)*path);
    }
    return (size_t)snprintf(uri + at, room - at, "?immutable=1") < room - at;
}

static sqlite3 *open_with(const char *name, int flags)
{
    sqlite3 *db = NULL;

    if (sqlite3_open_v2(name, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_FULLMUTEX | flags, NULL) == SQLITE_OK) {
        sqlite3_extended_result_codes(db, 1);
        sqlite3_busy_timeout(db, 50);
        if (sqlite3_exec(
                db,
                "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; SELECT count(*) FROM sqlite_schema",
                NULL, NULL, NULL) == SQLITE_OK)
            return db;
    }
    sqlite3_close_v2(db);
    return NULL;
}

/* Where nobody could write here, least of all a server at work: only then may a file be taken as unchanging. */
static bool is_directory_closed(const char *path)
{
    char directory[1100];
    char *slash;

    (void)snprintf(directory, sizeof directory, "%s", path);
    slash = strrchr(directory, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return access(directory, W_OK) != 0;
}

sqlite3 *journal_read_open(const char *path)
{
    char uri[4096];
    sqlite3 *db = open_with(path, 0);

    if (db == NULL && is_directory_closed(path) && make_uri(path, uri, sizeof uri))
        db = open_with(uri, SQLITE_OPEN_URI);
    return db;
}

int64_t journal_read_schema(sqlite3 *db)
{
    sqlite3_stmt *statement = NULL;
    int64_t schema = 0;

    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        schema = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return schema;
}

void journal_read_numbers(sqlite3 *db, uint64_t *version, uint64_t *file_rev)
{
    sqlite3_stmt *statement = NULL;

    if (sqlite3_prepare_v2(db, "SELECT name, value FROM number WHERE value > 0", -1, &statement, NULL) ==
        SQLITE_OK)
        while (sqlite3_step(statement) == SQLITE_ROW) {
            const char *name = (const char *)sqlite3_column_text(statement, 0);
            uint64_t value = (uint64_t)sqlite3_column_int64(statement, 1);

            if (name != NULL && strcmp(name, "version") == 0)
                *version = value;
            else if (name != NULL && strcmp(name, "file_rev") == 0)
                *file_rev = value;
        }
    sqlite3_finalize(statement);
}

static int is_too_late(void *deadline)
{
    return flagshm_mono_ns() > *(const uint64_t *)deadline;
}

sqlite3 *journal_question_begin(struct flagshm_journal *journal, uint64_t limit_ns, uint64_t *deadline_ns)
{
    sqlite3 *db = journal_is_readable(journal) ? journal_read_open(journal->path) : NULL;

    *deadline_ns = flagshm_mono_ns() + limit_ns;
    if (db != NULL)
        sqlite3_progress_handler(db, 1000, is_too_late, deadline_ns);
    return db;
}

void journal_question_end(struct flagshm_journal *journal, sqlite3 *db, sqlite3_stmt *statement, int code)
{
    if ((code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB)
        journal_suspect(journal);
    sqlite3_finalize(statement);
    sqlite3_close_v2(db);
}

/* ---- history ---- */

/* A file of schema 1 that cannot be written has no numbers. */
#define COLUMNS "SELECT id, time_ns, kind, flag, user, detail, file_rev, version, faults, %s FROM event "

static const char history_of_all[] = COLUMNS "ORDER BY id DESC LIMIT ?2";
/* A kill of everything belongs to the history of each flag. */
static const char history_of_one[] =
    "SELECT * FROM (" COLUMNS "WHERE flag = ?1 ORDER BY id DESC LIMIT ?2) UNION ALL "
    "SELECT * FROM (" COLUMNS "WHERE flag IS NULL AND kind IN ('kill', 'unkill') ORDER BY id DESC LIMIT ?2) "
    "ORDER BY id DESC LIMIT ?2";

static void add_time(cJSON *event, sqlite3_int64 time_ns)
{
    time_t seconds = (time_t)(time_ns / 1000000000);
    char day[40], text[64];
    struct tm parts;

    if (time_ns < 0 || gmtime_r(&seconds, &parts) == NULL) {
        (void)cJSON_AddNullToObject(event, "time");
        return;
    }
    (void)strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(text, sizeof text, "%s.%03dZ", day, (int)(time_ns / 1000000 % 1000));
    (void)cJSON_AddStringToObject(event, "time", text);
}

static void add_words(cJSON *event, const char *key, sqlite3_stmt *statement, int column)
{
    const char *words = (const char *)sqlite3_column_text(statement, column);

    if (words != NULL)
        (void)cJSON_AddStringToObject(event, key, words);
    else
        (void)cJSON_AddNullToObject(event, key);
}

static void add_number(cJSON *event, const char *key, sqlite3_stmt *statement, int column)
{
    if (sqlite3_column_type(statement, column) == SQLITE_INTEGER)
        (void)cJSON_AddNumberToObject(event, key, (double)sqlite3_column_int64(statement, column));
    else
        (void)cJSON_AddNullToObject(event, key);
}

/* JSON that was stored, where it is what it should be and the answer has room for it. */
static void add_json(cJSON *event, const char *key, cJSON_bool (*is_right)(const cJSON *),
                     sqlite3_stmt *statement, int column, size_t *budget)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    size_t bytes = text != NULL ? strlen(text) : 0;
    cJSON *json;

    if (bytes == 0 || bytes > *budget)
        return;
    json = cJSON_ParseWithLength(text, bytes);
    if (json == NULL)
        return;
    *budget -= bytes;
    if (is_right(json) && cJSON_GetArraySize(json) > 0)
        cJSON_AddItemToObject(event, key, json);
    else
        cJSON_Delete(json);
}

static cJSON *event_of(sqlite3_stmt *statement, size_t *budget)
{
    cJSON *event = cJSON_CreateObject();

    if (event == NULL)
        return NULL;
    add_time(event, sqlite3_column_int64(statement, 1));
    add_words(event, "kind", statement, 2);
    add_words(event, "flag", statement, 3);
    add_words(event, "user", statement, 4);
    add_words(event, "detail", statement, 5);
    add_number(event, "file_rev", statement, 6);
    add_number(event, "version", statement, 7);
    add_json(event, "faults", cJSON_IsArray, statement, 8, budget);
    add_json(event, "numbers", cJSON_IsObject, statement, 9, budget);
    return event;
}

static int prepare_history(sqlite3 *db, bool is_of_one, sqlite3_stmt **statement)
{
    const char *numbers = journal_read_schema(db) >= 2 ? "numbers" : "NULL";
    char sql[sizeof history_of_one + 32];

    if (is_of_one)
        (void)snprintf(sql, sizeof sql, history_of_one, numbers, numbers);
    else
        (void)snprintf(sql, sizeof sql, history_of_all, numbers);
    return sqlite3_prepare_v2(db, sql, -1, statement, NULL);
}

cJSON *flagshm_journal_history(struct flagshm_journal *journal, const char *flag, size_t limit)
{
    uint64_t deadline_ns;
    sqlite3 *db = journal_question_begin(journal, QUESTION_NS, &deadline_ns);
    sqlite3_stmt *statement = NULL;
    size_t budget = JSON_MAX;
    cJSON *events = NULL;
    int code = SQLITE_ERROR;

    if (db != NULL)
        code = prepare_history(db, flag != NULL, &statement);
    if (code == SQLITE_OK && flag != NULL)
        code = sqlite3_bind_text(statement, 1, flag, -1, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(statement, 2, (sqlite3_int64)(limit < LIMIT_MAX ? limit : LIMIT_MAX));
    if (code == SQLITE_OK)
        events = cJSON_CreateArray();
    while (events != NULL && (code = sqlite3_step(statement)) == SQLITE_ROW)
        cJSON_AddItemToArray(events, event_of(statement, &budget));
    if (code != SQLITE_DONE) {
        cJSON_Delete(events);
        events = NULL;
    }
    journal_question_end(journal, db, statement, code);
    return events;
}

/* ---- texts ---- */

char *flagshm_journal_text(struct flagshm_journal *journal, uint64_t file_rev, size_t *bytes)
{
    uint64_t deadline_ns;
    sqlite3 *db = journal_question_begin(journal, QUESTION_NS, &deadline_ns);
    sqlite3_stmt *statement = NULL;
    const void *body = NULL;
    char *text = NULL;
    int code = SQLITE_ERROR;

    *bytes = 0;
    if (db != NULL)
        code = sqlite3_prepare_v2(
            db,
            "SELECT body FROM event JOIN text ON text.id = event.text WHERE event.text IS NOT "
            "NULL AND file_rev = ?1 ORDER BY event.id DESC LIMIT 1",
            -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(statement, 1, (sqlite3_int64)file_rev);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        body = sqlite3_column_blob(statement, 0);
        *bytes = (size_t)sqlite3_column_bytes(statement, 0);
        text = body != NULL || *bytes == 0 ? malloc(*bytes + 1) : NULL;
    }
    if (text != NULL) {
        if (*bytes > 0)
            memcpy(text, body, *bytes);
        text[*bytes] = '\0';
    }
    journal_question_end(journal, db, statement, code);
    return text;
}
