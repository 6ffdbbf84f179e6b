/* journal: what happened, in SQLite, on a thread of its own, so that the server's loop never waits for a disk.
 *
 * STATE/journal.sqlite (WAL, directory 0700). Every accepted and refused text of the flag file with its faults, every publish, every verb with
 * the user who asked. Kept 90 days or 256 MiB. A journal that cannot be opened or written (read-only, full, damaged) is said once in words,
 * set aside where damaged, and never stops a publish or a kill.
 */
#ifndef FLAGSHM_SERVER_JOURNAL_H
#define FLAGSHM_SERVER_JOURNAL_H

#include "server/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flagshm_journal;

struct flagshm_journal_start {  /* what the last run left */
    uint64_t version, file_rev; /* highest ever published and accepted; 0: empty */
    bool is_writable;
    bool was_damaged; /* the old file was set aside as journal.sqlite.damaged-TIME */
};

/* Opens or creates. Fails only where there is no memory or thread: a state directory that cannot be used gives a journal that drops its
 * records and says so in `start` and `error`. */
int flagshm_journal_open(struct flagshm_journal **journal, const char *state_dir,
                         struct flagshm_journal_start *start, struct flagshm_error *error);
/* Writes out what is queued (at most 5 s), then closes. */
void flagshm_journal_close(struct flagshm_journal *journal);

/* Queue a record; never waits for the disk, never fails towards the caller (a full queue drops the oldest text bodies first and counts it).
 * Times are CLOCK_REALTIME ns. */
void flagshm_journal_file(struct flagshm_journal *journal, uint64_t realtime_ns,
                          uint64_t file_rev /* 0: refused */, const char *text, size_t bytes,
                          const char *faults_json /* or NULL */);
void flagshm_journal_publish(struct flagshm_journal *journal, uint64_t realtime_ns, uint64_t version,
                             uint64_t file_rev);
void flagshm_journal_event(struct flagshm_journal *journal, uint64_t realtime_ns, const char *kind,
                           const char *flag, const char *user, const char *detail);
/* The last good set, written to STATE/last-good.json (new file, fsync, rename, fsync of the directory) on the journal's thread. */
void flagshm_journal_last_good(struct flagshm_journal *journal, const char *text, size_t bytes);

/* True once all that was queued before is on the disk, or has failed. For tests and clean ends. */
bool flagshm_journal_flush(struct flagshm_journal *journal, int timeout_ms);
/* The last failure in words, "" where all is well. Thread-safe. */
void flagshm_journal_health(struct flagshm_journal *journal, char *text, size_t room);

/* Reads for `history`, through a connection of its own: an array, newest first, of {time, kind, flag, user, detail, file_rev, version}; flag NULL: all. */
cJSON *flagshm_journal_history(struct flagshm_journal *journal, const char *flag, size_t limit);
/* The text of an accepted or refused file by its revision; malloc'ed, NULL where there is none. */
char *flagshm_journal_text(struct flagshm_journal *journal, uint64_t file_rev, size_t *bytes);

#endif
