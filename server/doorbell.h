/* doorbell: a thread that waits for a futex word in shared memory to move and makes it an event of the loop. */
#ifndef FLAGSHM_SERVER_DOORBELL_H
#define FLAGSHM_SERVER_DOORBELL_H

#include "server/error.h"

#include <stdint.h>

struct flagshm_doorbell;

/* Begins to wait on `word` (in memory that others may scribble over or cut short, which stays mapped until close) and adds 1
 * to `event_fd` when it has moved. 0; -ENOMEM, -EAGAIN, -errno. */
int flagshm_doorbell_open(struct flagshm_doorbell **bell, uint32_t *word, int event_fd,
                          struct flagshm_error *error);
void flagshm_doorbell_close(struct flagshm_doorbell *bell); /* NULL is fine; at most a second */

#endif
