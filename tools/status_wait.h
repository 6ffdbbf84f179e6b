/* status_wait: `flagctl status FLAG --wait`: asks until it is decided what becomes of a rollout. */
#ifndef FLAGSHM_TOOLS_STATUS_WAIT_H
#define FLAGSHM_TOOLS_STATUS_WAIT_H

#include "tools/rollout_view.h"

/* The rollout of a flag, the caller's. As flagctl_rollouts_ask; a flag of which the server tells nothing is FLAGCTL_FAILED, and said. */
int flagctl_rollout_take(struct flagctl *ctl, const char *flag, bool is_quiet_unreachable, cJSON **rollout);

/* What the state of a rollout means to a pipeline: FLAGCTL_OK done, FLAGCTL_TRIPPED, FLAGCTL_PERSON; -1: it goes on. Pure. */
int flagctl_status_verdict(const cJSON *rollout);
/* "done", "rolled_back", "timed_out", "person" for an exit code of a wait; else NULL. */
const char *flagctl_status_outcome(int code);

/* Waits at most `seconds` (below 0: without end). The exit code; *rollout: as last seen, NULL where there is none. A line on standard error
 * tells how it goes where that is a terminal. */
int flagctl_status_wait(struct flagctl *ctl, const char *flag, double seconds, cJSON **rollout);

/* "90", "90s", "30m", "12h", "2d". */
bool flagctl_duration(const char *text, double *seconds);

#endif
