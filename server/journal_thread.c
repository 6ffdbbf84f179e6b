/* journal_thread: empties the queue.
 *
 * What cannot be written goes back to the head of the queue and is tried again, later and later, until the cause has ended. The
 * data base and the file of the last good set fail and recover each for itself.
 */
#include "server/clock.h"
#include "server/directory.h"
#include "server/journal_internal.h"
#include "server/replace_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_FIRST_NS UINT64_C(1000000000)
#define WAIT_MAX_NS   UINT64_C(60000000000)
#define PRUNE_NS      UINT64_C(3600000000000)
#define PRUNE_BYTES   ((size_t)1 << 20)
#define NICE          10

/* ---- the data base ---- */

/* A new file after a damaged one begins with the word of it. */
static int note_damage(struct flagshm_journal *journal, const char *damaged, int result,
                       struct flagshm_error *error)
{
    struct journal_record record = {.time_ns = flagshm_realtime_ns(), .kind = "damaged"};
    struct flagshm_error notice;
    size_t refused;

    flagshm_error_set(&notice, 0, "%s was damaged and is set aside as %s; a new one is begun", journal->path,
                      damaged);
    record.detail = notice.text;
    pthread_mutex_lock(&journal->mutex);
    journal->notice = notice;
    pthread_mutex_unlock(&journal->mutex);
    return result == 0 ? journal_store_write(&journal->store, &record, 0, 0, &refused, error) : result;
}

static int open_store(struct flagshm_journal *journal, struct flagshm_error *error)
{
    int result = journal_store_open(&journal->store, journal->state_dir, error);

    journal->must_repeat = true;
    return journal->store.was_damaged ? note_damage(journal, journal->store.damaged, result, error) : result;
}

/* Sets the file aside and begins anew. */
static int begin_anew(struct flagshm_journal *journal, struct flagshm_error *error)
{
    char damaged[sizeof journal->store.damaged];
    int result = journal_store_set_aside(&journal->store, error);

    if (result != 0)
        return result;
    memcpy(damaged, journal->store.damaged, sizeof damaged);
    journal->must_repeat = true;
    return note_damage(journal, damaged, journal_store_open(&journal->store, journal->state_dir, error),
                       error);
}

int journal_start_store(struct flagshm_journal *journal, struct flagshm_error *error)
{
    int result = open_store(journal, error);

    journal->version = journal->store.version;
    journal->file_rev = journal->store.file_rev;
    if (result == 0)
        result = journal_know_all(&journal->known, &journal->store, error);
    if (result == -EBADMSG) {
        journal_records_free(journal->known.first);
        journal_kept_begin(&journal->known);
        result = begin_anew(journal, error);
    }
    journal->must_repeat = false;
    return result;
}

static int get_ready(struct flagshm_journal *journal, bool is_suspect, struct flagshm_error *error)
{
    int result = 0;

    if (journal->store.db != NULL && !journal_store_is_in_place(&journal->store))
        journal_store_close(&journal->store);
    if (journal->store.db == NULL)
        result = open_store(journal, error);
    if (result == 0 && is_suspect)
        result = journal_store_check(&journal->store, error);
    return result == -EBADMSG ? begin_anew(journal, error) : result;
}

/* The note of what was given up, before what comes after it. NULL: nothing was, or no memory. */
static struct journal_record *note_of_loss(const struct journal_record *before, size_t records, size_t texts)
{
    struct journal_record like = {.kind = "lost"};
    char detail[160];

    if (records == 0 && texts == 0)
        return NULL;
    (void)snprintf(
        detail, sizeof detail,
        "%zu records and %zu texts of the flag file were given up while the journal could not be written",
        records, texts);
    like.detail = detail;
    like.time_ns = before != NULL && before->time_ns > 0 ? before->time_ns : flagshm_realtime_ns();
    return journal_record_copy(&like);
}

static int prune(struct flagshm_journal *journal, const struct journal_record *records,
                 struct flagshm_error *error)
{
    uint64_t now_ns = 0;

    for (; records != NULL; records = records->next) {
        journal->unpruned_bytes += records->text != NULL ? records->text_bytes : 0;
        now_ns = records->time_ns > 0 ? records->time_ns : now_ns;
    }
    if (now_ns == 0 || (now_ns - journal->pruned_ns < PRUNE_NS && journal->unpruned_bytes < PRUNE_BYTES))
        return 0;
    journal->pruned_ns = now_ns;
    journal->unpruned_bytes = 0;
    return journal_store_prune(&journal->store, now_ns, &journal->limits, error);
}

