/* connect: the way to an instance's table, for commands that decide by the client library itself. */
#ifndef FLAGSHM_TOOLS_CONNECT_H
#define FLAGSHM_TOOLS_CONNECT_H

#include "tools/flagctl.h"

/* flagctl_client, which says what is wrong: FLAGCTL_OK or FLAGCTL_UNREACHABLE. */
int flagctl_open(struct flagctl *ctl, struct flagshm **client);
/* Says why there is no table (-errno of flagshm_open) and the mend; returns FLAGCTL_UNREACHABLE. */
int flagctl_no_table(const struct flagctl *ctl, int error);

#endif
