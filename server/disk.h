/* disk: writes the durable word of kills on a thread of its own, so that the server's loop never waits for a disk.
 *
 * Jobs are done in the order in which they were given. The loop is told by an event descriptor and takes the results.
 */
#ifndef FLAGSHM_SERVER_DISK_H
#define FLAGSHM_SERVER_DISK_H

#include "server/error.h"

#include <stdbool.h>
#include <stdint.h>

struct flagshm_disk;

struct flagshm_disk_job {
    bool is_erase;   /* take the kill back; else write it */
    bool is_resume;  /* who takes it back wants the rollout to go on at its share; only carried along */
    char flag[72];   /* "" : all flags */
    char why[512];   /* kept in the file */
    uint64_t ticket; /* who waits for it; 0: nobody */
    int result;      /* 0 or -errno, when done */
    struct flagshm_error error;
};

/* 0, -ENOMEM or -errno of the thread. `state_dir` must last as long as the thread. */
int flagshm_disk_open(struct flagshm_disk **disk, const char *state_dir);
void flagshm_disk_close(
    struct flagshm_disk *disk); /* finishes what was given (a disk that hangs holds it), then ends */
int flagshm_disk_fd(const struct flagshm_disk *disk); /* readable when something is done */
/* Copies the job. 0 or -ENOMEM. */
int flagshm_disk_give(struct flagshm_disk *disk, const struct flagshm_disk_job *job);
/* Takes one finished job; false where there is none. */
bool flagshm_disk_take(struct flagshm_disk *disk, struct flagshm_disk_job *job);
bool flagshm_disk_is_idle(struct flagshm_disk *disk); /* nothing given that has not been taken */

#endif