struct work {
    struct journal_record *records;
    struct journal_report *reports;
    char *last_good;
    size_t last_good_bytes;
    size_t lost_records, lost_texts;
    uint64_t version, file_rev, number;
    bool is_suspect, has_store, has_file;
    struct flagshm_error store_error, file_error;
};

/* A data base that was opened anew hears first what is known. */
static int write_with_the_known(struct flagshm_journal *journal, const struct work *work,
                                struct journal_record *records, size_t *refused, struct flagshm_error *error)
{
    struct journal_kept *known = &journal->known;
    struct journal_record *first;
    int result = 0;

    *known->end = records;
    first = journal->must_repeat ? known->first : records;
    if (first != NULL)
        result = journal_store_write(&journal->store, first, work->version, work->file_rev, refused, error);
    *known->end = NULL;
    if (result == 0)
        journal->must_repeat = false;
    return result;
}

static int write_or_begin_anew(struct flagshm_journal *journal, const struct work *work,
                               struct journal_record *records, size_t *refused, struct flagshm_error *error)
{
    int result = get_ready(journal, work->is_suspect, error);

    if (result != 0)
        return result;
    result = write_with_the_known(journal, work, records, refused, error);
    if (result != -EBADMSG)
        return result;
    result = begin_anew(journal, error);
    return result == 0 ? write_with_the_known(journal, work, records, refused, error) : result;
}

static int write_records(struct flagshm_journal *journal, struct work *work, struct flagshm_error *error)
{
    struct journal_record *note = note_of_loss(work->records, work->lost_records, work->lost_texts);
    size_t refused = 0;
    int result;

    if (note != NULL)
        note->next = work->records;
    result = write_or_begin_anew(journal, work, note != NULL ? note : work->records, &refused, error);
    if (note != NULL)
        note->next = NULL; /* the others are not its own */
    journal_records_free(note);
    journal_reports_take(&work->records, &work->reports, result, error);
    if (result != 0) {
        journal_store_close(&journal->store);
        return result;
    }
    work->lost_records = refused; /* noted the next time */
    work->lost_texts = 0;
    journal_know(&journal->known, work->records);
    result = prune(journal, work->records, error);
    if (result == -EBADMSG)
        journal_suspect(journal);
    journal_records_free(work->records);
    work->records = NULL;
    return result;
}

/* ---- the file of the last good set ---- */

static int write_last_good(struct flagshm_journal *journal, const struct work *work,
                           struct flagshm_error *error)
{
    char path[1100];
    int result = flagshm_directory_make(journal->state_dir, 0700, error);

    (void)snprintf(path, sizeof path, "%s/last-good.json", journal->state_dir);
    if (result == 0)
        result = flagshm_replace_file(path, work->last_good, work->last_good_bytes, 0600, error);
    if (result != 0)
        return flagshm_error_prefix(error, result, "after a reboot an older set of flags would be served");
    return 0;
}

/* ---- the loop ---- */

void journal_trouble_set(struct journal_trouble *trouble, const struct flagshm_error *error)
{
    bool is_early = trouble->wait_ns > 0 && flagshm_mono_ns() < trouble->retry_ns;

    trouble->error = *error;
    if (error->text[0] == '\0') {
        trouble->wait_ns = 0;
        return;
    }
    if (is_early) /* somebody asked in between: the next try in time stays */
        return;
    trouble->wait_ns = trouble->wait_ns == 0 ? WAIT_FIRST_NS : trouble->wait_ns * 2;
    if (trouble->wait_ns > WAIT_MAX_NS)
        trouble->wait_ns = WAIT_MAX_NS;
    trouble->retry_ns = flagshm_mono_ns() + trouble->wait_ns;
}

/* Where it fails, only time makes it try again, and then even where nothing waits: health must not stay bad without a cause. */
static bool is_due(const struct flagshm_journal *journal, const struct journal_trouble *trouble,
                   bool is_wanted)
{
    if (journal->is_ending || journal->is_hurried)
        return true;
    return trouble->error.text[0] != '\0' ? flagshm_mono_ns() >= trouble->retry_ns : is_wanted;
}

