/* journal_store: see the header.
 *
 * The file is in WAL mode with synchronous=FULL: what was committed survives a loss of power, and readers never wait for the
 * writer. Texts of the flag file are stored once: an edit that is taken back refers to the text that is there already.
 */
#include "server/journal_store.h"
#include "client/flagshm.h"
#include "server/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define APPLICATION 0x666c6167 /* "flag", for file(1) and against a stranger's data base of the same name */

/* What no age takes away. Notices are told in the order of their numbers. */
#define LASTING_TABLES                                                                                       \
    "CREATE TABLE state(flag TEXT PRIMARY KEY, time_ns INTEGER NOT NULL, body TEXT NOT NULL) STRICT, "       \
    "WITHOUT ROWID;"                                                                                         \
    "CREATE TABLE setting(name TEXT PRIMARY KEY, time_ns INTEGER NOT NULL, value TEXT NOT NULL) STRICT, "    \
    "WITHOUT ROWID;"                                                                                         \
    "CREATE TABLE notice(number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, target TEXT NOT NULL, " \
    "time_ns INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE(id, target)) STRICT;"

/* auto_vacuum before anything is written, or it never works. */
static const char schema[] =
    "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;"
    "BEGIN IMMEDIATE;"
    "CREATE TABLE text(id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, bytes INTEGER NOT NULL, body BLOB NOT "
    "NULL) STRICT;"
    "CREATE INDEX text_by_hash ON text(hash, bytes);"
    "CREATE TABLE event(id INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL, kind TEXT NOT NULL, "
    "flag TEXT,"
    " user TEXT, detail TEXT, file_rev INTEGER, version INTEGER, text INTEGER REFERENCES text(id), faults "
    "TEXT, numbers TEXT) STRICT;"
    "CREATE INDEX event_by_flag ON event(flag, id) WHERE flag IS NOT NULL;"
    "CREATE INDEX event_of_all ON event(id) WHERE flag IS NULL AND kind IN ('kill', 'unkill');"
    "CREATE INDEX event_by_text ON event(text, id) WHERE text IS NOT NULL;"
    "CREATE INDEX event_by_file_rev ON event(file_rev, id) WHERE text IS NOT NULL;"
    "CREATE INDEX event_by_time ON event(time_ns);"
    "CREATE TABLE number(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;" LASTING_TABLES
    "PRAGMA application_id=1718378855; PRAGMA user_version=2;"
    "COMMIT;";

static const char from_1_to_2[] =
    "ALTER TABLE event ADD COLUMN numbers TEXT;" LASTING_TABLES "PRAGMA user_version=2;";

/* Pages are checked as they are read, and nothing in a file can run what the file says. */
static const char settings[] =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA journal_size_limit=16777216;"
    "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY;";

_Static_assert(APPLICATION == 1718378855 && JOURNAL_SCHEMA == 2, "the schema's text says the same");

/* ---- what went wrong ---- */

static int fail_to_write(const char *path, int reason, struct flagshm_error *error)
{
    if (reason == ENOSPC || reason == EDQUOT)
        return flagshm_error_set(
            error, -ENOSPC,
            "%s cannot be written: the disk is full; what happens is kept in memory until there is "
            "room",
            path);
    if (reason == EROFS)
        return flagshm_error_set(
            error, -EROFS,
            "%s cannot be written: its file system is read-only; what happens is kept in memory", path);
    if (reason == EACCES || reason == EPERM)
        return flagshm_error_set(
            error, -EACCES,
            "%s cannot be written: permission denied; it and its directory must belong to the "
            "server's user",
            path);
    return flagshm_error_set(error, reason != 0 ? -reason : -EIO, "%s cannot be written: %s", path,
                             strerror(reason != 0 ? reason : EIO));
}

/* SQLite tells a failure but often not its reason: the file system does. */
static int reason_of(const char *path)
{
    char directory[1100];
    char *slash;

    (void)snprintf(directory, sizeof directory, "%s", path);
    slash = strrchr(directory, '/');
    if (slash != NULL && slash != directory)
        *slash = '\0';
    if (access(directory, W_OK | X_OK) != 0)
        return errno;
    return access(path, R_OK | W_OK) != 0 ? errno : 0;
}

