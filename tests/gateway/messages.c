/* messages: POST /v1/messages from its body to its script and its line in the log. See gateway.h. */
#include "server/utf8.h"
#include "tests/gateway/gateway.h"

#include <inttypes.h>

static const char *header(struct gateway_call *call, const char *name)
{
    return MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name);
}

static void headers_read(struct gateway_headers *headers, struct gateway_call *call)
{
    *headers = (struct gateway_headers){
        .scenario = header(call, "x-gateway-scenario"),
        .delay_ms = header(call, "x-gateway-delay-ms"),
        .retry_after = header(call, "x-gateway-retry-after"),
        .api_key = header(call, "x-api-key"),
        .authorization = header(call, "authorization"),
        .version = header(call, "anthropic-version"),
        .user_id = header(call, "x-user-id"),
        .flag_variant = header(call, "x-flag-variant"),
        .rollout_stage = header(call, "x-rollout-stage"),
        .retry_count = header(call, "x-stainless-retry-count"),
        .accept_encoding = header(call, "accept-encoding"),
        .content_type = header(call, "content-type"),
    };
    if (headers->retry_count == NULL)
        headers->retry_count = header(call, "x-retry-count");
}

void gateway_messages(struct gateway_call *call)
{
    struct gateway *gateway = call->gateway;
    struct gateway_headers headers;
    struct flagshm_error error;
    unsigned status;

    call->is_message = true;
    headers_read(&headers, call);
    gateway_text_bytes(&call->body, "", 0);
    status = gateway_request_read(&call->request, &headers, call->body.bytes, call->body.length,
                                  &gateway->config, gateway->fallback, &error);
    if (call->is_too_large) {
        status = 413;
        (void)flagshm_error_set(&error, 0, "Request exceeds the maximum size");
    }
    if (status != 0) {
        call->answer.id = gateway_hash(gateway->chance.seed ^ gateway->served, "refused");
        gateway_answer_refuse(&call->answer, status, error.text);
    } else {
        gateway_answer_decide(&call->answer, &call->request, &gateway->chance);
    }
    gateway_answer_render(&call->script, &call->answer, &call->request);
}

static void log_tag(struct gateway_text *line, const char *name, const char *value)
{
    gateway_text_format(line, "\"%s\":", name);
    gateway_text_json_string(line, value);
    gateway_text_put(line, ",");
}

static bool is_utf8(const struct gateway_text *text)
{
    uint32_t code;
    size_t i, bytes;

    for (i = 0; i < text->length; i += bytes) {
        bytes = flagshm_utf8_sequence(text->bytes + i, text->length - i, &code);
        if (bytes == 0)
            return false;
    }
    return true;
}

/* The request as it came, on one line: cJSON would round its numbers. A body that is no JSON is a string. */
static void log_body(struct gateway_text *line, const struct gateway_call *call)
{
    size_t i;

    gateway_text_put(line, ",\"request\":");
    if (call->request.json == NULL || !is_utf8(&call->body)) {
        gateway_text_json(line, call->body.bytes, call->body.length);
        return;
    }
    for (i = 0; i < call->body.length; i++)
        gateway_text_bytes(line, (unsigned char)call->body.bytes[i] < 0x20 ? " " : &call->body.bytes[i], 1);
}

void gateway_messages_log(struct gateway_call *call, bool is_sent)
{
    const struct gateway_request *request = &call->request;
    const struct gateway_usage *usage = &call->answer.usage;
    uint64_t cache = usage->cache_creation + usage->cache_read;
    uint64_t took_ns = gateway_now_ns() - call->begin_ns;
    struct gateway_text line = {NULL, 0, 0};

    if (cache < usage->cache_read)
        cache = UINT64_MAX;
    log_tag(&line, "model", request->model);
    log_tag(&line, "user_id", request->user_id);
    log_tag(&line, "flag_variant", request->flag_variant);
    log_tag(&line, "rollout_stage", request->rollout_stage);
    log_tag(&line, "scenario", request->scenario->name);
    gateway_text_format(&line, "\"stream\":%s,\"status\":%u,", request->is_stream ? "true" : "false",
                        call->script.status);
    gateway_text_format(
        &line, "\"input_tokens\":%" PRIu64 ",\"output_tokens\":%" PRIu64 ",\"cache_tokens\":%" PRIu64 ",",
        usage->input, usage->output, cache);
    gateway_text_format(&line, "\"completed\":%s,\"text_valid\":%s,\"latency_ms\":%.3f,\"retry\":%u,",
                        is_sent && call->script.is_whole ? "true" : "false",
                        call->answer.is_valid ? "true" : "false", (double)took_ns / 1e6, request->retry);
    log_tag(&line, "auth", request->auth);
    gateway_text_put(&line, "\"anthropic_version\":");
    gateway_text_json_string(&line, request->version);
    if (call->gateway->logs_bodies)
        log_body(&line, call);
    gateway_log_put(&call->gateway->log, &line);
    gateway_text_free(&line);
}
