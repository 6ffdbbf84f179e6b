/* config: how each model behaves in distribution mode, read from JSON. Unknown keys are refused: a misspelt rate would be no rate. */
#ifndef FLAGSHM_GATEWAY_CONFIG_H
#define FLAGSHM_GATEWAY_CONFIG_H

#include "server/error.h"
#include "tests/gateway/draw.h"

#include <stddef.h>

struct gateway_scenario;

struct gateway_model {
    char *name;        /* NULL: "default" */
    double error_rate; /* 0..1, of calls whose scenario the client did not choose itself */
    double invalid_json_rate;
    unsigned error_status;              /* 500 unless told */
    struct gateway_spread latency_ms;   /* unset: at once */
    struct gateway_spread input_tokens; /* unset: a quarter of the prompt's bytes */
    struct gateway_spread
        output_tokens; /* unset: a quarter of the answer's bytes; beyond max_tokens it is cut there */
    bool wants_json;   /* answers with JSON though the request did not ask for it */
    const struct gateway_scenario *scenario; /* NULL: not told */
};

struct gateway_config {
    struct gateway_model *models;
    size_t count;
    struct gateway_model any; /* for models that are not named */
};

/* `json` ends with a NUL after `bytes`. Returns 0 or -EINVAL; on failure `config` is left alone. */
int gateway_config_read(struct gateway_config *config, const char *json, size_t bytes,
                        struct flagshm_error *error);
void gateway_config_free(struct gateway_config *config);
const struct gateway_model *gateway_config_model(const struct gateway_config *config, const char *name);

#endif
