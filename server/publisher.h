/* publisher: from the text of the flag file, and a person's kills, to the table that is served.
 *
 * Holds what is good now, which flags are killed, and the numbers of versions and file revisions. Every change goes
 * the same way: decide what is good, compile, publish; then, and never before, tell the journal. Nothing here waits for
 * a disk but the start. One thread: the server's loop.
 */
#ifndef FLAGSHM_SERVER_PUBLISHER_H
#define FLAGSHM_SERVER_PUBLISHER_H

#include "server/disk.h"
#include "server/flagfile.h"
#include "server/journal.h"
#include "server/kills.h"
#include "server/ledger.h"
#include "server/segment.h"
#include "server/wards.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum flagshm_file_state {
    FLAGSHM_FILE_UNREAD,
    FLAGSHM_FILE_GOOD,
    FLAGSHM_FILE_BROKEN,  /* with faults: flags that are sound moved on, or (unusable) nothing did */
    FLAGSHM_FILE_REFUSED, /* sound, but it does not fit: nothing moved */
    FLAGSHM_FILE_GONE
};

struct flagshm_publisher {
    struct flagshm_segment segment;
    struct flagshm_outcomes_options outcomes;
    struct flagshm_ledger ledger;
    struct flagshm_journal *journal;
    struct flagshm_disk *disk;
    struct flagshm_kills kills;
    struct flagshm_kills unwritten; /* of these, what did not reach the disk: tried again */
    unsigned beats_unwritten;
    struct flagshm_flagfile good;
    bool has_good;
    struct flagshm_wards wards; /* the rollouts of the good set */
    struct flagshm_moment moment;
    const struct flagshm_flagfile *hidden; /* flags of a drill, served beside the good set; NULL: none */
    const char *state_dir, *file_path;
    size_t max_flags;

    char *text; /* of the file as it was last taken: usable, or not */
    size_t text_bytes;
    bool is_text_usable;
    enum flagshm_file_state file_state;
    cJSON *faults; /* of that text: as flagctl lint -o json lists them; NULL: none */
    char *faults_text;
    size_t errors, warnings;
    size_t kept, absent, lowered, deletions_held;
    struct flagshm_error refusal; /* why what is good could not be published; "" : it was */

    uint64_t version, file_rev; /* the highest given out */
    uint64_t published_file_rev;
    bool has_published; /* since the start */
    uint64_t kills_stamp;
    unsigned beats_unlocked; /* in a row, in which another writer held the lock of our table */
};

struct flagshm_publisher_options {
    struct flagshm_segment_options segment;
    const char *state_dir, *file_path;
    size_t max_flags; /* 0 = FLAGSHM_FLAGS_DEFAULT */
};

/* Takes the lock, adopts the table, reads kills and the last good set, and opens the journal. What is wrong but does not
 * stop us is logged. 0; -EBUSY: another server; -EPERM: a stranger's object; -errno. */
int flagshm_publisher_open(struct flagshm_publisher *p, const struct flagshm_publisher_options *options,
                           struct flagshm_error *error);
void flagshm_publisher_close(struct flagshm_publisher *p);

enum flagshm_taken {
    FLAGSHM_TAKEN_PUBLISHED, /* a new version is served */
    FLAGSHM_TAKEN_SAME,      /* the table stays as it is */
    FLAGSHM_TAKEN_UNUSABLE, /* not JSON with flags: nothing changed, nothing was journalled; see `is_final` */
    FLAGSHM_TAKEN_FAILED    /* it could not be published: `refusal` says why */
};

/* A text of the flag file. `is_final` false: where it is unusable, say so to nobody yet (a half-written file). */
enum flagshm_taken flagshm_publisher_take(struct flagshm_publisher *p, const char *text, size_t bytes,
                                          bool is_final);
void flagshm_publisher_file_gone(struct flagshm_publisher *p, const char *why);

/* Compiles and publishes what is good now with the kills of now; also an empty table where nothing was ever good and no table
 * stands. 0; -errno with `refusal`. */
int flagshm_publisher_publish(struct flagshm_publisher *p);

/* A person's word. `flag` NULL: all. 0; -EALREADY; -ENOENT: no such flag. The table is published at once; the caller has the durable
 * word written. Lifting works the other way: the caller erases first, then calls it. */
int flagshm_publisher_kill(struct flagshm_publisher *p, const char *flag, const char *user,
                           const char *reason);
int flagshm_publisher_unkill(struct flagshm_publisher *p, const char *flag, const char *user,
                             const char *reason);
bool flagshm_publisher_is_killed(const struct flagshm_publisher *p, const char *flag);
/* The disk refused to keep a kill: it is asked again, each few beats, until it does or the kill is taken back. */
void flagshm_publisher_unwritten(struct flagshm_publisher *p, const char *flag);
/* Applies the deletions that were held. 0; -EALREADY: none are. */
int flagshm_publisher_accept(struct flagshm_publisher *p, const char *user);

/* Each period: the lock, the heartbeat, the segment's name, kills that a tool wrote beside us. 0; -EBUSY: another server has taken
 * the instance over (the lock was removed by hand, then it started): this one must end, for two would overwrite each other. */
int flagshm_publisher_beat(struct flagshm_publisher *p, struct flagshm_error *error);

#endif
