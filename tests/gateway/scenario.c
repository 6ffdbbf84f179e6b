/* scenario: see the header. */
#include "tests/gateway/scenario.h"

#include <errno.h>
#include <string.h>

static const struct gateway_scenario scenarios[] = {
    {"ok", 0, 0, 0, "a good answer"},
    {"slow-first-byte", 0, 0, GATEWAY_SLOW_FIRST_BYTE, "nothing for 1 s (or x-gateway-delay-ms), then ok"},
    {"slow-body", 0, 0, GATEWAY_SLOW_BODY,
     "ok with 100 ms (or x-gateway-delay-ms) before each of some ten parts"},
    {"400-metadata", 0, 0, GATEWAY_STRICT_METADATA,
     "400 where metadata has another key than user_id, else ok"},
    {"400-parameter", 400, 0, GATEWAY_UNKNOWN_PARAMETER, "400 for a parameter that is not known"},
    {"401", 401, 0, 0, "authentication_error"},
    {"403", 403, 0, 0, "permission_error"},
    {"404", 404, 0, 0, "not_found_error, as for a retired model"},
    {"413", 413, 0, 0, "request_too_large"},
    {"429", 429, 0, 0, "rate_limit_error of a spending limit, without retry-after"},
    {"429-retry-after", 429, 1, GATEWAY_RETRY_AFTER,
     "429 with retry-after: 1 (or x-gateway-retry-after) once, then ok"},
    {"500", 500, 0, 0, "api_error"},
    {"504", 504, 0, 0, "timeout_error"},
    {"529", 529, 0, 0, "overloaded_error"},
    {"529-twice", 529, 2, 0, "529 for the first two calls of a client key (model and user_id), then ok"},
    {"529-no-retry", 529, 0, GATEWAY_NO_RETRY, "529 with x-should-retry: false"},
    {"refusal", 0, 0, GATEWAY_REFUSAL, "stop_reason refusal, no content"},
    {"max-tokens", 0, 0, GATEWAY_MAX_TOKENS, "stop_reason max_tokens, text cut, output_tokens = max_tokens"},
    {"invalid-json", 0, 0, GATEWAY_INVALID_JSON, "200 whose text is JSON cut short"},
    {"broken-tool", 0, 0, GATEWAY_BROKEN_TOOL,
     "tool_use whose input lacks all fields (streamed: JSON cut short)"},
    {"broken-tool-missing", 0, 0, GATEWAY_BROKEN_TOOL | GATEWAY_NO_TOOL_INPUT, "tool_use without any input"},
    {"stream-ping", 0, 0, GATEWAY_PING,
     "pings and comments everywhere, lines end in CR LF; asked plainly: ok"},
    {"stream-unknown", 0, 0, GATEWAY_UNKNOWN_EVENT,
     "events, deltas and fields that are not known; asked plainly: fields"},
    {"stream-error", 0, 0, GATEWAY_STREAM_ERROR, "an error event after 200; asked plainly: 529"},
    {"stream-cut", 0, 0, GATEWAY_CUT, "ends well, but before message_stop; asked plainly: as stream-abort"},
    {"stream-abort", 0, 0, GATEWAY_ABORT, "the connection closes in the middle of the body"},
    {"stream-split", 0, 0, GATEWAY_SPLIT, "each byte is a write, and a chunk where streamed"},
    {"gzip", 0, 0, GATEWAY_GZIP, "ok, compressed where accept-encoding allows it"},
    {"huge-usage", 0, 0, GATEWAY_HUGE_USAGE, "token counts beyond 2^53, whose sum is beyond 2^64"},
    {"bad-usage", 0, 0, GATEWAY_BAD_USAGE, "token counts that are no counts"},
    {"usage-late", 0, 0, GATEWAY_LATE_USAGE, "usage only in message_delta; asked plainly: ok"},
    {"cache-tokens", 0, 0, GATEWAY_CACHE_TOKENS, "300 tokens written to the cache, 7000 read from it"},
    {"reset", 0, 0, GATEWAY_RESET, "TCP reset instead of an answer"},
    {"hang", 0, 0, GATEWAY_HANG, "never answers"},
    {"hang-body", 0, 0, GATEWAY_HANG_BODY, "begins to answer, never ends"},
    {"flood", 0, 0, GATEWAY_FLOOD, "1 GiB in one string (streamed: in one line), then the connection closes"},
    {"flood-events", 0, 0, GATEWAY_FLOOD_EVENTS,
     "1 GiB of sound events, then the connection closes; plainly: flood"},
    {"bad-body", 0, 0, GATEWAY_BAD_BODY, "200 with HTML; streamed: an event whose data is no JSON"},
};

#define SCENARIOS (sizeof scenarios / sizeof *scenarios)

const struct gateway_scenario *gateway_scenario_find(const char *name)
{
    size_t i;

    for (i = 0; i < SCENARIOS; i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    return NULL;
}

int gateway_scenario_unknown(struct flagshm_error *error, const char *what, const char *name)
{
    struct gateway_text names = {NULL, 0, 0};
    size_t i;

    for (i = 0; i < SCENARIOS; i++)
        gateway_text_format(&names, "%s%s", i == 0 ? "" : ", ", scenarios[i].name);
    (void)flagshm_error_set(error, -EINVAL, "%s: there is no scenario \"%.60s\"; there are %s", what,
                            name == NULL ? "" : name, names.bytes);
    gateway_text_free(&names);
    return -EINVAL;
}

void gateway_scenario_list(struct gateway_text *text)
{
    size_t i;

    for (i = 0; i < SCENARIOS; i++)
        gateway_text_format(text, "  %-20s %s\n", scenarios[i].name, scenarios[i].what);
}
