/* doorbell: a thread that waits for a semaphore in shared memory and makes it an event of the loop. */
#ifndef FLAGSHM_SERVER_DOORBELL_H
#define FLAGSHM_SERVER_DOORBELL_H

#include "server/error.h"

struct flagshm_doorbell;

/* Begins to wait on `semaphore` (a sem_t of ours, process-shared, made by sem_init and never waited for; in memory that others may scribble over or
 * cut short, which stays mapped until close) and adds 1 to `event_fd` when sem_post has rung it. 0; -ENOMEM, -EAGAIN, -errno. */
int flagshm_doorbell_open(struct flagshm_doorbell **bell, void *semaphore, int event_fd,
                          struct flagshm_error *error);
void flagshm_doorbell_close(struct flagshm_doorbell *bell); /* NULL is fine; at most a second */

#endif
