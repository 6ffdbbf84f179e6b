/* answer: decides what a request is answered with, from the scenario, the config and seeded chance. Pure. */
#ifndef FLAGSHM_GATEWAY_ANSWER_H
#define FLAGSHM_GATEWAY_ANSWER_H

#include "tests/gateway/request.h"
#include "tests/gateway/script.h"

struct gateway_usage {
    uint64_t input, output, cache_creation, cache_read;
};

struct gateway_answer {
    unsigned status; /* 200, or an error's */
    const char *error_type;
    struct gateway_text error_text;
    const char *stop_reason;
    struct gateway_text text;  /* of the text block; empty: there is none */
    struct gateway_text input; /* of the tool call, JSON */
    const char *tool_name;     /* NULL: no tool is called */
    struct gateway_usage usage;
    unsigned traits;     /* of the scenario, where it applies */
    uint64_t latency_ns; /* of the whole answer */
    uint64_t number;     /* of this call by this client key: part of the ids */
    uint64_t id;         /* seeded */
    bool is_valid;       /* what was asked for, JSON or tool input, is there and whole */
};

/* Where calls are counted. */
struct gateway_chance {
    uint64_t seed;
    struct gateway_tally *tally;
};

void gateway_answer_decide(struct gateway_answer *answer, const struct gateway_request *request,
                           const struct gateway_chance *chance);
/* The answer is the error `status`; `text` says why. */
void gateway_answer_refuse(struct gateway_answer *answer, unsigned status, const char *text);
void gateway_answer_free(struct gateway_answer *answer);

/* render.c, stream.c: the bytes and pauses. */
void gateway_answer_render(struct gateway_script *script, const struct gateway_answer *answer,
                           const struct gateway_request *request);
void gateway_answer_stream(struct gateway_script *script, const struct gateway_answer *answer,
                           const struct gateway_request *request);
void gateway_answer_usage(struct gateway_text *text, const struct gateway_answer *answer, uint64_t output);
const char *gateway_error_type(unsigned status);
/* {"type":"error",...}, without a line end */
void gateway_error_body(struct gateway_text *text, const char *type, const char *message, uint64_t id);

#endif