int journal_store_fail(sqlite3 *db, int code, const char *path, struct flagshm_error *error)
{
    int reason = db != NULL ? sqlite3_system_errno(db) : 0;

    switch (code & 0xff) {
    case SQLITE_FULL:
        return fail_to_write(path, ENOSPC, error);
    case SQLITE_IOERR:
        return fail_to_write(path, reason, error);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN:
        if (reason != ENOSPC && reason_of(path) != 0)
            reason = reason_of(path);
        return fail_to_write(path, reason != 0 ? reason : EACCES, error);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return flagshm_error_set(error, -EBADMSG, "%s is damaged (%s)", path,
                                 db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(code));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return flagshm_error_set(error, -EBUSY, "%s is locked by another process", path);
    case SQLITE_NOMEM:
        return flagshm_error_set(error, -ENOMEM, "%s: no memory", path);
    default:
        return flagshm_error_set(error, -EIO, "%s: %s", path,
                                 db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(code));
    }
}

static int fail(struct journal_store *store, int code, struct flagshm_error *error)
{
    return journal_store_fail(store->db, code, store->path, error);
}

int journal_store_run(struct journal_store *store, const char *sql, struct flagshm_error *error)
{
    int code = sqlite3_exec(store->db, sql, NULL, NULL, NULL);

    return code == SQLITE_OK ? 0 : fail(store, code, error);
}

int journal_store_ask(struct journal_store *store, const char *sql, int64_t *number,
                      struct flagshm_error *error)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL), result = 0;

    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        *number = sqlite3_column_int64(statement, 0);
    else if (code != SQLITE_DONE)
        result = fail(store, code, error);
    sqlite3_finalize(statement);
    return result;
}

/* ---- opening ---- */

/* Made by us, so that its mode is right from the beginning; SQLite gives its log the same. It must not be opened by hand once
 * SQLite has it: closing any descriptor of a file lets go of all its locks. */
static int make_file(const char *path, struct flagshm_error *error)
{
    struct stat status;
    int fd;

    if (lstat(path, &status) == 0) {
        if (!S_ISREG(status.st_mode))
            return flagshm_error_set(error, -EINVAL, "%s is not a file: move it away", path);
        if ((status.st_mode & 07777) != 0600)
            (void)chmod(path, 0600);
        return 0;
    }
    if (errno != ENOENT)
        return fail_to_write(path, errno, error);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail_to_write(path, errno, error);
    close(fd);
    return 0;
}

/* In one transaction: whoever is killed on the way has the old one. Another process may have come first. */
static int upgrade(struct journal_store *store, struct flagshm_error *error)
{
    int64_t schema_number = 0;
    int result = journal_store_run(store, "BEGIN IMMEDIATE", error);

    if (result != 0)
        return result;
    result = journal_store_ask(store, "PRAGMA user_version", &schema_number, error);
    if (result == 0 && schema_number == 1)
        result = journal_store_run(store, from_1_to_2, error);
    if (result == 0)
        result = journal_store_run(store, "COMMIT", error);
    if (result != 0)
        (void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return result;
}

/* Ours, an older release's, empty, a newer release's, or a stranger's. */
static int make_schema(struct journal_store *store, struct flagshm_error *error)
{
    int64_t schema_number = 0, application = 0, tables = 0;
    int result = journal_store_ask(store, "PRAGMA user_version", &schema_number, error);

    if (result == 0)
        result = journal_store_ask(store, "PRAGMA application_id", &application, error);
    if (result == 0)
        result = journal_store_ask(store, "SELECT count(*) FROM sqlite_schema", &tables, error);
    if (result != 0)
        return result;
    if (application == 0 && schema_number == 0 && tables == 0)
        return journal_store_run(store, schema, error);
    if (application != APPLICATION || schema_number < 1)
        return flagshm_error_set(error, -EBADMSG, "%s is no journal of flagshmd", store->path);
    if (schema_number > JOURNAL_SCHEMA)
        return flagshm_error_set(
            error, -EPROTO,
            "%s was written by a newer flagshmd (schema %lld, this one knows %d) and is left as it "
            "is: run that release, or move the file away; until then nothing is recorded",
            store->path, (long long)schema_number, JOURNAL_SCHEMA);
    return schema_number < JOURNAL_SCHEMA ? upgrade(store, error) : 0;
}

static int open_file(struct journal_store *store, struct flagshm_error *error)
{
    int result = make_file(store->path, error), code;

    if (result != 0)
        return result;
    code = sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL);
    if (code != SQLITE_OK)
        return fail(store, code, error);
    sqlite3_extended_result_codes(store->db, 1);
    sqlite3_busy_timeout(store->db, 2000);
    result = make_schema(store, error);
    if (result == 0)
        result = journal_store_run(store, settings, error);
    if (result == 0)
        result = journal_write_prepare(store, error);
    return result == 0 ? journal_write_prove(store, error) : result;
}

