/* journal: see the header. What callers see; the queue, the thread and the readers are in files of their own. */
#include "server/clock.h"
#include "server/journal_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CLOSE_MS     5000
#define READ_WAIT_MS 100
#define HANGS_NS     UINT64_C(1000000000)

struct timespec journal_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
}

/* ---- open and close ---- */

static void destroy(struct flagshm_journal *journal)
{
    journal_store_close(&journal->store);
    journal_records_free(journal->first);
    journal_records_free(journal->overflow.first);
    journal_records_free(journal->known.first);
    journal_reports_free(journal->reports);
    free(journal->spare);
    free(journal->last_good);
    free(journal->state_dir);
    close(journal->event_fd);
    pthread_cond_destroy(&journal->has_work);
    pthread_cond_destroy(&journal->has_done);
    pthread_mutex_destroy(&journal->mutex);
    free(journal);
}

static struct flagshm_journal *make(const char *state_dir)
{
    struct flagshm_journal *journal = calloc(1, sizeof *journal);
    pthread_condattr_t attributes;

    if (journal == NULL)
        return NULL;
    journal->state_dir = strdup(state_dir);
    journal->spare = calloc(1, sizeof *journal->spare);
    journal->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (journal->state_dir == NULL || journal->spare == NULL || journal->event_fd < 0) {
        if (journal->event_fd >= 0)
            close(journal->event_fd);
        free(journal->spare);
        free(journal->state_dir);
        free(journal);
        return NULL;
    }
    journal->end = &journal->first;
    journal->reports_end = &journal->reports;
    journal_kept_begin(&journal->overflow);
    journal_kept_begin(&journal->known);
    journal->limits = JOURNAL_LIMITS;
    (void)snprintf(journal->path, sizeof journal->path, "%s/journal.sqlite", state_dir);
    pthread_mutex_init(&journal->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&journal->has_work, &attributes);
    pthread_cond_init(&journal->has_done, &attributes);
    pthread_condattr_destroy(&attributes);
    return journal;
}

/* Signals belong to the server's loop. */
static int start_thread(struct flagshm_journal *journal)
{
    sigset_t all, before;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&journal->thread, NULL, journal_serve, journal);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -code;
}

int flagshm_journal_open(struct flagshm_journal **out, const char *state_dir,
                         struct flagshm_journal_start *start, struct flagshm_error *error)
{
    struct flagshm_journal *journal = make(state_dir);
    struct flagshm_error trouble = {""};
    int result;

    *out = NULL;
    *start = (struct flagshm_journal_start){0};
    if (journal == NULL)
        return flagshm_error_set(error, -ENOMEM, "no memory or file descriptor for the journal");
    if (journal_start_store(journal, &trouble) == 0) {
        start->is_writable = true;
    } else {
        journal_store_close(&journal->store);
        journal_trouble_set(&journal->store_trouble, &trouble);
    }
    start->was_damaged = journal->notice.text[0] != '\0';
    start->version = journal->version;
    start->file_rev = journal->file_rev;
    if (error != NULL)
        *error = start->is_writable ? journal->notice : trouble;
    result = start_thread(journal);
    if (result != 0) {
        destroy(journal);
        return flagshm_error_set(error, result, "no thread for the journal: %s", strerror(-result));
    }
    *out = journal;
    return 0;
}

/* A thread that hangs at the disk cannot be joined: it keeps its memory, and the process may end. */
void flagshm_journal_close(struct flagshm_journal *journal)
{
    struct timespec until = journal_timespec(flagshm_mono_ns() + CLOSE_MS * UINT64_C(1000000));
    bool has_ended;
    int code = 0;

    if (journal == NULL)
        return;
    pthread_mutex_lock(&journal->mutex);
    journal->is_ending = true;
    pthread_cond_signal(&journal->has_work);
    while (!journal->has_ended && code != ETIMEDOUT)
        code = pthread_cond_timedwait(&journal->has_done, &journal->mutex, &until);
    has_ended = journal->has_ended;
    pthread_mutex_unlock(&journal->mutex);
    if (!has_ended) {
        pthread_detach(journal->thread);
        return;
    }
    pthread_join(journal->thread, NULL);
    destroy(journal);
}

