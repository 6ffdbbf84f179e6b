/* json_add: see the header. */
#include "server/json_add.h"
#include "server/flagfile.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

void flagshm_json_add_u64(cJSON *object, const char *key, uint64_t number)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    cJSON_AddRawToObject(object, key, text);
}

void flagshm_json_add_real(cJSON *object, const char *key, double number)
{
    char text[40];

    (void)snprintf(text, sizeof text, "%.6g", isfinite(number) ? number : 0);
    cJSON_AddRawToObject(object, key, text);
}

void flagshm_json_add_share(cJSON *object, const char *key, uint32_t mpct)
{
    char text[16];

    cJSON_AddRawToObject(object, key, flagshm_mpct_to_text(mpct, text));
}

void flagshm_json_add_time(cJSON *object, const char *key, uint64_t realtime_ns)
{
    time_t seconds = (time_t)(realtime_ns / 1000000000u);
    struct tm parts;
    char text[40];

    if (realtime_ns != 0 && gmtime_r(&seconds, &parts) != NULL &&
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) > 0)
        cJSON_AddStringToObject(object, key, text);
    else
        cJSON_AddNullToObject(object, key);
}
