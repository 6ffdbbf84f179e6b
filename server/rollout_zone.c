/* rollout_zone: see the header. */
#include "server/rollout_zone.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS UINT64_C(1000000000)

/* The C library takes any unknown name for UTC, so whether it is known is looked up where it looks. */
static bool is_known_zone(const char *zone)
{
    const char *directory = getenv("TZDIR");
    char path[512];

    if (strcmp(zone, "UTC") == 0)
        return true;
    if (strstr(zone, "..") != NULL || zone[0] == '/' || zone[0] == '\0')
        return false;
    if (snprintf(path, sizeof path, "%s/%s", directory && *directory ? directory : "/usr/share/zoneinfo",
                 zone) >= (int)sizeof path)
        return false;
    return access(path, R_OK) == 0;
}

bool flagshm_zone_local(const char *zone, uint64_t wall_ns, struct flagshm_local_time *local)
{
    char name[72], before[256] = "";
    const char *old = getenv("TZ");
    time_t seconds = (time_t)(wall_ns / NS);
    struct tm parts;
    bool had = old != NULL && strlen(old) < sizeof before;

    memset(local, 0, sizeof *local);
    if (!is_known_zone(zone) || (old != NULL && !had))
        return false;
    if (had)
        memcpy(before, old, strlen(old) + 1);
    snprintf(name, sizeof name, "%s%s", strcmp(zone, "UTC") == 0 ? "" : ":",
             strcmp(zone, "UTC") == 0 ? "UTC0" : zone);
    if (setenv("TZ", name, 1) != 0)
        return false;
    tzset();
    local->is_known = localtime_r(&seconds, &parts) != NULL;
    if (had)
        setenv("TZ", before, 1);
    else
        unsetenv("TZ");
    tzset();
    if (!local->is_known)
        return false;
    local->weekday = (uint8_t)((parts.tm_wday + 6) % 7);
    local->minute = (uint16_t)(parts.tm_hour * 60 + parts.tm_min);
    return true;
}
