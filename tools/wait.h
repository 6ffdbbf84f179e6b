/* wait: sleeping until the served table changes, and commands that print again each time it does. */
#ifndef FLAGSHM_TOOLS_WAIT_H
#define FLAGSHM_TOOLS_WAIT_H

#include "tools/flagctl.h"

/* From now on SIGINT, SIGTERM and SIGHUP only ask for an end. */
void flagctl_wait_begin(void);
bool flagctl_is_stopped(void);

/* Sleeps until the version or the switch bits are others than given, at most `seconds`. True: they are. */
bool flagctl_wait(struct flagshm *client, uint64_t version, uint64_t switches, double seconds);

/* Seconds of the monotonic clock. */
double flagctl_now(void);

/* Runs `show` once, or with --watch again and again until it fails or a signal comes. On a terminal the screen is cleared before each
 * time, elsewhere an empty line stands between. */
int flagctl_repeat(struct flagctl *ctl, int (*show)(struct flagctl *ctl, void *context), void *context);

#endif
