/* json_add: members as the server's JSON has them. Numbers go as raw text: cJSON's doubles lose digits above 2^53. For want of memory a
 * member is left out. */
#ifndef FLAGSHM_SERVER_JSON_ADD_H
#define FLAGSHM_SERVER_JSON_ADD_H

#include <cjson/cJSON.h>
#include <stdint.h>

void flagshm_json_add_u64(cJSON *object, const char *key, uint64_t number);
/* Six digits; 0 where it is no finite number. */
void flagshm_json_add_real(cJSON *object, const char *key, double number);
/* Percent, from thousandths of a percent. */
void flagshm_json_add_share(cJSON *object, const char *key, uint32_t mpct);
/* RFC 3339, UTC, whole seconds, from CLOCK_REALTIME ns; null for 0. */
void flagshm_json_add_time(cJSON *object, const char *key, uint64_t realtime_ns);

#endif
