/* peers: callers that leave. See gateway.h.
 *
 * A suspended connection is in no epoll set. And libmicrohttpd 0.9.75 waits for the next edge after a short read: a caller whose last
 * bytes and whose end arrived together, with a request half sent, would stay for ever. So all that do not write are looked at in turn.
 */
#include "tests/gateway/gateway.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#define CHECK_EVERY_NS UINT64_C(100000000)

struct gateway_peer *gateway_peer_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

void gateway_on_connection(void *closure, struct MHD_Connection *connection, void **context,
                           enum MHD_ConnectionNotificationCode code)
{
    struct gateway *gateway = closure;
    struct gateway_peer *peer = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        peer = gateway_allocate(1, sizeof *peer);
        peer->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        peer->next = gateway->peers;
        if (peer->next != NULL)
            peer->next->previous = peer;
        gateway->peers = peer;
        *context = peer;
        return;
    }
    if (peer == NULL)
        return;
    if (peer->next != NULL)
        peer->next->previous = peer->previous;
    if (peer->previous != NULL)
        peer->previous->next = peer->next;
    else
        gateway->peers = peer->next;
    free(peer);
}

static bool has_left(const struct gateway_peer *peer)
{
    struct pollfd fd = {.fd = peer->fd, .events = POLLRDHUP};

    return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void gateway_peers_check(struct gateway *gateway, uint64_t now_ns)
{
    struct gateway_peer *peer;

    if (now_ns < gateway->peers_checked_ns + CHECK_EVERY_NS)
        return;
    gateway->peers_checked_ns = now_ns;
    for (peer = gateway->peers; peer != NULL; peer = peer->next) {
        bool is_waiting = peer->call != NULL && peer->call->wait_index != GATEWAY_NOT_WAITING;
        bool is_reading = peer->call == NULL || !peer->call->is_planned;

        if ((!is_waiting && !is_reading) || !has_left(peer))
            continue;
        if (is_waiting)
            gateway_wait_end(peer->call);
        else
            (void)shutdown(peer->fd, SHUT_RDWR); /* an edge: libmicrohttpd reads the end now */
    }
}

uint64_t gateway_next_ns(const struct gateway *gateway)
{
    uint64_t next_ns = GATEWAY_FOREVER;

    if (gateway->peers != NULL)
        next_ns = gateway->peers_checked_ns + CHECK_EVERY_NS;
    if (gateway->waits.count > 0 && gateway->waits.calls[0]->due_ns < next_ns)
        next_ns = gateway->waits.calls[0]->due_ns;
    return next_ns;
}
