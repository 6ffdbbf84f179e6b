/* control: /gateway/...: what tests ask and tell the gateway itself. See gateway.h. */
#include "tests/gateway/gateway.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static void reply_json(struct gateway_call *call, unsigned status)
{
    call->script.status = status;
    call->script.content_type = "application/json";
    call->script.has_length = true;
    call->script.length = call->script.bytes.length;
    call->script.is_whole = true;
}

void gateway_reply_error(struct gateway_call *call, unsigned status, const char *text)
{
    gateway_error_body(&call->script.bytes, gateway_error_type(status), text, call->answer.id);
    reply_json(call, status);
}

static void health(struct gateway_call *call)
{
    const struct gateway *gateway = call->gateway;
    const struct gateway_peer *peer;
    unsigned connections = 0;

    for (peer = gateway->peers; peer != NULL; peer = peer->next)
        connections++;
    gateway_text_format(&call->script.bytes,
                        "{\"status\":\"ok\",\"in_flight\":%" PRIu64 ",\"served\":%" PRIu64
                        ",\"logged\":%" PRIu64 ",\"log_dropped\":%" PRIu64
                        ",\"waiting\":%zu,\"connections\":%u}\n",
                        gateway->in_flight - 1, gateway->served, gateway->log.lines, gateway->log.dropped,
                        gateway->waits.count, connections);
    reply_json(call, 200);
}

static void config_put(struct gateway_call *call)
{
    struct flagshm_error error;

    gateway_text_bytes(&call->body, "", 0);
    if (call->is_too_large) {
        gateway_reply_error(call, 413, "config: too large");
    } else if (gateway_config_read(&call->gateway->config, call->body.bytes, call->body.length, &error) !=
               0) {
        gateway_reply_error(call, 400, error.text);
    } else {
        gateway_text_format(&call->script.bytes, "{\"models\":%zu}\n", call->gateway->config.count);
        reply_json(call, 200);
    }
}

/* Whole into memory: tests ask for some megabytes. */
static void log_get(struct gateway_call *call)
{
    const struct gateway_log *log = &call->gateway->log;
    char block[65536];
    off_t at = 0;
    ssize_t count;

    while ((count = pread(log->fd, block, sizeof block, at)) > 0) {
        gateway_text_bytes(&call->script.bytes, block, (size_t)count);
        at += count;
    }
    reply_json(call, 200);
    call->script.content_type = "application/x-ndjson";
}

static bool is_call(const char *method, const char *path, const char *wanted_method, const char *wanted_path)
{
    return strcmp(method, wanted_method) == 0 && strcmp(path, wanted_path) == 0;
}

void gateway_control(struct gateway_call *call, const char *method, const char *path)
{
    struct gateway *gateway = call->gateway;

    if (is_call(method, path, "GET", "/gateway/health")) {
        health(call);
    } else if (is_call(method, path, "GET", "/gateway/log")) {
        log_get(call);
    } else if (is_call(method, path, "PUT", "/gateway/config")) {
        config_put(call);
    } else if (is_call(method, path, "DELETE", "/gateway/log")) {
        gateway_log_clear(&gateway->log);
        gateway_text_put(&call->script.bytes, "{}\n");
        reply_json(call, 200);
    } else if (is_call(method, path, "DELETE", "/gateway/state")) {
        gateway_tally_clear(gateway->chance.tally);
        gateway_text_put(&call->script.bytes, "{}\n");
        reply_json(call, 200);
    } else {
        gateway_reply_error(call, 404,
                            "there are POST /v1/messages, GET /gateway/health, GET and DELETE /gateway/log, "
                            "PUT /gateway/config and DELETE /gateway/state");
    }
}