static bool is_store_due(const struct flagshm_journal *journal)
{
    return journal->is_urgent || is_due(journal, &journal->store_trouble,
                                        journal->first != NULL || journal->lost_records > 0 ||
                                            journal->lost_texts > 0 || journal->is_suspect);
}

static bool is_file_due(const struct flagshm_journal *journal)
{
    return is_due(journal, &journal->file_trouble, journal->last_good != NULL);
}

static void wait_for_work(struct flagshm_journal *journal)
{
    while (!is_store_due(journal) && !is_file_due(journal)) {
        uint64_t until_ns = UINT64_MAX;
        struct timespec until;

        if (journal->store_trouble.error.text[0] != '\0')
            until_ns = journal->store_trouble.retry_ns;
        if (journal->file_trouble.error.text[0] != '\0' && journal->file_trouble.retry_ns < until_ns)
            until_ns = journal->file_trouble.retry_ns;
        until = journal_timespec(until_ns);
        if (until_ns == UINT64_MAX)
            (void)pthread_cond_wait(&journal->has_work, &journal->mutex);
        else
            (void)pthread_cond_timedwait(&journal->has_work, &journal->mutex, &until);
    }
}

static void take_work(struct flagshm_journal *journal, struct work *work)
{
    bool is_all;

    *work = (struct work){.has_store = is_store_due(journal), .has_file = is_file_due(journal)};
    is_all = (work->has_store || journal->first == NULL) && (work->has_file || journal->last_good == NULL);
    work->number = is_all ? journal->given : journal->done;
    if (work->has_store) {
        work->records = journal_take_all(journal);
        work->lost_records = journal->lost_records;
        work->lost_texts = journal->lost_texts;
        work->version = journal->version;
        work->file_rev = journal->file_rev;
        work->is_suspect = journal->is_suspect;
        journal->lost_records = journal->lost_texts = 0;
        journal->is_suspect = journal->is_urgent = false;
    }
    if (work->has_file) {
        work->last_good = journal->last_good;
        work->last_good_bytes = journal->last_good_bytes;
        journal->last_good = NULL;
    }
    journal->is_hurried = false;
    journal->busy_since_ns = flagshm_mono_ns();
}

/* The file first: a reboot needs it more than it needs the history. */
static void do_work(struct flagshm_journal *journal, struct work *work)
{
    if (work->last_good != NULL && write_last_good(journal, work, &work->file_error) == 0)
        work->file_error.text[0] = '\0';
    if (work->has_store && write_records(journal, work, &work->store_error) == 0)
        work->store_error.text[0] = '\0';
}

static void finish_work(struct flagshm_journal *journal, struct work *work)
{
    if (work->has_store) {
        journal_give_back(journal, work->records);
        journal->lost_records += work->lost_records;
        journal->lost_texts += work->lost_texts;
        journal_trouble_set(&journal->store_trouble, &work->store_error);
    }
    if (work->has_file)
        journal_trouble_set(&journal->file_trouble, &work->file_error);
    if (work->file_error.text[0] == '\0' || journal->last_good != NULL) {
        free(work->last_good); /* written, or a newer one waits */
    } else {
        journal->last_good = work->last_good;
        journal->last_good_bytes = work->last_good_bytes;
    }
    journal_reports_give(journal, work->reports);
    journal->busy_since_ns = 0;
    journal->done = work->number;
    pthread_cond_broadcast(&journal->has_done);
}

/* Who saves twice in a row must not wait for the first text's way to the disk: where the processors are
 * taken, the next edit and the next kill come first. On Linux this is the thread's own. */
static void stand_back(void)
{
    if (nice(NICE) == -1)
        return; /* then it takes a little longer */
}

void *journal_serve(void *argument)
{
    struct flagshm_journal *journal = argument;
    struct work work;
    bool is_last = false;

    stand_back();
    pthread_mutex_lock(&journal->mutex);
    while (!is_last) {
        wait_for_work(journal);
        is_last = journal->is_ending;
        take_work(journal, &work);
        pthread_mutex_unlock(&journal->mutex);
        do_work(journal, &work);
        pthread_mutex_lock(&journal->mutex);
        finish_work(journal, &work);
    }
    pthread_mutex_unlock(&journal->mutex);
    journal_store_close(&journal->store);
    pthread_mutex_lock(&journal->mutex);
    journal->has_ended = true;
    pthread_cond_broadcast(&journal->has_done);
    pthread_mutex_unlock(&journal->mutex);
    return NULL;
}
