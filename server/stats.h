/* stats: what was booked for flags, as JSON for the control socket. */
#ifndef FLAGSHM_SERVER_STATS_H
#define FLAGSHM_SERVER_STATS_H

#include "server/publisher.h"

#include <cjson/cJSON.h>

/* An array with one object for each flag that books outcomes, or for the flag named: name, stage, slot and since when it counts, and for each
 * arm its counters, percentiles and users. "recording" (false, with "fault", where there is no segment), "slot_fault"
 * (why a slot could not be prepared last), "quantile_error", "slots_used" and "slots_refused" are added to `answer`. */
cJSON *flagshm_stats(struct flagshm_publisher *p, const char *flag, cJSON *answer);

#endif
