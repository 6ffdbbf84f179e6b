/* journal_commit: a step of a rollout in the journal: its event, the flag's state after it and what is to be told, all or none of it.
 *
 * What raises a share is a condition: it must be on the disk before anything happens, and where the disk does not take it now it is
 * given up for good, also over a sudden death. All else is kept and tried again, like other records. Who commits is told by number
 * when it stands on the disk, or that it does not. States, settings and notices are kept without limit of age, and a data base that
 * is damaged or taken away while the server runs costs no state and no setting: the new one begins with them.
 */
#ifndef FLAGSHM_SERVER_JOURNAL_COMMIT_H
#define FLAGSHM_SERVER_JOURNAL_COMMIT_H

#include "server/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flagshm_journal;

struct flagshm_journal_commit {
    uint64_t realtime_ns;
    const char *flag;                 /* NULL: of no flag */
    const char *state;                /* JSON, opaque: becomes the flag's state; NULL: it stays as it is */
    bool is_forgotten;                /* the flag's state is taken out */
    const char *kind, *user, *detail; /* of the event for the history; kind NULL: none */
    const char *numbers;              /* JSON object, kept with the event; NULL: none */
    uint64_t version;                 /* of the table at that time, for the event; 0: none */
    const char *setting, *value; /* a named word of the server; value NULL: taken out; setting NULL: none */
    const char *notice_id, *notice; /* for each of these targets, kept until it is done; NULL: none */
    const char *const *targets;
    size_t target_count;
    bool is_condition; /* given up where it cannot be written now; else it waits in the queue */
    uint64_t ticket;   /* not 0: reported once: when written, or when the first try failed */
};

/* Copies and queues; never waits. What has a ticket or is a condition is tried at once also while the disk fails. Commits reach the
 * disk in the order in which they are given. A full queue gives up their events and notices like other records, but never the
 * last state of a flag or the last word of a setting. */
void flagshm_journal_commit(struct flagshm_journal *journal, const struct flagshm_journal_commit *commit);
/* Readable when there is a report. The journal's own: neither read nor close it. */
int flagshm_journal_fd(const struct flagshm_journal *journal);

struct flagshm_journal_report {
    uint64_t ticket;
    int result; /* 0: on the disk; else -errno: not now (a condition: never), and `error` says why */
    struct flagshm_error error; /* "" where it is on the disk */
};
/* The oldest report that was not yet taken. False: none. */
bool flagshm_journal_take(struct flagshm_journal *journal, struct flagshm_journal_report *report);

/* The notice needs no more telling to this target. Queued like an event. */
void flagshm_journal_notice_done(struct flagshm_journal *journal, const char *notice_id, const char *target);

/* For the start, in the caller's thread, 5 s at most; the caller frees. NULL: they cannot be read. After damage, or in a journal of
 * an older release, there are none. */
/* An object of each flag and its state's text. */
cJSON *flagshm_journal_states(struct flagshm_journal *journal);
/* [{id, target, notice, time_ns (a text)}], oldest first. */
cJSON *flagshm_journal_notices(struct flagshm_journal *journal);
/* NULL also where there is none. */
char *flagshm_journal_setting(struct flagshm_journal *journal, const char *name);

#endif
