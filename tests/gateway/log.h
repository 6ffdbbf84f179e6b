/* log: one JSON line for each call of /v1/messages that was served, cut or left by its caller. */
#ifndef FLAGSHM_GATEWAY_LOG_H
#define FLAGSHM_GATEWAY_LOG_H

#include "server/error.h"
#include "tests/gateway/text.h"

#include <stdint.h>

struct gateway_log {
    int fd;
    uint64_t lines, bytes;
    uint64_t dropped; /* lines beyond the limit of the file, or that could not be written */
};

/* Empties `path`; NULL: a file without a name, for GET /gateway/log alone. */
int gateway_log_open(struct gateway_log *log, const char *path, struct flagshm_error *error);
void gateway_log_close(struct gateway_log *log);
/* `fields` are the members after "n", without the closing brace. */
void gateway_log_put(struct gateway_log *log, const struct gateway_text *fields);
void gateway_log_clear(struct gateway_log *log);

#endif
