/* log: one JSON line for each call of /v1/messages that was served, cut or left by its caller, written when the call has ended.
 *
 * "n" counts lines. "status" is 0 where nothing was sent (reset, hang). Tokens are what the whole answer says, 0 for an error;
 * "input_tokens" is without "cache_tokens" (written and read). "completed": all bytes went out, and they end as an answer, or an error,
 * should; that the caller read them is not known. "text_valid": the JSON or tool input that was asked for is there and whole, or none
 * was asked for; false for an error. "retry" is what the caller said in x-stainless-retry-count or x-retry-count.
 */
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
