/* notify: tells the world what became of a rollout: delivers notices to targets that this host's administrator defines.
 *
 * A target is a file DIR/NAME: one JSON object, either {"url": "https://...", "secret": "whsec_BASE64"} (the secret is optional; an
 * HTTP POST, signed as the Standard Webhooks specification says) or {"argv": ["/usr/local/bin/page", "--oncall"]} (no shell; the
 * notice on standard input); both may say "timeout_s". It is read again for each try. It must belong to root or to the server's user
 * and be readable by nobody else. What it holds of secrets appears in no log and no error.
 *
 * A thread of its own, one try at a time for each target, so that a slow target holds up no other, and the server never waits. What
 * is not delivered is tried again after 1 s, twice as long each time up to 5 minutes, and given up after a day.
 */
#ifndef FLAGSHM_SERVER_NOTIFY_H
#define FLAGSHM_SERVER_NOTIFY_H

#include "server/error.h"

#include <stdbool.h>
#include <stdint.h>

#define FLAGSHM_NOTIFY_DIR "/etc/flagshm/notify.d"

struct flagshm_notify;

struct flagshm_notify_options {
    const char *dir; /* NULL: FLAGSHM_NOTIFY_DIR; it need not be there */
    const char *instance;
};

/* 0; -ENOMEM, -EAGAIN, -errno. SIGCHLD must not be ignored in this process. */
int flagshm_notify_open(struct flagshm_notify **notify, const struct flagshm_notify_options *options,
                        struct flagshm_error *error);
/* Breaks off what is under way (its programs are killed), at most 3 s. Take the reports before: what has none is held to be not
 * delivered. NULL: nothing. */
void flagshm_notify_close(struct flagshm_notify *notify);
/* Readable while there is a report to take. */
int flagshm_notify_fd(const struct flagshm_notify *notify);

/* Copies; never waits. Nothing where a notice of that id waits for that target already, and where there is no memory (the journal
 * gives it again after the next start). `since_realtime_ns`: when it came to be; the day counts from there, and however old it is it
 * has one try. More than 10 000 that wait: the oldest is given up. */
void flagshm_notify_give(struct flagshm_notify *notify, const char *id, const char *target, const char *body,
                         uint64_t since_realtime_ns);

struct flagshm_notify_report {
    char id[160], target[65];
    bool is_delivered, is_given_up; /* its last report; neither: its first failure, it is tried again */
    unsigned tries;
    struct flagshm_error error; /* "" where it was delivered */
};

/* False: there is none. Same thread as give. */
bool flagshm_notify_take(struct flagshm_notify *notify, struct flagshm_notify_report *report);

/* Is there such a target, and is it sound? 0; -errno with file, key and mend. `dir` NULL: FLAGSHM_NOTIFY_DIR. Reads one small file;
 * the owner is held against the caller's effective user. */
int flagshm_notify_check(const char *dir, const char *target, struct flagshm_error *error);

#endif