int journal_store_open(struct journal_store *store, const char *state_dir, struct flagshm_error *error)
{
    sqlite3 *reader;
    int result;

    memset(store, 0, sizeof *store);
    if (snprintf(store->path, sizeof store->path, "%s/journal.sqlite", state_dir) >= (int)sizeof store->path)
        return flagshm_error_set(error, -ENAMETOOLONG, "the state directory's path is too long");
    result = flagshm_directory_make(state_dir, 0700, error);
    if (result != 0)
        return flagshm_error_prefix(error, result, "nothing is recorded");
    result = open_file(store, error);
    if (result == -EBADMSG) {
        result = journal_store_set_aside(store, error);
        if (result == 0)
            result = open_file(store, error);
    }
    reader = store->db != NULL && result == 0 ? store->db : journal_read_open(store->path);
    if (reader != NULL)
        journal_read_numbers(reader, &store->version, &store->file_rev);
    if (reader != store->db)
        sqlite3_close_v2(reader);
    if (result != 0)
        journal_store_close(store);
    return result;
}

void journal_store_close(struct journal_store *store)
{
    size_t i;

    for (i = 0; i < JOURNAL_STATEMENTS; i++) {
        sqlite3_finalize(store->statements[i]);
        store->statements[i] = NULL;
    }
    sqlite3_close_v2(store->db);
    store->db = NULL;
}

/* ---- damage ---- */

int journal_store_set_aside(struct journal_store *store, struct flagshm_error *error)
{
    time_t now = time(NULL);
    char stamp[32], from[1200], to[1300];
    struct tm parts;
    int number;

    journal_store_close(store);
    gmtime_r(&now, &parts);
    (void)strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &parts);
    (void)snprintf(store->damaged, sizeof store->damaged, "%s.damaged-%s", store->path, stamp);
    for (number = 2; number < 100 && access(store->damaged, F_OK) == 0; number++)
        (void)snprintf(store->damaged, sizeof store->damaged, "%s.damaged-%s-%d", store->path, stamp, number);
    if (rename(store->path, store->damaged) != 0) {
        int reason = errno;

        return flagshm_error_set(error, -reason, "%s is damaged and cannot be set aside: %s", store->path,
                                 strerror(reason));
    }
    (void)snprintf(from, sizeof from, "%s-wal", store->path);
    (void)snprintf(to, sizeof to, "%s-wal", store->damaged);
    (void)rename(from, to);
    (void)snprintf(from, sizeof from, "%s-shm", store->path);
    (void)unlink(from);
    store->was_damaged = true;
    return 0;
}

bool journal_store_is_in_place(struct journal_store *store)
{
    int has_moved = 0;

    return sqlite3_file_control(store->db, "main", SQLITE_FCNTL_HAS_MOVED, &has_moved) == SQLITE_OK &&
           !has_moved;
}

int journal_store_check(struct journal_store *store, struct flagshm_error *error)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, "PRAGMA quick_check(1)", -1, &statement, NULL), result = 0;
    const char *verdict;

    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    verdict = code == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (code != SQLITE_ROW)
        result = fail(store, code, error);
    else if (verdict == NULL || strcmp(verdict, "ok") != 0)
        result = flagshm_error_set(error, -EBADMSG, "%s is damaged (%s)", store->path,
                                   verdict != NULL ? verdict : "no verdict");
    sqlite3_finalize(statement);
    return result;
}
