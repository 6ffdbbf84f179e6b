/* journal: what happened, in SQLite, on a thread of its own, so that the server's loop never waits for a disk.
 *
 * STATE/journal.sqlite (WAL, 0600; directory 0700). Every accepted and refused text of the flag file with its faults, every publish,
 * every verb with the user who asked. Kept 90 days or 256 MiB: texts are stored once and go first, the text that is served and the
 * highest numbers never. A journal that cannot be opened or written (full, read-only, closed, locked) is said once in words and
 * tried again by itself, later and later up to a minute; meanwhile records wait in memory (10 000, of texts 128 MiB). A damaged file
 * is set aside, one of a newer release left alone, one of an older release brought up to date. None of it ever stops a publish or a
 * kill. What a rollout commits, and waits for, stands in journal_commit.h.
 */
#ifndef FLAGSHM_SERVER_JOURNAL_H
#define FLAGSHM_SERVER_JOURNAL_H

#include "server/error.h"
#include "server/journal_commit.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flagshm_journal;

struct flagshm_journal_start {  /* what the last run left */
    uint64_t version, file_rev; /* highest ever published and accepted; 0: empty */
    bool is_writable;
    bool was_damaged; /* the old file was set aside as journal.sqlite.damaged-TIME: `error` says so too */
};

/* Opens or creates, on the caller's thread: the start may wait for a disk. Fails only where there is no memory or thread: a state
 * directory that cannot be used gives a journal that keeps its records in memory until it can, and says so in `start` and `error`
 * ("" where all is well). The numbers are read even where nothing can be written. */
int flagshm_journal_open(struct flagshm_journal **journal, const char *state_dir,
                         struct flagshm_journal_start *start, struct flagshm_error *error);
/* Writes out what is queued (at most 5 s), then closes. NULL: nothing. */
void flagshm_journal_close(struct flagshm_journal *journal);

/* Queue a record; never waits for the disk, never fails towards the caller. A full queue drops the oldest texts first, then the
 * oldest records; the next write begins with an event "lost" that says how many. Times are CLOCK_REALTIME ns; retention goes by
 * them. Kinds of the journal's own: "file", "refused", "publish", "lost", "damaged". */
void flagshm_journal_file(struct flagshm_journal *journal, uint64_t realtime_ns,
                          uint64_t file_rev /* 0: refused */, const char *text, size_t bytes,
                          const char *faults_json /* or NULL */);
void flagshm_journal_publish(struct flagshm_journal *journal, uint64_t realtime_ns, uint64_t version,
                             uint64_t file_rev);
void flagshm_journal_event(struct flagshm_journal *journal, uint64_t realtime_ns, const char *kind,
                           const char *flag, const char *user, const char *detail);
/* The last good set, written to STATE/last-good.json (new file, fsync, rename, fsync of the directory) on the journal's thread. */
void flagshm_journal_last_good(struct flagshm_journal *journal, const char *text, size_t bytes);

/* True once all that was queued before is on the disk, or has failed; what failed before is tried again now. For tests and clean
 * ends. */
bool flagshm_journal_flush(struct flagshm_journal *journal, int timeout_ms);
/* What does not work now, in words that stay the same as long as it lasts; else that a file was damaged and set aside since the
 * start; "" where all is well. Any thread. */
void flagshm_journal_health(struct flagshm_journal *journal, char *text, size_t room);

/* Reads for `history`, in the caller's thread, on a read-only connection of its own that waits for no writer: an array, newest
 * first, of {time (RFC 3339, ms), kind, flag, user, detail, file_rev, version (null where there is none), faults (an array) and numbers
 * (an object; these two only where there are some)}. `flag` NULL: all; else that flag's, and the kills of all. At most 10 000. Waits up to 100 ms for what was
 * just queued, and is given up after 300 ms. NULL: it cannot be read now (also where the disk has not answered the thread for a
 * second: then it is not asked). */
cJSON *flagshm_journal_history(struct flagshm_journal *journal, const char *flag, size_t limit);
/* For the start: who was killed by the journal's word, an object of flag ("": all) and "kill" or "unkill", the last that was said of
 * it. NULL: it cannot be read now. */
cJSON *flagshm_journal_last_words(struct flagshm_journal *journal);
/* The text of an accepted file by its revision, with a NUL behind it; malloc'ed, NULL where there is none, or as above. */
char *flagshm_journal_text(struct flagshm_journal *journal, uint64_t file_rev, size_t *bytes);

#endif
