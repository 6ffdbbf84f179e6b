/* offline: what flagctl does itself where no server answers: under the writer's lock, in the place of the server. Everything that
 * root writes into the state directory is written as the directory's owner, who must be able to read it. */
#ifndef FLAGSHM_TOOLS_OFFLINE_H
#define FLAGSHM_TOOLS_OFFLINE_H

#include "server/kills.h"
#include "server/segment.h"
#include "tools/flagctl.h"

enum flagctl_offline {
    FLAGCTL_OFFLINE_TABLE,    /* ours to write: the lock is held */
    FLAGCTL_OFFLINE_NO_TABLE, /* there is none, or none that a server would adopt */
    FLAGCTL_OFFLINE_HELD,     /* a writer is alive */
    FLAGCTL_OFFLINE_DENIED,   /* not for us: `error` says for whom */
    FLAGCTL_OFFLINE_FAILED
};

/* Tries to take the server's place, waiting at most wait_ms for its lock. Close the segment after FLAGCTL_OFFLINE_TABLE. */
enum flagctl_offline flagctl_offline_open(const struct flagctl *ctl, struct flagshm_segment *segment,
                                          int wait_ms, struct flagshm_error *error);

enum flagctl_way {
    FLAGCTL_WAY_SERVER, /* it answered, or keeps us out: FLAGCTL_OK and *answer; or it is said, and *code is the exit code */
    FLAGCTL_WAY_TABLE,
    FLAGCTL_WAY_NO_TABLE,
    FLAGCTL_WAY_HELD, /* a writer is alive and mute */
    FLAGCTL_WAY_NONE  /* denied or failed: it is said, *code is the exit code */
};

/* {"flag": FLAG or "all": true, "reason": ...} for kill and unkill. Whatever bytes a reason has, and however many, it must not be why a
 * kill fails: it is made to sound text and cut. */
cJSON *flagctl_word_request(const char *flag, const char *reason);
/* Asks the server; where it does not answer, takes its place; both in turn for 2 s. `is_urgent`: a server that wakes later shall do
 * it then; else nothing is left behind. `request` stays the caller's. */
enum flagctl_way flagctl_reach(struct flagctl *ctl, const char *verb, const cJSON *request, bool is_urgent,
                               cJSON **answer, struct flagshm_segment *segment, int *code);

/* Is there a state directory? Without one no server has ever run. */
bool flagctl_has_state(const struct flagctl *ctl);
/* The flag's name is not in the last good file, and that can be read. */
bool flagctl_is_unknown_to_state(const struct flagctl *ctl, const char *flag);
/* STATE/kills as its owner. `flag` NULL: all. Writing is 0 also where it stands there already; *already says so (may be NULL). */
int flagctl_kill_write(const struct flagctl *ctl, const char *flag, const char *reason, bool *already,
                       struct flagshm_error *error);
int flagctl_kill_erase(const struct flagctl *ctl, const char *flag, struct flagshm_error *error);
/* Who is killed by the files: 0, or -errno with its sentence. Free with flagshm_kills_free. */
int flagctl_kills_load(const struct flagctl *ctl, struct flagshm_kills *kills, struct flagshm_error *error);

/* In a table that we may write: takes the flag's kill back. Its share is not known without the file, so it goes on giving control,
 * as disabled, until a server publishes it. -ENOENT; -EALREADY: it is not killed. */
int flagctl_offline_unkill(struct flagshm_segment *segment, const char *flag, struct flagshm_error *error);

#endif
