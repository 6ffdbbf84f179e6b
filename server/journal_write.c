/* journal_write: records into the journal's data base, all of a record or nothing of it. */
#include "client/flagshm.h"
#include "server/journal_store.h"

static const char *const statements[JOURNAL_STATEMENTS] = {
    [JOURNAL_FIND_TEXT] = "SELECT id FROM text WHERE hash = ?1 AND bytes = ?2 AND body = ?3",
    [JOURNAL_PUT_TEXT] = "INSERT INTO text(hash, bytes, body) VALUES(?1, ?2, ?3)",
    [JOURNAL_PUT_EVENT] =
        "INSERT INTO event(time_ns, kind, flag, user, detail, file_rev, version, text, faults, numbers) "
        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    [JOURNAL_PUT_NUMBER] = "INSERT INTO number(name, value) VALUES(?1, ?2) "
                           "ON CONFLICT(name) DO UPDATE SET value = max(value, excluded.value)",
    [JOURNAL_PUT_STATE] = "INSERT INTO state(flag, time_ns, body) VALUES(?1, ?2, ?3) "
                          "ON CONFLICT(flag) DO UPDATE SET time_ns = excluded.time_ns, body = excluded.body",
    [JOURNAL_DROP_STATE] = "DELETE FROM state WHERE flag = ?1",
    [JOURNAL_PUT_SETTING] =
        "INSERT INTO setting(name, time_ns, value) VALUES(?1, ?2, ?3) "
        "ON CONFLICT(name) DO UPDATE SET time_ns = excluded.time_ns, value = excluded.value",
    [JOURNAL_DROP_SETTING] = "DELETE FROM setting WHERE name = ?1",
    [JOURNAL_PUT_NOTICE] = "INSERT INTO notice(id, time_ns, body, target) VALUES(?1, ?2, ?3, ?4) "
                           "ON CONFLICT(id, target) DO NOTHING",
    [JOURNAL_DROP_NOTICE] = "DELETE FROM notice WHERE id = ?1 AND target = ?4",
    [JOURNAL_BEGIN_RECORD] = "SAVEPOINT record",
    [JOURNAL_UNDO_RECORD] = "ROLLBACK TO record",
    [JOURNAL_END_RECORD] = "RELEASE record",
};

int journal_write_prepare(struct journal_store *store, struct flagshm_error *error)
{
    size_t i;

    for (i = 0; i < JOURNAL_STATEMENTS; i++) {
        int code = sqlite3_prepare_v3(store->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
                                      &store->statements[i], NULL);

        if (code != SQLITE_OK)
            return journal_store_fail(store->db, code, store->path, error);
    }
    return 0;
}

int journal_write_prove(struct journal_store *store, struct flagshm_error *error)
{
    return journal_store_run(store,
                             "INSERT INTO number(name, value) VALUES('opened', 1) "
                             "ON CONFLICT(name) DO UPDATE SET value = value + 1",
                             error);
}

