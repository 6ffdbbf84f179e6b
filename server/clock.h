/* clock: the time of day. Only the edge asks for it; the core is given it. */
#ifndef FLAGSHM_SERVER_CLOCK_H
#define FLAGSHM_SERVER_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t flagshm_realtime_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
