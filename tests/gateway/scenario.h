/* scenario: the scripted ways in which a call can go. One table; what a scenario does is a set of traits that the answer, the script
 * and the edge look at. */
#ifndef FLAGSHM_GATEWAY_SCENARIO_H
#define FLAGSHM_GATEWAY_SCENARIO_H

#include "server/error.h"
#include "tests/gateway/text.h"

enum gateway_trait {
    GATEWAY_STRICT_METADATA = 1 << 0, /* metadata may hold user_id only, as the vendor says */
    GATEWAY_UNKNOWN_PARAMETER = 1 << 1,
    GATEWAY_RETRY_AFTER = 1 << 2,
    GATEWAY_NO_RETRY = 1 << 3, /* x-should-retry: false */
    GATEWAY_SLOW_FIRST_BYTE = 1 << 4,
    GATEWAY_SLOW_BODY = 1 << 5,
    GATEWAY_REFUSAL = 1 << 6,
    GATEWAY_MAX_TOKENS = 1 << 7,
    GATEWAY_INVALID_JSON = 1 << 8,
    GATEWAY_BROKEN_TOOL = 1 << 9,
    GATEWAY_NO_TOOL_INPUT = 1 << 10,
    GATEWAY_PING = 1 << 11,
    GATEWAY_UNKNOWN_EVENT = 1 << 12,
    GATEWAY_STREAM_ERROR = 1 << 13,
    GATEWAY_CUT = 1 << 14,   /* HTTP ends well, the message does not */
    GATEWAY_ABORT = 1 << 15, /* the connection closes in the middle */
    GATEWAY_SPLIT = 1 << 16,
    GATEWAY_GZIP = 1 << 17,
    GATEWAY_HUGE_USAGE = 1 << 18,
    GATEWAY_BAD_USAGE = 1 << 19,
    GATEWAY_LATE_USAGE = 1 << 20,
    GATEWAY_CACHE_TOKENS = 1 << 21,
    GATEWAY_RESET = 1 << 22,
    GATEWAY_HANG = 1 << 23,
    GATEWAY_HANG_BODY = 1 << 24,
    GATEWAY_FLOOD = 1 << 25,        /* one string, or line, that does not end */
    GATEWAY_FLOOD_EVENTS = 1 << 26, /* sound events that do not end */
    GATEWAY_BAD_BODY = 1 << 27
};

struct gateway_scenario {
    const char *name;
    unsigned status; /* of an error; 0: answers with 200 */
    unsigned times;  /* so many calls of a client key fail, then all are ok; 0: all fail */
    unsigned traits; /* enum gateway_trait */
    const char *what;
};

/* NULL where there is none of that name. */
const struct gateway_scenario *gateway_scenario_find(const char *name);
/* Says that `what` names no scenario, and which there are. Returns -EINVAL. */
int gateway_scenario_unknown(struct flagshm_error *error, const char *what, const char *name);
/* A line a scenario, for the help text. */
void gateway_scenario_list(struct gateway_text *text);

#endif