/* SQLITE_OK where it ran to its end. */
static int run(struct journal_store *store, enum journal_statement which)
{
    sqlite3_stmt *statement = store->statements[which];
    int code = sqlite3_step(statement);

    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* ---- events ---- */

static int bind_text_key(sqlite3_stmt *statement, int64_t hash, const struct journal_record *record)
{
    int code = sqlite3_bind_int64(statement, 1, hash);

    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(statement, 2, (sqlite3_int64)record->text_bytes);
    if (code == SQLITE_OK)
        code = sqlite3_bind_blob64(statement, 3, record->text, record->text_bytes, SQLITE_STATIC);
    return code;
}

/* SQLITE_OK and the text's row. */
static int put_text(struct journal_store *store, const struct journal_record *record, int64_t *id)
{
    /* Where two texts meet in one hash the bytes decide. */
    int64_t hash = (int64_t)flagshm_hash64_(record->text, record->text_bytes, 0);
    sqlite3_stmt *find = store->statements[JOURNAL_FIND_TEXT];
    int code = bind_text_key(find, hash, record);

    if (code == SQLITE_OK)
        code = sqlite3_step(find);
    if (code == SQLITE_ROW)
        *id = sqlite3_column_int64(find, 0);
    sqlite3_reset(find);
    sqlite3_clear_bindings(find);
    if (code != SQLITE_DONE)
        return code == SQLITE_ROW ? SQLITE_OK : code;
    code = bind_text_key(store->statements[JOURNAL_PUT_TEXT], hash, record);
    if (code == SQLITE_OK)
        code = run(store, JOURNAL_PUT_TEXT);
    *id = sqlite3_last_insert_rowid(store->db);
    return code;
}

static int bind_number(sqlite3_stmt *statement, int at, uint64_t number)
{
    return number > 0 ? sqlite3_bind_int64(statement, at, (sqlite3_int64)number)
                      : sqlite3_bind_null(statement, at);
}

static int bind_words(sqlite3_stmt *statement, int at, const char *words)
{
    return sqlite3_bind_text(statement, at, words, -1, SQLITE_STATIC); /* NULL stays NULL */
}

static int bind_event(sqlite3_stmt *statement, const struct journal_record *record, int64_t text)
{
    const char *detail = record->detail;
    int failed;

    if (detail == NULL && record->is_text_lost)
        detail = "its text was given up while the journal could not be written";
    failed = sqlite3_bind_int64(statement, 1, (sqlite3_int64)record->time_ns);
    failed |= bind_words(statement, 2, record->kind);
    failed |= bind_words(statement, 3, record->flag);
    failed |= bind_words(statement, 4, record->user);
    failed |= bind_words(statement, 5, detail);
    failed |= bind_number(statement, 6, record->file_rev);
    failed |= bind_number(statement, 7, record->version);
    failed |= bind_number(statement, 8, (uint64_t)text);
    failed |= bind_words(statement, 9, record->faults);
    failed |= bind_words(statement, 10, record->numbers);
    return failed == SQLITE_OK ? SQLITE_OK : SQLITE_NOMEM;
}

static int put_event(struct journal_store *store, const struct journal_record *record)
{
    int64_t text = 0;
    int code = record->text != NULL ? put_text(store, record, &text) : SQLITE_OK;

    if (code == SQLITE_OK)
        code = bind_event(store->statements[JOURNAL_PUT_EVENT], record, text);
    return code == SQLITE_OK ? run(store, JOURNAL_PUT_EVENT) : code;
}

/* ---- what lasts ---- */

/* A name, the time, its words; `target`: of a notice, else NULL. */
static int put_words(struct journal_store *store, enum journal_statement which, const char *name,
                     uint64_t time_ns, const char *words, const char *target)
{
    sqlite3_stmt *statement = store->statements[which];
    int count = sqlite3_bind_parameter_count(statement);
    int failed = bind_words(statement, 1, name);

    if (count >= 3) {
        failed |= sqlite3_bind_int64(statement, 2, (sqlite3_int64)time_ns);
        failed |= bind_words(statement, 3, words);
    }
    if (count >= 4)
        failed |= bind_words(statement, 4, target);
    return failed == SQLITE_OK ? run(store, which) : SQLITE_NOMEM;
}

static int put_notices(struct journal_store *store, const struct journal_record *record)
{
    enum journal_statement which = record->is_notice_done ? JOURNAL_DROP_NOTICE : JOURNAL_PUT_NOTICE;
    int code = SQLITE_OK;
    size_t i;

    for (i = 0; i < record->target_count && code == SQLITE_OK; i++)
        code =
            put_words(store, which, record->notice_id, record->time_ns, record->notice, record->targets[i]);
    return code;
}

static int put_parts(struct journal_store *store, const struct journal_record *record)
{
    int code = record->kind != NULL ? put_event(store, record) : SQLITE_OK;

    if (code == SQLITE_OK && record->is_forgotten)
        code = put_words(store, JOURNAL_DROP_STATE, record->flag, 0, NULL, NULL);
    else if (code == SQLITE_OK && record->state != NULL)
        code = put_words(store, JOURNAL_PUT_STATE, record->flag, record->time_ns, record->state, NULL);
    if (code == SQLITE_OK && record->setting != NULL)
        code = put_words(store, record->value != NULL ? JOURNAL_PUT_SETTING : JOURNAL_DROP_SETTING,
                         record->setting, record->time_ns, record->value, NULL);
    return code == SQLITE_OK && record->notice_id != NULL ? put_notices(store, record) : code;
}

/* ---- all of it ---- */

static bool is_the_records_fault(int code)
{
    return (code & 0xff) == SQLITE_CONSTRAINT || (code & 0xff) == SQLITE_TOOBIG ||
           (code & 0xff) == SQLITE_MISMATCH;
}

static int put_record(struct journal_store *store, struct journal_record *record)
{
    int code = run(store, JOURNAL_BEGIN_RECORD);

    record->is_refused = false;
    if (code != SQLITE_OK)
        return code;
    code = put_parts(store, record);
    if (is_the_records_fault(code)) {
        record->is_refused = true;
        code = run(store, JOURNAL_UNDO_RECORD);
    }
    return code == SQLITE_OK ? run(store, JOURNAL_END_RECORD) : code;
}

static int put_number(struct journal_store *store, const char *name, uint64_t number)
{
    int code = bind_words(store->statements[JOURNAL_PUT_NUMBER], 1, name);

    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(store->statements[JOURNAL_PUT_NUMBER], 2, (sqlite3_int64)number);
    return code == SQLITE_OK ? run(store, JOURNAL_PUT_NUMBER) : code;
}

static int put_all(struct journal_store *store, struct journal_record *records, uint64_t version,
                   uint64_t file_rev, size_t *refused)
{
    struct journal_record *record;
    int code = SQLITE_OK;

    for (record = records; record != NULL && code == SQLITE_OK; record = record->next) {
        code = put_record(store, record);
        *refused += record->is_refused;
    }
    if (code == SQLITE_OK && version > 0)
        code = put_number(store, "version", version);
    if (code == SQLITE_OK && file_rev > 0)
        code = put_number(store, "file_rev", file_rev);
    return code;
}

int journal_store_write(struct journal_store *store, struct journal_record *records, uint64_t version,
                        uint64_t file_rev, size_t *refused, struct flagshm_error *error)
{
    bool is_complete = false;
    int code = sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL), result;

    *refused = 0;
    if (code == SQLITE_OK)
        code = put_all(store, records, version, file_rev, refused);
    if (code == SQLITE_OK) {
        is_complete = true;
        code = sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
    }
    if (code == SQLITE_OK)
        return 0;
    result = journal_store_fail(store->db, code, store->path, error);
    (void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    /* The whole transaction may lie in the log, and only the disk's word that it stays is missing. Whoever opens the log next
     * would take it as written. */
    if (is_complete)
        (void)journal_write_prove(store, NULL);
    return result;
}
