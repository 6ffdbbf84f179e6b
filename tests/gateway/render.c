/* render: an answer as the bytes of a plain reply, and what plain and streamed replies share. See answer.h. */
#include "tests/gateway/answer.h"

#include <inttypes.h>
#include <string.h>

#define MS            UINT64_C(1000000) /* in nanoseconds */
#define FIRST_BYTE_MS 1000
#define PART_MS       100
#define BODY_PARTS    10
#define FILLER_BYTES  4096

const char *gateway_error_type(unsigned status)
{
    static const struct {
        unsigned status;
        const char *type;
    } types[] = {{400, "invalid_request_error"}, {401, "authentication_error"}, {402, "billing_error"},
                 {403, "permission_error"},      {404, "not_found_error"},      {409, "conflict_error"},
                 {413, "request_too_large"},     {429, "rate_limit_error"},     {504, "timeout_error"},
                 {529, "overloaded_error"}};
    size_t i;

    for (i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].status == status)
            return types[i].type;
    return status < 500 ? "invalid_request_error" : "api_error";
}

void gateway_error_body(struct gateway_text *text, const char *type, const char *message, uint64_t id)
{
    gateway_text_format(text, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", type);
    gateway_text_json_string(text, message);
    if (strcmp(type, "rate_limit_error") == 0)
        gateway_text_put(text, ",\"details\":{\"error_code\":\"enforced_spend_limit_reached\"}");
    gateway_text_format(text, "},\"request_id\":\"req_%016" PRIx64 "\"}", id);
}

void gateway_answer_usage(struct gateway_text *text, const struct gateway_answer *answer, uint64_t output)
{
    const struct gateway_usage *usage = &answer->usage;

    if ((answer->traits & GATEWAY_BAD_USAGE) != 0) {
        gateway_text_put(text, "{\"input_tokens\":-5,\"cache_creation_input_tokens\":1.5e300,"
                               "\"cache_read_input_tokens\":null,\"output_tokens\":\"12\"}");
        return;
    }
    gateway_text_format(
        text,
        "{\"input_tokens\":%" PRIu64 ",\"cache_creation_input_tokens\":%" PRIu64
        ",\"cache_read_input_tokens\":%" PRIu64 ",\"cache_creation\":{\"ephemeral_5m_input_tokens\":%" PRIu64
        ",\"ephemeral_1h_input_tokens\":0},\"output_tokens\":%" PRIu64 ",\"service_tier\":\"standard\"}",
        usage->input, usage->cache_creation, usage->cache_read, usage->cache_creation, output);
}

static void content(struct gateway_text *body, const struct gateway_answer *answer)
{
    const char *between = "";

    gateway_text_put(body, ",\"content\":[");
    if (answer->text.length > 0) {
        gateway_text_put(body, "{\"type\":\"text\",\"text\":");
        gateway_text_json(body, answer->text.bytes, answer->text.length);
        gateway_text_put(body, "}");
        between = ",";
    }
    if (answer->tool_name != NULL) {
        gateway_text_format(
            body, "%s{\"type\":\"tool_use\",\"id\":\"toolu_%016" PRIx64 "\",\"name\":", between, answer->id);
        gateway_text_json_string(body, answer->tool_name);
        if ((answer->traits & GATEWAY_NO_TOOL_INPUT) == 0)
            gateway_text_format(body, ",\"input\":%s", answer->input.bytes);
        gateway_text_put(body, "}");
    }
    gateway_text_put(body, "]");
}

static void message(struct gateway_text *body, const struct gateway_answer *answer, const char *model)
{
    gateway_text_format(
        body,
        "{\"id\":\"msg_%016" PRIx64 "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", answer->id);
    gateway_text_json_string(body, model);
    if ((answer->traits & GATEWAY_UNKNOWN_EVENT) != 0)
        gateway_text_put(body, ",\"future_field\":{\"glow\":[1,{}]}");
    content(body, answer);
    gateway_text_format(body, ",\"stop_reason\":\"%s\",\"stop_sequence\":null", answer->stop_reason);
    if ((answer->traits & GATEWAY_REFUSAL) != 0)
        gateway_text_put(body, ",\"stop_details\":{\"type\":\"refusal\",\"category\":\"cyber\","
                               "\"explanation\":\"scripted refusal\"}");
    gateway_text_put(body, ",\"usage\":");
    gateway_answer_usage(body, answer, answer->usage.output);
    gateway_text_put(body, "}");
}

static void filler_set(struct gateway_script *script)
{
    char letters[FILLER_BYTES];

    memset(letters, 'x', sizeof letters);
    gateway_text_bytes(&script->filler, letters, sizeof letters);
    script->filler_bytes = GATEWAY_FLOOD_BYTES;
}

static void flood(struct gateway_script *script, const struct gateway_answer *answer)
{
    gateway_text_format(&script->bytes,
                        "{\"id\":\"msg_%016" PRIx64
                        "\",\"type\":\"message\",\"role\":\"assistant\",\"content\":["
                        "{\"type\":\"text\",\"text\":\"",
                        answer->id);
    filler_set(script);
    script->has_length = false;
    script->end = GATEWAY_END_ABORT;
    script->is_whole = false;
}

static void plain(struct gateway_script *script, const struct gateway_answer *answer,
                  const struct gateway_request *request)
{
    script->content_type = "application/json";
    script->has_length = true;
    if ((answer->traits & (GATEWAY_FLOOD | GATEWAY_FLOOD_EVENTS)) != 0) {
        flood(script, answer);
        return;
    }
    if ((answer->traits & GATEWAY_BAD_BODY) != 0) {
        script->content_type = "text/html";
        gateway_text_put(&script->bytes, "<html><body><h1>502 Bad Gateway</h1></body></html>\n");
        return;
    }
    message(&script->bytes, answer, request->model);
}

/* Where a plain reply pauses or stops. A streamed one sees to it while it is written. */
static void plain_shape(struct gateway_script *script, const struct gateway_answer *answer, uint64_t part_ns)
{
    struct gateway_text bytes = script->bytes;
    size_t part = bytes.length / BODY_PARTS + 1, at;

    script->length = bytes.length;
    if ((answer->traits & (GATEWAY_CUT | GATEWAY_ABORT | GATEWAY_HANG_BODY)) != 0) {
        script->bytes.length /= 2;
        script->end = (answer->traits & GATEWAY_HANG_BODY) != 0 ? GATEWAY_END_HANG : GATEWAY_END_ABORT;
        script->is_whole = false;
    }
    if ((answer->traits & GATEWAY_SLOW_BODY) == 0)
        return;
    script->bytes = (struct gateway_text){NULL, 0, 0};
    for (at = 0; at < bytes.length; at += part) {
        gateway_script_pause(script, part_ns);
        gateway_text_bytes(&script->bytes, bytes.bytes + at,
                           bytes.length - at < part ? bytes.length - at : part);
    }
    gateway_text_free(&bytes);
}

static void refusal(struct gateway_script *script, const struct gateway_answer *answer,
                    const struct gateway_request *request)
{
    script->content_type = "application/json";
    script->has_length = true;
    gateway_error_body(&script->bytes, answer->error_type, answer->error_text.bytes, answer->id);
    script->length = script->bytes.length;
    if ((answer->traits & GATEWAY_RETRY_AFTER) != 0)
        script->retry_after = gateway_copy(request->retry_after, GATEWAY_TAG_MAX);
    if ((answer->traits & GATEWAY_NO_RETRY) != 0)
        script->should_retry = "false";
}

void gateway_answer_render(struct gateway_script *script, const struct gateway_answer *answer,
                           const struct gateway_request *request)
{
    uint64_t told_ns = request->delay_ms >= 0 ? (uint64_t)request->delay_ms * MS : 0;
    bool is_told = request->delay_ms >= 0;

    script->status = answer->status;
    script->is_whole = true;
    script->before_ns = answer->latency_ns;
    if (answer->status != 200) {
        refusal(script, answer, request);
    } else if (request->is_stream) {
        script->before_ns = answer->latency_ns / 10 * 3; /* the rest passes before the end of the stream */
        gateway_answer_stream(script, answer, request);
    } else {
        plain(script, answer, request);
        plain_shape(script, answer, is_told ? told_ns : PART_MS * MS);
    }
    if ((answer->traits & GATEWAY_SLOW_FIRST_BYTE) != 0)
        script->before_ns += is_told ? told_ns : FIRST_BYTE_MS * MS;
    script->is_bytewise = (answer->traits & GATEWAY_SPLIT) != 0;
    if ((answer->traits & GATEWAY_GZIP) != 0 && request->accepts_gzip) {
        gateway_script_compress(script);
        script->length = script->bytes.length;
    }
    if ((answer->traits & (GATEWAY_RESET | GATEWAY_HANG)) != 0) {
        script->end = (answer->traits & GATEWAY_RESET) != 0 ? GATEWAY_END_RESET : GATEWAY_END_HANG;
        script->status = 0;
        script->is_whole = false;
    }
}
