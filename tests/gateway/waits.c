/* waits: calls that wait for their time. See gateway.h. */
#include "tests/gateway/gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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
        waits->calls = realloc(waits->calls, waits->capacity * sizeof(struct gateway_call *));
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

void gateway_wait_end(struct gateway_call *call)
{
    call->is_gone = true;
    resume(&call->gateway->waits, call->wait_index);
}

void gateway_waits_end_all(struct gateway *gateway)
{
    while (gateway->waits.count > 0)
        gateway_wait_end(gateway->waits.calls[0]);
}
