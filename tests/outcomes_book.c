/* outcomes_book: a client that books calls, for tests of what shows them.
 *
 *     outcomes_book FLAG[,FLAG...] COUNT [KEY=VALUE...]
 * Call n, from 0 on, is of user-(n % ids); of several flags, each user calls them all in turn. Keys:
 *   ids=N            users (COUNT)                  flags=N       FLAG0 ... FLAGN-1 in turn, instead of FLAG
 *   status=N         HTTP status (200)              per_s=N       calls a second (0: as fast as it goes)
 *   variant_fail_every=N  the same, of the variant's calls alone     lasts_ms=N  goes on for so long, whatever COUNT is
 *   variant_status=N variant_latency_ms=N variant_unfinished=1 (its calls begin and never end)
 *   fail_every=N     each N-th call gets 500 (0)    latency_ms=N ttft_ms=N input=N output=N attempts=N
 *   started=0        without FLAGSHM_STARTED        unfinished=N  the last N calls do not end
 *   json=valid|invalid   refusal=1   truncated=1   empty=1   cancelled=1   shadow=1 (a shadow call where one is wanted)
 * Prints "ARM CALLS" for each arm that calls were booked under. Exit code 1 where one could not be booked.
 */
#include "client/flagshm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FLAGS_MAX 32

struct booking {
    char *named[FLAGS_MAX];
    long named_count;
    long count, ids, flags, per_s, fail_every, unfinished, variant_fail_every, variant_calls, lasts_ms;
    bool is_started, has_shadow, is_variant_unfinished;
    uint32_t variant_status;
    uint64_t variant_latency_ns;
    struct flagshm_outcome outcome;
};

static bool read_key(struct booking *b, const char *word)
{
    const char *equals = strchr(word, '=');
    size_t length = equals != NULL ? (size_t)(equals - word) : 0;
    long number = equals != NULL ? atol(equals + 1) : 0;
    struct flagshm_outcome *o = &b->outcome;

#define IS(key) (length == sizeof(key) - 1 && memcmp(word, key, length) == 0)
    if (IS("ids"))
        b->ids = number;
    else if (IS("flags"))
        b->flags = number;
    else if (IS("per_s"))
        b->per_s = number;
    else if (IS("fail_every"))
        b->fail_every = number;
    else if (IS("variant_fail_every"))
        b->variant_fail_every = number;
    else if (IS("variant_status"))
        b->variant_status = (uint32_t)number;
    else if (IS("variant_latency_ms"))
        b->variant_latency_ns = (uint64_t)number * 1000000u;
    else if (IS("variant_unfinished"))
        b->is_variant_unfinished = number != 0;
    else if (IS("lasts_ms"))
        b->lasts_ms = number;
    else if (IS("unfinished"))
        b->unfinished = number;
    else if (IS("started"))
        b->is_started = number != 0;
    else if (IS("shadow"))
        b->has_shadow = number != 0;
    else if (IS("status"))
        o->http_status = (uint32_t)number;
    else if (IS("latency_ms"))
        o->latency_ns = (uint64_t)number * 1000000u;
    else if (IS("ttft_ms"))
        o->ttft_ns = (uint64_t)number * 1000000u;
    else if (IS("input"))
        o->input_tokens = (uint64_t)number;
    else if (IS("output"))
        o->output_tokens = (uint64_t)number;
    else if (IS("attempts"))
        o->attempts = (uint32_t)number;
    else if (IS("json"))
        o->json_checked = true, o->json_valid = strcmp(equals, "=valid") == 0;
    else if (IS("refusal"))
        o->refusal = number != 0;
    else if (IS("truncated"))
        o->truncated = number != 0;
    else if (IS("empty"))
        o->empty = number != 0;
    else if (IS("cancelled"))
        o->cancelled = number != 0;
    else
        return false;
#undef IS
    return true;
}

static void become_variant(struct booking *b, struct flagshm_outcome *outcome)
{
    b->variant_calls++;
    if (b->variant_status > 0)
        outcome->http_status = b->variant_status;
    if (b->variant_fail_every > 0 && b->variant_calls % b->variant_fail_every == 0)
        outcome->http_status = 500;
    if (b->variant_latency_ns > 0)
        outcome->latency_ns = b->variant_latency_ns;
}

/* A slot that was taken for others meanwhile is no fault: the next decision carries the one of now. */
static int book(struct booking *b, struct flagshm *fs, long n, struct flagshm_decision *d)
{
    struct flagshm_outcome outcome = b->outcome, started = {.event = FLAGSHM_STARTED};
    char id[40], flag[FLAGSHM_NAME_MAX + 1];
    int code = 0;

    (void)snprintf(id, sizeof id, "user-%ld", n / b->named_count % b->ids);
    if (b->flags > 0)
        (void)snprintf(flag, sizeof flag, "%s%ld", b->named[0], n % b->flags);
    else
        (void)snprintf(flag, sizeof flag, "%s", b->named[n % b->named_count]);
    (void)flagshm_decide(fs, flag, id, d);
    if (d->slot == FLAGSHM_NO_SLOT)
        return 0;
    if (b->is_started)
        code = flagshm_record(fs, d, &started);
    if (b->fail_every > 0 && n % b->fail_every == 0)
        outcome.http_status = 500;
    if (d->arm > 0)
        become_variant(b, &outcome);
    if (code == 0 && (b->lasts_ms > 0 || n < b->count - b->unfinished) &&
        !(d->arm > 0 && b->is_variant_unfinished))
        code = flagshm_record(fs, d, &outcome);
    if (code == 0 && b->has_shadow && d->shadow)
        code = flagshm_record_shadow(fs, d, &outcome, &outcome);
    return code == -ESTALE && b->lasts_ms > 0 ? 0 : code;
}

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

int main(int argc, char **argv)
{
    struct booking b = {.is_started = true, .outcome = {.http_status = 200}};
    struct flagshm_decision d;
    struct flagshm fs;
    char names[8][32] = {""}, *name;
    long arms[8] = {0}, n;
    uint64_t until_ms;
    int code, i;

    if (argc < 3)
        return 2;
    for (name = strtok(argv[1], ","); name != NULL && b.named_count < FLAGS_MAX; name = strtok(NULL, ","))
        b.named[b.named_count++] = name;
    if (b.named_count == 0)
        return 2;
    b.count = b.ids = atol(argv[2]);
    for (i = 3; i < argc; i++)
        if (!read_key(&b, argv[i])) {
            (void)fprintf(stderr, "outcomes_book: %s?\n", argv[i]);
            return 2;
        }
    code = flagshm_open(&fs, NULL);
    until_ms = now_ms() + (uint64_t)b.lasts_ms;
    for (n = 0; (b.lasts_ms > 0 ? now_ms() < until_ms : n < b.count) && code == 0; n++) {
        code = book(&b, &fs, n, &d);
        if (code == 0 && d.slot != FLAGSHM_NO_SLOT) {
            arms[d.arm % 8]++;
            memcpy(names[d.arm % 8], d.arm_name, sizeof names[0]);
        }
        if (b.per_s > 0 && n % (b.per_s / 100 + 1) == 0) {
            struct timespec pause = {0, (b.per_s / 100 + 1) * 1000000000 / b.per_s};
            (void)nanosleep(&pause, NULL);
        }
    }
    for (i = 0; i < 8; i++)
        if (arms[i] != 0)
            printf("%s %ld\n", names[i], arms[i]);
    if (code != 0)
        (void)fprintf(stderr, "outcomes_book: %s\n", strerror(-code));
    flagshm_close(&fs);
    return code == 0 ? 0 : 1;
}
