/* journal_keep: what of the records lasts: the newest state of each flag, the newest word of each setting.
 *
 * Kept twice: of what overflows the queue while the disk fails, and of what is on the disk, so that a data base that is damaged or
 * taken away while the server runs does not cost a latch.
 */
#include "server/journal_internal.h"

#include <string.h>

void journal_kept_begin(struct journal_kept *kept)
{
    kept->first = NULL;
    kept->end = &kept->first;
}

static bool has_state(const struct journal_record *record)
{
    return record->is_forgotten || record->state != NULL;
}

static bool is_same(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* Where the newer of the two is only a condition it may still come to nothing. */
static bool is_outlived(struct journal_record *old, const struct journal_record *newer)
{
    if (old->is_condition || old->report != NULL || newer->is_condition)
        return false;
    if (has_state(newer) && is_same(old->flag, newer->flag)) {
        old->state = NULL;
        old->is_forgotten = false;
    }
    if (is_same(old->setting, newer->setting))
        old->setting = NULL;
    return !has_state(old) && old->setting == NULL;
}

void journal_keep(struct journal_kept *kept, struct journal_record *record)
{
    struct journal_record **link = &kept->first;

    while (*link != NULL) {
        struct journal_record *old = *link;

        if (is_outlived(old, record)) {
            *link = old->next;
            journal_record_free(old);
        } else {
            link = &old->next;
        }
    }
    record->next = NULL;
    *link = record;
    kept->end = &record->next;
}

void journal_know(struct journal_kept *known, const struct journal_record *records)
{
    for (; records != NULL; records = records->next) {
        const struct journal_record like = {.time_ns = records->time_ns,
                                            .flag = records->flag,
                                            .state = records->state,
                                            .is_forgotten = records->is_forgotten,
                                            .setting = records->setting,
                                            .value = records->value};
        struct journal_record *record = NULL;

        if (!records->is_refused && (has_state(&like) || like.setting != NULL))
            record = journal_record_copy(&like);
        if (record != NULL)
            journal_keep(known, record);
    }
}

int journal_know_all(struct journal_kept *known, struct journal_store *store, struct flagshm_error *error)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db,
                                  "SELECT flag, body, NULL, NULL, time_ns FROM state UNION ALL "
                                  "SELECT NULL, NULL, name, value, time_ns FROM setting",
                                  -1, &statement, NULL);
    int result = 0;

    while (code == SQLITE_OK || code == SQLITE_ROW) {
        struct journal_record like = {0}, *record;

        code = sqlite3_step(statement);
        if (code != SQLITE_ROW)
            break;
        like.flag = (const char *)sqlite3_column_text(statement, 0);
        like.state = (const char *)sqlite3_column_text(statement, 1);
        like.setting = (const char *)sqlite3_column_text(statement, 2);
        like.value = (const char *)sqlite3_column_text(statement, 3);
        like.time_ns = (uint64_t)sqlite3_column_int64(statement, 4);
        record = journal_record_copy(&like);
        if (record == NULL)
            break;
        *known->end = record; /* none makes another old */
        known->end = &record->next;
    }
    if (code != SQLITE_DONE)
        result = journal_store_fail(store->db, code == SQLITE_ROW ? SQLITE_NOMEM : code, store->path, error);
    sqlite3_finalize(statement);
    return result;
}
