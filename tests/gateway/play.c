/* play: a script as libmicrohttpd asks for it. See gateway.h. */
#include "tests/gateway/gateway.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BLOCK_BYTES 16384

/* Waits out the pause that stands here. True: go on. */
static bool pause_is_over(struct gateway_call *call, uint64_t ns)
{
    uint64_t now_ns = gateway_now_ns();

    if (call->due_ns == 0)
        call->due_ns = now_ns + ns;
    if (now_ns < call->due_ns) {
        gateway_wait(call, call->due_ns);
        return false;
    }
    call->due_ns = 0;
    return true;
}

static size_t fill(struct gateway_call *call, char *buffer, size_t bytes)
{
    const struct gateway_script *script = &call->script;
    uint64_t flooded = call->sent - script->bytes.length;
    size_t begin, part, done = 0;

    if (bytes > script->filler_bytes - flooded)
        bytes = (size_t)(script->filler_bytes - flooded);
    while (done < bytes) {
        begin = (size_t)((flooded + done) % script->filler.length);
        part = script->filler.length - begin < bytes - done ? script->filler.length - begin : bytes - done;
        memcpy(buffer + done, script->filler.bytes + begin, part);
        done += part;
    }
    return bytes;
}

static ssize_t end(struct gateway_call *call)
{
    if (call->script.end == GATEWAY_END_HANG) {
        gateway_wait(call, GATEWAY_FOREVER);
        return 0;
    }
    return call->script.end == GATEWAY_END_WHOLE ? MHD_CONTENT_READER_END_OF_STREAM
                                                 : MHD_CONTENT_READER_END_WITH_ERROR;
}

static ssize_t read_some(void *closure, uint64_t position, char *buffer, size_t max)
{
    struct gateway_call *call = closure;
    const struct gateway_script *script = &call->script;
    size_t count, until = script->bytes.length;

    (void)position;
    if (call->is_gone || call->gateway->is_ending)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    while (call->pause_next < script->pause_count && script->pauses[call->pause_next].offset <= call->sent) {
        if (!pause_is_over(call, script->pauses[call->pause_next].ns))
            return 0;
        call->pause_next++;
    }
    if (call->pause_next < script->pause_count)
        until = script->pauses[call->pause_next].offset;
    if (call->sent < until) {
        count = script->is_bytewise ? 1 : until - (size_t)call->sent;
        count = count < max ? count : max;
        memcpy(buffer, script->bytes.bytes + call->sent, count);
    } else if (script->filler_bytes > call->sent - script->bytes.length) {
        count = fill(call, buffer, max);
    } else {
        return end(call);
    }
    call->sent += count;
    return (ssize_t)count;
}

static void header(struct MHD_Response *response, const char *name, const char *value)
{
    if (value != NULL)
        (void)MHD_add_response_header(response, name, value);
}

static void headers_add(struct MHD_Response *response, const struct gateway_call *call)
{
    const struct gateway_script *script = &call->script;
    char id[32];

    header(response, "content-type", script->content_type);
    header(response, "content-encoding", script->content_encoding);
    if (!call->is_message)
        return;
    (void)snprintf(id, sizeof id, "req_%016" PRIx64, call->answer.id);
    header(response, "request-id", id);
    header(response, "anthropic-organization-id", "00000000-0000-4000-8000-000000000000");
    header(response, "cache-control", "no-cache");
    header(response, "retry-after", script->retry_after);
    header(response, "x-should-retry", script->should_retry);
    if (script->status == 200) {
        header(response, "anthropic-ratelimit-requests-limit", "4000");
        header(response, "anthropic-ratelimit-requests-remaining", "3999");
        header(response, "anthropic-ratelimit-requests-reset", "2030-01-01T00:00:00Z");
    }
}

/* Leaves a socket that libmicrohttpd finds dead; Linux answers this with a reset, at once. */
static void reset(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

    (void)connect(info->connect_fd, &nowhere, sizeof nowhere);
}

enum MHD_Result gateway_play(struct gateway_call *call)
{
    struct gateway_script *script = &call->script;
    struct MHD_Response *response;
    enum MHD_Result result;

    if (call->is_gone || call->gateway->is_ending)
        return MHD_NO;
    if (script->before_ns > 0) {
        if (!pause_is_over(call, script->before_ns))
            return MHD_YES;
        script->before_ns = 0;
    }
    if (script->end == GATEWAY_END_RESET) {
        reset(call->connection);
        return MHD_NO;
    }
    if (script->status == 0) {
        gateway_wait(call, GATEWAY_FOREVER);
        return MHD_YES;
    }
    response = MHD_create_response_from_callback(script->has_length ? script->length : MHD_SIZE_UNKNOWN,
                                                 BLOCK_BYTES, read_some, call, NULL);
    if (response == NULL)
        return MHD_NO;
    headers_add(response, call);
    result = MHD_queue_response(call->connection, script->status, response);
    MHD_destroy_response(response);
    return result;
}
