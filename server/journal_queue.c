/* journal_queue: the records that wait for the journal's thread.
 *
 * Callers only copy and append. When the queue is full the oldest texts go first, then the oldest records, and the next write
 * notes how many.
 */
#include "server/journal_internal.h"

#include <stdlib.h>
#include <string.h>

#define RECORDS_MAX    10000
#define TEXT_BYTES_MAX ((size_t)128 << 20) /* two files of the largest size */

/* ---- records ---- */

static size_t room_for(const char *words)
{
    return words != NULL ? strlen(words) + 1 : 0;
}

static const char *put_words(char **at, const char *words)
{
    const char *copy = words != NULL ? *at : NULL;

    if (words != NULL) {
        memcpy(*at, words, strlen(words) + 1);
        *at += strlen(words) + 1;
    }
    return copy;
}

struct journal_record *journal_record_new(uint64_t time_ns, const char *kind, const char *flag,
                                          const char *user, const char *detail, const char *faults)
{
    struct journal_record *record = malloc(sizeof *record + room_for(kind) + room_for(flag) + room_for(user) +
                                           room_for(detail) + room_for(faults));
    char *at = record != NULL ? (char *)(record + 1) : NULL;

    if (record == NULL)
        return NULL;
    memset(record, 0, sizeof *record);
    record->time_ns = time_ns;
    record->kind = put_words(&at, kind);
    record->flag = put_words(&at, flag);
    record->user = put_words(&at, user);
    record->detail = put_words(&at, detail);
    record->faults = put_words(&at, faults);
    return record;
}

static void record_free(struct journal_record *record)
{
    if (record != NULL)
        free(record->text);
    free(record);
}

void journal_records_free(struct journal_record *record)
{
    while (record != NULL) {
        struct journal_record *next = record->next;

        record_free(record);
        record = next;
    }
}

/* ---- the queue; under the mutex ---- */

static void keep_within_bounds(struct flagshm_journal *journal)
{
    struct journal_record *record;

    for (record = journal->first; record != NULL && journal->text_bytes > TEXT_BYTES_MAX;
         record = record->next) {
        if (record->text == NULL)
            continue;
        journal->text_bytes -= record->text_bytes;
        free(record->text);
        record->text = NULL;
        record->is_text_lost = true;
        journal->lost_texts++;
    }
    while (journal->count > RECORDS_MAX) {
        record = journal->first;
        journal->first = record->next;
        if (journal->first == NULL)
            journal->end = &journal->first;
        journal->count--;
        journal->text_bytes -= record->text != NULL ? record->text_bytes : 0;
        journal->lost_records++;
        record_free(record);
    }
}

static void count_in(struct flagshm_journal *journal, const struct journal_record *record)
{
    journal->count++;
    journal->text_bytes += record->text != NULL ? record->text_bytes : 0;
}

void journal_give(struct flagshm_journal *journal, struct journal_record *record)
{
    pthread_mutex_lock(&journal->mutex);
    if (record == NULL) {
        journal->lost_records++;
    } else {
        *journal->end = record;
        journal->end = &record->next;
        count_in(journal, record);
        if (record->version > journal->version)
            journal->version = record->version;
        if (record->file_rev > journal->file_rev)
            journal->file_rev = record->file_rev;
        keep_within_bounds(journal);
    }
    journal->given++;
    pthread_cond_signal(&journal->has_work);
    pthread_mutex_unlock(&journal->mutex);
}

struct journal_record *journal_take_all(struct flagshm_journal *journal)
{
    struct journal_record *records = journal->first;

    journal->first = NULL;
    journal->end = &journal->first;
    journal->count = journal->text_bytes = 0;
    return records;
}

void journal_give_back(struct flagshm_journal *journal, struct journal_record *records)
{
    struct journal_record *last = records, *record;

    for (record = records; record != NULL; record = record->next) {
        count_in(journal, record);
        last = record;
    }
    if (last == NULL)
        return;
    last->next = journal->first;
    if (journal->first == NULL)
        journal->end = &last->next;
    journal->first = records;
    keep_within_bounds(journal);
}
