/* request: what the caller of /v1/messages asks for, checked as the vendor checks it. Pure: headers and body in, facts out. */
#ifndef FLAGSHM_GATEWAY_REQUEST_H
#define FLAGSHM_GATEWAY_REQUEST_H

#include "server/error.h"
#include "tests/gateway/config.h"
#include "tests/gateway/scenario.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#define GATEWAY_TAG_MAX 512 /* bytes kept of a model name or tag */

/* NULL where the request has none. */
struct gateway_headers {
    const char *scenario, *delay_ms, *retry_after;      /* x-gateway-... */
    const char *api_key, *authorization, *version;      /* x-api-key, authorization, anthropic-version */
    const char *user_id, *flag_variant, *rollout_stage; /* x-user-id, x-flag-variant, x-rollout-stage */
    const char *retry_count, *accept_encoding, *content_type; /* x-stainless-retry-count or x-retry-count */
};

struct gateway_request {
    cJSON *json;
    char *model, *user_id, *flag_variant, *rollout_stage; /* "" where not told */
    char *version, *retry_after;
    const char *auth; /* "x-api-key", "authorization" or "none": never the key itself */
    bool is_stream, wants_json, accepts_gzip;
    const cJSON *schema; /* of the answer; NULL: none */
    const cJSON *tool;   /* the tool to call; NULL: none */
    uint64_t max_tokens;
    size_t prompt_bytes;
    unsigned retry;
    int64_t delay_ms; /* -1: not told */
    const struct gateway_scenario *scenario;
    const struct gateway_model *behaviour; /* of this model, from the config */
    bool has_chosen;                       /* the client itself named the scenario */
};

/* Reads a request. Returns 0, or the HTTP status to answer with and the reason in `error`. `body` ends with a NUL. The tags are set
 * in any case, as far as they could be read. */
unsigned gateway_request_read(struct gateway_request *request, const struct gateway_headers *headers,
                              const char *body, size_t bytes, const struct gateway_config *config,
                              const struct gateway_scenario *fallback, struct flagshm_error *error);
void gateway_request_free(struct gateway_request *request);

/* The first key of `object` that is none of `known` (closed by NULL); NULL: all are known. */
const char *gateway_request_unknown_key(const cJSON *object, const char *const *known);
extern const char *const gateway_request_parameters[];

#endif
