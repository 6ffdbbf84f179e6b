/* http: one HTTP request from its first byte to its last. See gateway.h. */
#include "tests/gateway/gateway.h"

#include <stdlib.h>
#include <string.h>

#define BODY_MAX  (UINT64_C(32) << 20)  /* as the vendor */
#define TOTAL_MAX (UINT64_C(256) << 20) /* of all calls together */

static struct gateway_call *begin(struct gateway *gateway, struct MHD_Connection *connection)
{
    struct gateway_call *call = gateway_allocate(1, sizeof *call);

    call->gateway = gateway;
    call->connection = connection;
    call->peer = gateway_peer_of(connection);
    call->peer->call = call;
    call->begin_ns = gateway_now_ns();
    call->wait_index = GATEWAY_NOT_WAITING;
    gateway->in_flight++;
    return call;
}

/* What is beyond the limit is read and dropped, so that the caller can be told. */
static void take(struct gateway_call *call, const char *upload, size_t bytes)
{
    struct gateway *gateway = call->gateway;

    if (call->body.length + bytes > BODY_MAX || gateway->body_bytes + bytes > TOTAL_MAX)
        call->is_too_large = true;
    if (call->is_too_large)
        return;
    gateway_text_bytes(&call->body, upload, bytes);
    gateway->body_bytes += bytes;
}

static void plan(struct gateway_call *call, const char *method, const char *url)
{
    call->is_planned = true;
    if (strcmp(url, "/v1/messages") != 0)
        gateway_control(call, method, url);
    else if (strcmp(method, "POST") != 0)
        gateway_reply_error(call, 405, "Method Not Allowed: /v1/messages takes POST");
    else
        gateway_messages(call);
}

enum MHD_Result gateway_on_request(void *gateway, struct MHD_Connection *connection, const char *url,
                                   const char *method, const char *version, const char *upload,
                                   size_t *upload_bytes, void **closure)
{
    struct gateway_call *call = *closure;

    (void)version;
    if (call == NULL) {
        *closure = begin(gateway, connection);
        return MHD_YES;
    }
    if (*upload_bytes > 0) {
        take(call, upload, *upload_bytes);
        *upload_bytes = 0;
        return MHD_YES;
    }
    if (!call->is_planned)
        plan(call, method, url);
    return gateway_play(call);
}

void gateway_on_completed(void *closure, struct MHD_Connection *connection, void **call_closure,
                          enum MHD_RequestTerminationCode code)
{
    struct gateway *gateway = closure;
    struct gateway_call *call = *call_closure;

    (void)connection;
    if (call == NULL)
        return;
    *call_closure = NULL;
    call->peer->call = NULL;
    if (call->is_message) {
        gateway->served++;
        gateway_messages_log(call, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
        gateway_request_free(&call->request);
    }
    gateway->in_flight--;
    gateway->body_bytes -= call->body.length;
    gateway_answer_free(&call->answer);
    gateway_script_free(&call->script);
    gateway_text_free(&call->body);
    free(call);
}