/* ---- what is queued ---- */

void flagshm_journal_file(struct flagshm_journal *journal, uint64_t realtime_ns, uint64_t file_rev,
                          const char *text, size_t bytes, const char *faults_json)
{
    const struct journal_record like = {.time_ns = realtime_ns,
                                        .kind = file_rev > 0 ? "file" : "refused",
                                        .faults = faults_json,
                                        .file_rev = file_rev};
    struct journal_record *record = journal_record_copy(&like);

    if (record != NULL) {
        record->text = malloc(bytes + 1);
        record->text_bytes = bytes;
        record->is_text_lost = record->text == NULL;
        if (record->text != NULL)
            memcpy(record->text, text, bytes);
    }
    journal_give(journal, record);
}

void flagshm_journal_publish(struct flagshm_journal *journal, uint64_t realtime_ns, uint64_t version,
                             uint64_t file_rev)
{
    const struct journal_record like = {
        .time_ns = realtime_ns, .kind = "publish", .version = version, .file_rev = file_rev};

    journal_give(journal, journal_record_copy(&like));
}

void flagshm_journal_event(struct flagshm_journal *journal, uint64_t realtime_ns, const char *kind,
                           const char *flag, const char *user, const char *detail)
{
    const struct journal_record like = {
        .time_ns = realtime_ns, .kind = kind, .flag = flag, .user = user, .detail = detail};

    journal_give(journal, journal_record_copy(&like));
}

void flagshm_journal_last_good(struct flagshm_journal *journal, const char *text, size_t bytes)
{
    char *copy = malloc(bytes + 1);

    if (copy != NULL)
        memcpy(copy, text, bytes);
    pthread_mutex_lock(&journal->mutex);
    if (copy != NULL) {
        free(journal->last_good);
        journal->last_good = copy;
        journal->last_good_bytes = bytes;
    }
    journal->given++;
    pthread_cond_signal(&journal->has_work);
    pthread_mutex_unlock(&journal->mutex);
}

/* ---- how it stands ---- */

static bool wait_until_done(struct flagshm_journal *journal, int timeout_ms)
{
    struct timespec until =
        journal_timespec(flagshm_mono_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000u);
    uint64_t number = journal->given;
    int code = 0;

    while (journal->done < number && code != ETIMEDOUT)
        code = pthread_cond_timedwait(&journal->has_done, &journal->mutex, &until);
    return journal->done >= number;
}

bool flagshm_journal_flush(struct flagshm_journal *journal, int timeout_ms)
{
    bool is_done;

    pthread_mutex_lock(&journal->mutex);
    journal->given++; /* so that a failing disk is tried once more for us */
    journal->is_hurried = true;
    pthread_cond_signal(&journal->has_work);
    is_done = wait_until_done(journal, timeout_ms);
    pthread_mutex_unlock(&journal->mutex);
    return is_done;
}

bool journal_is_readable(struct flagshm_journal *journal)
{
    bool is_hanging;

    pthread_mutex_lock(&journal->mutex);
    is_hanging = journal->busy_since_ns != 0 && flagshm_mono_ns() - journal->busy_since_ns > HANGS_NS;
    if (!is_hanging && journal->store_trouble.error.text[0] == '\0')
        (void)wait_until_done(journal, READ_WAIT_MS);
    pthread_mutex_unlock(&journal->mutex);
    return !is_hanging;
}

void journal_suspect(struct flagshm_journal *journal)
{
    pthread_mutex_lock(&journal->mutex);
    journal->is_suspect = true;
    pthread_cond_signal(&journal->has_work);
    pthread_mutex_unlock(&journal->mutex);
}

void flagshm_journal_health(struct flagshm_journal *journal, char *text, size_t room)
{
    const char *store, *file;

    pthread_mutex_lock(&journal->mutex);
    store = journal->store_trouble.error.text;
    file = journal->file_trouble.error.text;
    if (store[0] != '\0' || file[0] != '\0')
        (void)snprintf(text, room, "%s%s%s", store, store[0] != '\0' && file[0] != '\0' ? "; " : "", file);
    else
        (void)snprintf(text, room, "%s", journal->notice.text);
    pthread_mutex_unlock(&journal->mutex);
}
