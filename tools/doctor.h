/* doctor: what the files of `flagctl doctor` share: the examination as it goes on, and how a finding is written down. */
#ifndef FLAGSHM_TOOLS_DOCTOR_H
#define FLAGSHM_TOOLS_DOCTOR_H

#include "tools/flagctl.h"

enum doctor_state { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_BAD };

struct doctor {
    struct flagctl *ctl;
    cJSON *checks; /* [{name, state, detail, mend}] */
    int warnings, bad;
    int exit_code; /* the gravest of what is bad: 5 before 6 before 1 */

    bool has_table; /* then: */
    struct flagshm_snapshot snapshot;
    uid_t owner;   /* of the table: the server's user */
    cJSON *status; /* the server's answer, NULL: none */
    bool is_lock_held, is_lock_known;
};

/* `mend`: what to do about it; NULL: nothing to do. */
void doctor_ok(struct doctor *d, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_warn(struct doctor *d, const char *name, const char *mend, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void doctor_bad(struct doctor *d, const char *name, int exit_code, const char *mend, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* "root", or "uid 1234". Returns `out`. */
char *doctor_user(uid_t uid, char out[64]);
/* "64 KiB", "3.2 GiB". Returns `out`. */
char *doctor_bytes(uint64_t bytes, char out[24]);
/* A path of the segment's header; "" where it is none. */
const char *doctor_path(const char *field, size_t room);

/* Each writes at least one finding, or none where there is nothing to look at. */
void doctor_environment(struct doctor *d);
void doctor_table(struct doctor *d);
void doctor_heartbeat(struct doctor *d);
void doctor_server(struct doctor *d);
void doctor_lock(struct doctor *d);
void doctor_file(struct doctor *d);
void doctor_switches(struct doctor *d); /* kills and all-control */
void doctor_outcomes(struct doctor *d);
void doctor_rollouts(struct doctor *d);
void doctor_notify(struct doctor *d, const cJSON *rollouts); /* the server's answer */
void doctor_upkeep(struct doctor *d);                        /* held deletions, watch, journal */
void doctor_disk(struct doctor *d);                          /* state directory, room for segments */

#endif
