/* waits: calls that wait for their time, and callers that leave meanwhile: a suspended connection is in no epoll set. See gateway.h. */
#include "tests/gateway/gateway.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PEERS_EVERY_NS UINT64_C(100000000)

uint64_t gateway_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void place(struct gateway_waits *waits, size_t index, struct gateway_call *call)
{
    waits->calls[index] = call;
    call->wait_index = index;
}

static void sift_up(struct gateway_waits *waits, size_t index)
{
    struct gateway_call *call = waits->calls[index];

    while (index > 0 && waits->calls[(index - 1) / 2]->due_ns > call->due_ns) {
        place(waits, index, waits->calls[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    place(waits, index, call);
}

static void sift_down(struct gateway_waits *waits, size_t index)
{
    struct gateway_call *call = waits->calls[index];
    size_t child;

    for (child = 2 * index + 1; child < waits->count; child = 2 * index + 1) {
        if (child + 1 < waits->count && waits->calls[child + 1]->due_ns < waits->calls[child]->due_ns)
            child++;
        if (waits->calls[child]->due_ns >= call->due_ns)
            break;
        place(waits, index, waits->calls[child]);
        index = child;
    }
    place(waits, index, call);
}

static void resume(struct gateway_waits *waits, size_t index)
{
    struct gateway_call *call = waits->calls[index];
    struct gateway_call *last = waits->calls[--waits->count];

    call->wait_index = GATEWAY_NOT_WAITING;
    if (last != call) {
        place(waits, index, last);
        sift_down(waits, index);
        sift_up(waits, last->wait_index);
    }
    MHD_resume_connection(call->connection);
}

void gateway_wait(struct gateway_call *call, uint64_t due_ns)
{
    struct gateway_waits *waits = &call->gateway->waits;

    if (waits->count == waits->capacity) {
        waits->capacity = waits->capacity == 0 ? 64 : 2 * waits->capacity;
        waits->calls = realloc(waits->calls, waits->capacity * sizeof *waits->calls);
        if (waits->calls == NULL) {
            (void)fputs("flagshm_gateway: out of memory\n", stderr);
            exit(1);
        }
    }
    call->due_ns = due_ns;
    waits->calls[waits->count] = call;
    sift_up(waits, waits->count++);
    MHD_suspend_connection(call->connection);
}

void gateway_waits_resume_due(struct gateway *gateway, uint64_t now_ns)
{
    struct gateway_waits *waits = &gateway->waits;

    while (waits->count > 0 && waits->calls[0]->due_ns <= now_ns)
        resume(waits, 0);
}

static bool has_left(const struct gateway_call *call)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct pollfd peer = {.fd = info->connect_fd, .events = POLLRDHUP};

    return poll(&peer, 1, 0) > 0 && (peer.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void gateway_waits_check_peers(struct gateway *gateway, uint64_t now_ns)
{
    struct gateway_waits *waits = &gateway->waits;
    size_t i = waits->count;

    if (!gateway->is_ending && now_ns < waits->peers_checked_ns + PEERS_EVERY_NS)
        return;
    waits->peers_checked_ns = now_ns;
    while (i-- >
           0) { /* what moves into the place of one that goes comes from behind, or is looked at next time */
        if (i < waits->count && (gateway->is_ending || has_left(waits->calls[i]))) {
            waits->calls[i]->is_gone = true;
            resume(waits, i);
        }
    }
}

uint64_t gateway_waits_next_ns(const struct gateway *gateway)
{
    const struct gateway_waits *waits = &gateway->waits;
    uint64_t check_ns = waits->peers_checked_ns + PEERS_EVERY_NS;

    if (waits->count == 0)
        return GATEWAY_FOREVER;
    return waits->calls[0]->due_ns < check_ns ? waits->calls[0]->due_ns : check_ns;
}
