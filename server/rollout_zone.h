/* rollout_zone: what time it is in a zone, by the C library's zone data. At the edge: it reads files, and changes TZ while it asks, so no
 * other thread may ask for local time meanwhile (the server's threads never do). */
#ifndef FLAGSHM_SERVER_ROLLOUT_ZONE_H
#define FLAGSHM_SERVER_ROLLOUT_ZONE_H

#include "server/rollout.h"

/* A zone that this machine does not know gives false, and is_known = false. Cost: about 10 us; ask only for plans with a window. */
bool flagshm_zone_local(const char *zone, uint64_t wall_ns, struct flagshm_local_time *local);

#endif
