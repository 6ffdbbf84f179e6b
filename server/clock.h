/* clock: the time of day, and time that never runs back. Only the edge asks for them; the core is given them. */
#ifndef FLAGSHM_SERVER_CLOCK_H
#define FLAGSHM_SERVER_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t flagshm_clock_now_ns(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
static inline uint64_t flagshm_realtime_ns(void)
{
    return flagshm_clock_now_ns(CLOCK_REALTIME);
}
static inline uint64_t flagshm_mono_ns(void)
{
    return flagshm_clock_now_ns(CLOCK_MONOTONIC);
}

#endif
