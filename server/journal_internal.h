/* journal_internal: what the journal's files share: journal.c (what callers see), journal_queue.c, journal_thread.c, journal_read.c. */
#ifndef FLAGSHM_SERVER_JOURNAL_INTERNAL_H
#define FLAGSHM_SERVER_JOURNAL_INTERNAL_H

#include "server/journal.h"
#include "server/journal_store.h"

#include <pthread.h>
#include <time.h>

/* What does not work now, in words ("": all is well), and when it is tried again. */
struct journal_trouble {
    struct flagshm_error error;
    uint64_t retry_ns, wait_ns; /* CLOCK_MONOTONIC */
};

struct flagshm_journal {
    pthread_mutex_t mutex;
    pthread_cond_t has_work, has_done; /* CLOCK_MONOTONIC */
    pthread_t thread;
    char *state_dir;
    char path[1100]; /* of the data base */
    struct journal_limits limits;

    /* Under the mutex. */
    struct journal_record *first, **end;
    size_t count, text_bytes;
    size_t lost_records, lost_texts; /* since the last note of it */
    char *last_good;                 /* waits to be written; NULL: nothing does */
    size_t last_good_bytes;
    uint64_t version, file_rev; /* the highest that were queued */
    uint64_t given, done;       /* numbers of what was queued, and of what was written or tried */
    uint64_t busy_since_ns;     /* CLOCK_MONOTONIC; 0: the thread is not at the disk */
    bool is_hurried, is_ending, has_ended, is_suspect;
    struct journal_trouble store_trouble, file_trouble;
    struct flagshm_error notice; /* of a damaged file */
    struct journal_report *reports, **reports_end;

    int event_fd; /* readable: there are reports */

    /* The thread's own. */
    struct journal_store store;
    uint64_t pruned_ns; /* time of a record */
    size_t unpruned_bytes;
};

struct timespec journal_timespec(uint64_t ns);

/* ---- the queue ---- */

/* One piece of memory with copies of its words behind it; NULL: no memory. */
struct journal_record *journal_record_new(uint64_t time_ns, const char *kind, const char *flag,
                                          const char *user, const char *detail, const char *faults);
void journal_records_free(struct journal_record *records);
/* Takes over the record; NULL: there was no memory for it. Any thread. */
void journal_give(struct flagshm_journal *journal, struct journal_record *record);
/* These under the mutex. */
struct journal_record *journal_take_all(struct flagshm_journal *journal);
void journal_give_back(struct flagshm_journal *journal, struct journal_record *records);

/* ---- the thread ---- */

/* Opens the data base, sets a damaged one aside. At the start, and then on the thread. */
int journal_open_store(struct flagshm_journal *journal, struct flagshm_error *error);
void journal_trouble_set(struct journal_trouble *trouble, const struct flagshm_error *error);
void *journal_serve(void *journal);

/* ---- readers ---- */

/* Waits a little for what is queued, where the disk can be hoped to answer. False: it hangs, do not go there. */
bool journal_is_readable(struct flagshm_journal *journal);
/* A reader found damage: the thread looks for itself. */
void journal_suspect(struct flagshm_journal *journal);

#endif
