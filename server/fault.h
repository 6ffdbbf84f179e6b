/* fault: a place where a test may have the server killed, to see what is left. Builds for production have none. */
#ifndef FLAGSHM_SERVER_FAULT_H
#define FLAGSHM_SERVER_FAULT_H

#ifdef FLAGSHM_FAULT_POINTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static inline void flagshm_fault_point(const char *name)
{
    const char *wanted = getenv("FLAGSHM_FAULT_POINT");

    if (wanted != NULL && strcmp(wanted, name) == 0)
        (void)raise(SIGKILL);
}

#else

static inline void flagshm_fault_point(const char *name)
{
    (void)name;
}

#endif
#endif
