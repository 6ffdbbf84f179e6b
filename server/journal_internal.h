/* journal_internal: what the journal's files share. */
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

/* Records that last: of each flag and setting no more than the newest, in the order in which they came. */
struct journal_kept {
    struct journal_record *first, **end;
};

struct journal_report {
    struct journal_report *next;
    struct flagshm_journal_report report;
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
    struct journal_kept overflow;    /* came before all that is queued */
    size_t lost_records, lost_texts; /* since the last note of it */
    char *last_good;                 /* waits to be written; NULL: nothing does */
    size_t last_good_bytes;
    uint64_t version, file_rev; /* the highest that were queued */
    uint64_t given, done;       /* numbers of what was queued, and of what was written or tried */
    uint64_t busy_since_ns;     /* CLOCK_MONOTONIC; 0: the thread is not at the disk */
    bool is_hurried, is_ending, has_ended, is_suspect;
    bool is_urgent; /* somebody waits for the first try */
    struct journal_trouble store_trouble, file_trouble;
    struct flagshm_error notice; /* of a damaged file */
    struct journal_report *reports, **reports_end;
    struct journal_report *spare; /* for a commit that finds no memory */

    int event_fd; /* readable: there are reports */

    /* The thread's own. */
    struct journal_store store;
    struct journal_kept known; /* what lasts and is on the disk */
    bool must_repeat;          /* the data base was opened anew: it may lack what is known */
    uint64_t pruned_ns;        /* time of a record */
    size_t unpruned_bytes;
};

struct timespec journal_timespec(uint64_t ns);

/* ---- the queue ---- */

/* A copy of the record and all its words in one piece of memory; not of its text, its report and who comes next. NULL: no memory. */
struct journal_record *journal_record_copy(const struct journal_record *like);
void journal_record_free(struct journal_record *record);
void journal_records_free(struct journal_record *records);
/* Takes over the record; NULL: there was no memory for it. Any thread. */
void journal_give(struct flagshm_journal *journal, struct journal_record *record);
/* These under the mutex. */
struct journal_record *journal_take_all(struct flagshm_journal *journal);
void journal_give_back(struct flagshm_journal *journal, struct journal_record *records);

/* ---- what lasts ---- */

void journal_kept_begin(struct journal_kept *kept);
/* Takes over the record; what it makes old goes, but for what somebody waits for. */
void journal_keep(struct journal_kept *kept, struct journal_record *record);
/* Copies what lasts of records that were written. */
void journal_know(struct journal_kept *known, const struct journal_record *records);
/* Reads what lasts at the start. */
int journal_know_all(struct journal_kept *known, struct journal_store *store, struct flagshm_error *error);

/* ---- reports ---- */

/* Moves the reports of the records to `reports` and says how it went; conditions leave the records where it failed. */
void journal_reports_take(struct journal_record **records, struct journal_report **reports, int result,
                          const struct flagshm_error *error);
/* Under the mutex. */
void journal_reports_give(struct flagshm_journal *journal, struct journal_report *reports);
void journal_reports_free(struct journal_report *reports);

/* ---- the thread ---- */

/* At the start: opens the data base, sets a damaged one aside, reads what lasts. */
int journal_start_store(struct flagshm_journal *journal, struct flagshm_error *error);
void journal_trouble_set(struct journal_trouble *trouble, const struct flagshm_error *error);
void *journal_serve(void *journal);

/* ---- readers ---- */

/* Waits a little for what is queued, where the disk can be hoped to answer. False: it hangs, do not go there. */
bool journal_is_readable(struct flagshm_journal *journal);
/* A reader found damage: the thread looks for itself. */
void journal_suspect(struct flagshm_journal *journal);
/* A connection for one question of at most `limit_ns`; the deadline stays with the caller until the end. NULL: it cannot be read. */
sqlite3 *journal_question_begin(struct flagshm_journal *journal, uint64_t limit_ns, uint64_t *deadline_ns);
/* `code`: the last that SQLite returned. */
void journal_question_end(struct flagshm_journal *journal, sqlite3 *db, sqlite3_stmt *statement, int code);

#endif
