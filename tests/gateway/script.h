/* script: an answer made ready: all its bytes, where to pause between them, and how it ends. The edge plays it. */
#ifndef FLAGSHM_GATEWAY_SCRIPT_H
#define FLAGSHM_GATEWAY_SCRIPT_H

#include "tests/gateway/text.h"

#include <stdbool.h>
#include <stdint.h>

#define GATEWAY_FLOOD_BYTES (UINT64_C(1) << 30)

enum gateway_end {
    GATEWAY_END_WHOLE,
    GATEWAY_END_ABORT, /* the connection is closed, HTTP's own framing is left open */
    GATEWAY_END_HANG,
    GATEWAY_END_RESET /* instead of any byte */
};

struct gateway_pause {
    size_t offset; /* before this byte */
    uint64_t ns;
};

struct gateway_script {
    unsigned status;
    const char *content_type, *content_encoding; /* the latter NULL: as it is */
    const char *should_retry;                    /* x-should-retry; NULL: none */
    char *retry_after;                           /* NULL: none; owned */
    struct gateway_text bytes;
    struct gateway_pause *pauses;
    size_t pause_count;
    uint64_t before_ns;         /* before anything is sent */
    bool has_length;            /* content-length, not chunks */
    size_t length;              /* what content-length says */
    bool is_bytewise;           /* one byte a write */
    struct gateway_text filler; /* repeated after `bytes` ... */
    uint64_t filler_bytes;      /* ... until so many were sent */
    enum gateway_end end;
    bool is_whole; /* a caller who reads it all has an answer that ends as it should */
};

void gateway_script_pause(struct gateway_script *script, uint64_t ns); /* before what is added next */
/* Compresses the bytes; each part between two pauses can be read on its own. */
void gateway_script_compress(struct gateway_script *script);
void gateway_script_free(struct gateway_script *script);

#endif
