/* journal_queue: the records that wait for the journal's thread.
 *
 * Callers only copy and append. When the queue is full the oldest texts go first, then the oldest records, and the next write
 * notes how many. What lasts of a record stays: the last state of each flag, the last word of each setting.
 */
#include "server/journal_internal.h"

#include <stdlib.h>
#include <string.h>

#define RECORDS_MAX    10000
#define TEXT_BYTES_MAX ((size_t)128 << 20) /* two files of the largest size */

/* ---- records ---- */

#define WORDS 11

/* Where a record points to its words. */
static void list_words(struct journal_record *record, const char **words[WORDS])
{
    const char **all[WORDS] = {&record->kind,   &record->flag,      &record->user,  &record->detail,
                               &record->faults, &record->numbers,   &record->state, &record->setting,
                               &record->value,  &record->notice_id, &record->notice};

    memcpy(words, all, sizeof all);
}

static size_t room_for(const char *words)
{
    return words != NULL ? strlen(words) + 1 : 0;
}

static const char *put_words(char **at, const char *words)
{
    const char *copy = words != NULL ? *at : NULL;
    size_t room = room_for(words);

    if (words != NULL)
        memcpy(*at, words, room);
    *at += room;
    return copy;
}

/* Behind the record: the pointers to the targets, then all words. */
struct journal_record *journal_record_copy(const struct journal_record *like)
{
    struct journal_record copy = *like, *record;
    size_t room = sizeof copy + like->target_count * sizeof *like->targets, i;
    const char **words[WORDS], **targets;
    char *at;

    list_words(&copy, words);
    for (i = 0; i < WORDS; i++)
        room += room_for(*words[i]);
    for (i = 0; i < like->target_count; i++)
        room += room_for(like->targets[i]);
    record = malloc(room);
    if (record == NULL)
        return NULL;
    targets = (const char **)(record + 1);
    at = (char *)(targets + like->target_count);
    for (i = 0; i < WORDS; i++)
        *words[i] = put_words(&at, *words[i]);
    for (i = 0; i < like->target_count; i++)
        targets[i] = put_words(&at, like->targets[i]);
    copy.next = NULL;
    copy.text = NULL;
    copy.report = NULL;
    copy.targets = targets;
    *record = copy;
    return record;
}

void journal_record_free(struct journal_record *record)
{
    if (record == NULL)
        return;
    free(record->text);
    journal_reports_free(record->report);
    free(record);
}

void journal_records_free(struct journal_record *record)
{
    while (record != NULL) {
        struct journal_record *next = record->next;

        journal_record_free(record);
        record = next;
    }
}

/* ---- the queue; under the mutex ---- */

static bool is_waited_for(const struct journal_record *record)
{
    return record->is_condition || record->report != NULL;
}

static bool is_lasting(const struct journal_record *record)
{
    return record->is_forgotten || record->state != NULL || record->setting != NULL;
}

static void give_up_oldest(struct flagshm_journal *journal)
{
    struct journal_record *record = journal->first;

    journal->first = record->next;
    if (journal->first == NULL)
        journal->end = &journal->first;
    journal->count--;
    journal->text_bytes -= record->text != NULL ? record->text_bytes : 0;
    if (is_waited_for(record)) {
        journal_keep(&journal->overflow, record);
    } else if (is_lasting(record)) {
        journal->lost_records += record->kind != NULL;
        record->kind = NULL;
        journal_keep(&journal->overflow, record);
    } else {
        journal->lost_records++;
        journal_record_free(record);
    }
}

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
    while (journal->count > RECORDS_MAX)
        give_up_oldest(journal);
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
        journal->is_urgent = journal->is_urgent || is_waited_for(record);
        keep_within_bounds(journal);
    }
    journal->given++;
    pthread_cond_signal(&journal->has_work);
    pthread_mutex_unlock(&journal->mutex);
}

/* What overflowed came before all the others. */
struct journal_record *journal_take_all(struct flagshm_journal *journal)
{
    struct journal_record *records;

    *journal->overflow.end = journal->first;
    records = journal->overflow.first;
    journal_kept_begin(&journal->overflow);
    journal->first = NULL;
    journal->end = &journal->first;
    journal->count = journal->text_bytes = 0;
    return records;
}

void journal_give_back(struct flagshm_journal *journal, struct journal_record *records)
{
    struct journal_record *later = journal_take_all(journal), *record;

    journal->first = records;
    for (record = records; record != NULL; record = record->next) {
        count_in(journal, record);
        journal->end = &record->next;
    }
    *journal->end = later;
    for (record = later; record != NULL; record = record->next) {
        count_in(journal, record);
        journal->end = &record->next;
    }
    keep_within_bounds(journal);
}
