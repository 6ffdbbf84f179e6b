/* journal_recall: what a start asks of the journal: the last words on kills, states, settings, notices. */
#include "server/journal_internal.h"

#include <stdio.h>
#include <string.h>

#define START_NS UINT64_C(5000000000)

/* Hands each row to `add`. False: there may be more than was handed on. */
static bool for_each_row(struct flagshm_journal *journal, int64_t since_schema, const char *sql,
                         const char *name, bool (*add)(cJSON *into, sqlite3_stmt *row), cJSON *into)
{
    uint64_t deadline_ns;
    sqlite3 *db = journal_question_begin(journal, START_NS, &deadline_ns);
    sqlite3_stmt *statement = NULL;
    int code = SQLITE_ERROR;

    if (db != NULL && journal_read_schema(db) == 1 && since_schema > 1) {
        journal_question_end(journal, db, NULL, SQLITE_OK);
        return true; /* an older release's that cannot be written: there were no such things */
    }
    if (db != NULL)
        code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK && name != NULL)
        code = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = SQLITE_ROW;
    while (code == SQLITE_ROW) {
        code = sqlite3_step(statement);
        if (code == SQLITE_ROW && !add(into, statement))
            code = SQLITE_NOMEM;
    }
    journal_question_end(journal, db, statement, code);
    return code == SQLITE_DONE;
}

static cJSON *only_whole(cJSON *answer, bool is_whole)
{
    if (is_whole)
        return answer;
    cJSON_Delete(answer);
    return NULL;
}

static const char *words_of(sqlite3_stmt *row, int column)
{
    const char *words = (const char *)sqlite3_column_text(row, column);

    return words != NULL ? words : "";
}

static bool add_named_words(cJSON *object, sqlite3_stmt *row)
{
    return cJSON_AddStringToObject(object, words_of(row, 0), words_of(row, 1)) != NULL;
}

/* With one max(), the other columns are those of its row. */
cJSON *flagshm_journal_last_words(struct flagshm_journal *journal)
{
    cJSON *words = cJSON_CreateObject();

    return only_whole(words, words != NULL &&
                                 for_each_row(journal, 1,
                                              "SELECT ifnull(flag, ''), kind, max(id) FROM event WHERE kind "
                                              "IN ('kill', 'unkill') GROUP BY flag",
                                              NULL, add_named_words, words));
}

cJSON *flagshm_journal_states(struct flagshm_journal *journal)
{
    cJSON *states = cJSON_CreateObject();

    return only_whole(states, states != NULL && for_each_row(journal, 2, "SELECT flag, body FROM state", NULL,
                                                             add_named_words, states));
}

static bool add_notice(cJSON *notices, sqlite3_stmt *row)
{
    static const char *const keys[] = {"id", "target", "notice", "time_ns"};
    cJSON *notice = cJSON_CreateObject();
    int i;

    if (notice == NULL || !cJSON_AddItemToArray(notices, notice))
        return false;
    for (i = 0; i < 4; i++)
        if (cJSON_AddStringToObject(notice, keys[i], words_of(row, i)) == NULL)
            return false;
    return true;
}

cJSON *flagshm_journal_notices(struct flagshm_journal *journal)
{
    cJSON *notices = cJSON_CreateArray();

    return only_whole(
        notices, notices != NULL &&
                     for_each_row(journal, 2, "SELECT id, target, body, time_ns FROM notice ORDER BY number",
                                  NULL, add_notice, notices));
}

static bool add_value(cJSON *values, sqlite3_stmt *row)
{
    cJSON *value = cJSON_CreateString(words_of(row, 0));

    return value != NULL && cJSON_AddItemToArray(values, value);
}

char *flagshm_journal_setting(struct flagshm_journal *journal, const char *name)
{
    cJSON *values = cJSON_CreateArray();
    const char *value = NULL;
    char *copy;

    if (values != NULL &&
        for_each_row(journal, 2, "SELECT value FROM setting WHERE name = ?1", name, add_value, values))
        value = cJSON_GetStringValue(cJSON_GetArrayItem(values, 0));
    copy = value != NULL ? strdup(value) : NULL;
    cJSON_Delete(values);
    return copy;
}
