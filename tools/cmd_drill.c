/* drill: is the way back open, and how fast? By default a hidden flag is fed failing outcomes until the server takes it back: nobody is
 * touched, and all is real: booking, judging, publishing, reading. With --live the flag itself goes to 0 % for a moment.
 *
 * The hidden flag's failures are booked one by one, with time for the server in between: the last one before the flip is then the one
 * that proved the harm.
 */
#include "server/clock.h"
#include "tools/change.h"
#include "tools/connect.h"
#include "tools/rollout_ask.h"
#include "tools/wait.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_NS  UINT64_C(10000000000) /* then it has failed */
#define TABLE_NS     UINT64_C(3000000000)  /* the hidden flag comes with the next publish */
#define BACK_NS      UINT64_C(5000000000)  /* the server promises 2 s */
#define PACE_NS      UINT64_C(40000000)    /* many times what a roll-back takes */
#define FINE_FIRST   60 /* control's calls before the first failure: it must be seen to be well */
#define FINE_EACH    4  /* and beside each failure */
#define FAILURES_MAX 2000
#define IDS_MAX      3000000 /* to find one of 0.001 % */

struct drill { /* one run */
    const char *flag;
    struct flagshm *client;
    char hidden[65];       /* the hidden flag's name; "": live */
    uint64_t begin_ns;     /* when it was asked for */
    uint64_t booked_ns;    /* when the last outcome was about to be booked */
    uint64_t took_ns;      /* of the way back */
    unsigned failures, id; /* booked; the next id's number */
    char failure[512];     /* why it has failed; "" where not */
    cJSON *result;
};

static void id_next(struct drill *d, char id[64])
{
    (void)snprintf(id, 64, "drill-%ld-%llu-%u", (long)getpid(), (unsigned long long)d->begin_ns, d->id++);
}

/* ---- the hidden flag ---- */

static int book(struct flagctl *ctl, struct drill *d, const struct flagshm_decision *decision, bool is_fine)
{
    struct flagshm_outcome outcome = {.event = FLAGSHM_STARTED};
    int code = flagshm_record(d->client, decision, &outcome);

    outcome = (struct flagshm_outcome){
        .event = FLAGSHM_FINISHED, .http_status = is_fine ? 200 : 500, .latency_ns = 1000000, .attempts = 1};
    d->booked_ns = flagshm_mono_ns();
    if (code == 0)
        code = flagshm_record(d->client, decision, &outcome);
    if (code == 0)
        return FLAGCTL_OK;
    return flagctl_fail(
        ctl, FLAGCTL_UNREACHABLE,
        "%s: nothing can be booked, so nothing is drilled: %s\n"
        "run as root or as one of those who book (flagshmd --group); what is wrong: flagctl doctor",
        d->flag, strerror(-code));
}

/* Until the table has the hidden flag, and a slot for it. */
static int wait_for_hidden(struct flagctl *ctl, struct drill *d)
{
    uint64_t end = flagshm_mono_ns() + TABLE_NS;
    struct flagshm_decision decision;
    char id[64];

    id_next(d, id);
    for (;;) {
        uint64_t version = flagshm_version(d->client);

        if (flagshm_decide(d->client, d->hidden, id, &decision) == FLAGSHM_SPLIT &&
            decision.slot != FLAGSHM_NO_SLOT)
            return FLAGCTL_OK;
        if (flagshm_mono_ns() >= end)
            break;
        (void)flagshm_wait(d->client, version, 50);
    }
    return flagctl_fail(ctl, FLAGCTL_FAILED,
                        decision.reason == FLAGSHM_SPLIT
                            ? "%s: the hidden flag %s got no slot to book in: flagctl doctor"
                            : "%s: the hidden flag %s does not come into the table: flagctl doctor",
                        d->flag, d->hidden);
}

/* The next id that gets that arm. */
static bool find_arm(struct drill *d, bool is_variant, char id[64], struct flagshm_decision *decision)
{
    int tries;

    for (tries = 0; tries < 1000; tries++) {
        id_next(d, id);
        if (flagshm_decide(d->client, d->hidden, id, decision) != FLAGSHM_SPLIT)
            return false;
        if ((decision->arm != 0) == is_variant)
            return true;
    }
    return false;
}

/* Decides for an id of the variant until it gets control, for at most PACE_NS. */
static bool wait_for_flip(struct drill *d, const char *id)
{
    struct flagshm_decision decision;
    uint64_t now;

    do {
        enum flagshm_reason reason = flagshm_decide(d->client, d->hidden, id, &decision);

        now = flagshm_mono_ns();
        if (decision.arm == 0 && reason == FLAGSHM_DISABLED) {
            d->took_ns = now - d->booked_ns;
            return true;
        }
        (void)sched_yield(); /* the server may need this processor */
    } while (now - d->booked_ns < PACE_NS);
    return false;
}

static int book_fine(struct flagctl *ctl, struct drill *d, unsigned count)
{
    struct flagshm_decision decision;
    int code = FLAGCTL_OK;
    char id[64];

    while (count-- > 0 && code == FLAGCTL_OK && find_arm(d, false, id, &decision))
        code = book(ctl, d, &decision, true);
    return code;
}

static int feed_hidden(struct flagctl *ctl, struct drill *d)
{
    struct flagshm_decision decision;
    bool is_back = false;
    char id[64];
    int code = book_fine(ctl, d, FINE_FIRST);

    while (code == FLAGCTL_OK && !is_back && d->failures < FAILURES_MAX &&
           flagshm_mono_ns() - d->begin_ns < PATIENCE_NS) {
        if ((code = book_fine(ctl, d, FINE_EACH)) != FLAGCTL_OK)
            break;
        if (!find_arm(d, true, id, &decision))
            break;
        if ((code = book(ctl, d, &decision, false)) != FLAGCTL_OK)
            break;
        d->failures++;
        is_back = wait_for_flip(d, id);
    }
    if (code == FLAGCTL_OK && !is_back)
        (void)snprintf(d->failure, sizeof d->failure,
                       "%u failed calls of the variant were booked, and it was not taken back within %.1f s",
                       d->failures, (double)(flagshm_mono_ns() - d->begin_ns) / 1e9);
    return code;
}

static int drill_hidden(struct flagctl *ctl, struct drill *d, const cJSON *answer)
{
    int code;

    (void)snprintf(d->hidden, sizeof d->hidden, "%.64s", flagctl_text_at(answer, "hidden"));
    if (d->hidden[0] == '\0')
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s: the server names no hidden flag to drill with",
                            d->flag);
    code = wait_for_hidden(ctl, d);
    return code == FLAGCTL_OK ? feed_hidden(ctl, d) : code;
}

/* ---- the real one ---- */

struct live {
    struct flagshm *client;
    const char *flag;
    char id[64];         /* of the variant */
    uint64_t flipped_ns; /* when it first got control; 0: not yet */
    bool is_over;
};

static void *watch_live(void *context)
{
    struct live *live = context;
    struct flagshm_decision decision;

    while (!__atomic_load_n(&live->is_over, __ATOMIC_ACQUIRE)) {
        (void)flagshm_decide(live->client, live->flag, live->id, &decision);
        if (decision.arm == 0) {
            __atomic_store_n(&live->flipped_ns, flagshm_mono_ns(), __ATOMIC_RELEASE);
            break;
        }
        (void)sched_yield();
    }
    return NULL;
}

static int find_live(struct flagctl *ctl, struct drill *d, struct live *live)
{
    struct flagshm_decision decision;
    unsigned tries;

    live->client = d->client;
    live->flag = d->flag;
    for (tries = 0; tries < IDS_MAX; tries++) {
        enum flagshm_reason reason;

        id_next(d, live->id);
        reason = flagshm_decide(d->client, d->flag, live->id, &decision);
        if (decision.arm != 0)
            return FLAGCTL_OK;
        if (reason != FLAGSHM_SPLIT)
            break;
    }
    if (decision.reason == FLAGSHM_FLAG_NOT_FOUND)
        return flagctl_no_such_flag(ctl, d->flag);
    return flagctl_fail(
        ctl, FLAGCTL_FAILED,
        "%s: nobody has the variant now (%s), so there is nothing to take away: drill it without "
        "--live",
        d->flag, flagshm_reason_name(decision.reason));
}

static bool wait_for_share(const struct live *live)
{
    uint64_t end = flagshm_mono_ns() + BACK_NS;
    struct flagshm_decision decision;

    do {
        uint64_t version = flagshm_version(live->client);

        (void)flagshm_decide(live->client, live->flag, live->id, &decision);
        if (decision.arm != 0)
            return true;
        (void)flagshm_wait(live->client, version, 50);
    } while (flagshm_mono_ns() < end);
    return false;
}

/* ---- both ---- */

static cJSON *request_of(const struct drill *d)
{
    cJSON *request = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(request, "flag", d->flag);
    return request;
}

/* Tells the server how it went; it also ends the drill there. */
static int end(struct flagctl *ctl, const struct drill *d)
{
    cJSON *request = request_of(d), *answer = NULL;
    int code;

    (void)cJSON_AddNumberToObject(request, "ns", (double)d->took_ns);
    (void)cJSON_AddBoolToObject(request, "failed", d->failure[0] != '\0');
    if (d->hidden[0] != '\0')
        (void)cJSON_AddStringToObject(request, "hidden", d->hidden);
    code = flagctl_ask(ctl, "drill_end", request, false, &answer);
    cJSON_Delete(answer);
    return code;
}

static int drill_live(struct flagctl *ctl, struct drill *d)
{
    struct live live = {.flipped_ns = 0};
    cJSON *request, *answer = NULL;
    pthread_t thread;
    uint64_t deadline;
    int code = find_live(ctl, d, &live);

    if (code != FLAGCTL_OK)
        return code;
    if (pthread_create(&thread, NULL, watch_live, &live) != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "no thread to watch the flag with: nothing is drilled");
    request = request_of(d);
    (void)cJSON_AddTrueToObject(request, "live");
    d->begin_ns = flagshm_mono_ns();
    code = flagctl_ask(ctl, "drill", request, false, &answer);
    deadline = d->begin_ns + PATIENCE_NS;
    while (code == FLAGCTL_OK && __atomic_load_n(&live.flipped_ns, __ATOMIC_ACQUIRE) == 0 &&
           flagshm_mono_ns() < deadline)
        (void)usleep(200);
    __atomic_store_n(&live.is_over, true, __ATOMIC_RELEASE);
    (void)pthread_join(thread, NULL);
    cJSON_Delete(answer);
    if (code != FLAGCTL_OK)
        return code;
    if (live.flipped_ns == 0)
        (void)snprintf(d->failure, sizeof d->failure, "it still gave the variant after %.0f s",
                       (double)PATIENCE_NS / 1e9);
    else
        d->took_ns = live.flipped_ns - d->begin_ns;
    code = end(ctl, d);
    if (code == FLAGCTL_OK && d->failure[0] == '\0' && !wait_for_share(&live))
        (void)snprintf(d->failure, sizeof d->failure,
                       "it went to 0 %%, but its share has not come back after %.0f s: flagctl status %s",
                       (double)BACK_NS / 1e9, d->flag);
    return code;
}

static int tell(struct flagctl *ctl, struct drill *d)
{
    bool is_live = d->hidden[0] == '\0', has_failed = d->failure[0] != '\0';
    double ms = (double)d->took_ns / 1e6;

    if (ctl->is_json) {
        (void)cJSON_AddStringToObject(d->result, "flag", d->flag);
        (void)cJSON_AddBoolToObject(d->result, "live", is_live);
        (void)cJSON_AddBoolToObject(d->result, "failed", has_failed);
        if (d->took_ns != 0)
            (void)cJSON_AddNumberToObject(d->result, "ms", ms);
        else
            (void)cJSON_AddNullToObject(d->result, "ms");
        if (!is_live)
            (void)cJSON_AddStringToObject(d->result, "hidden", d->hidden);
        if (!is_live)
            (void)cJSON_AddNumberToObject(d->result, "failures", d->failures);
        if (has_failed)
            (void)cJSON_AddStringToObject(d->result, "why", d->failure);
        (void)flagctl_result(ctl, d->result);
        d->result = NULL;
        return has_failed ? FLAGCTL_TRIPPED : FLAGCTL_OK;
    }
    if (has_failed)
        return flagctl_fail(ctl, FLAGCTL_TRIPPED,
                            "%s: the way back FAILED: %s\nwhat is wrong: flagctl doctor", d->flag,
                            d->failure);
    if (is_live)
        (void)fprintf(
            ctl->out,
            "%s: the way back took %.3f ms, from the request to the first decision for control; its share "
            "is back\n",
            d->flag, ms);
    else
        (void)fprintf(
            ctl->out,
            "%s: the way back took %.3f ms: record, judge, publish, read (hidden flag %s, %u failed "
            "calls; nobody was touched)\n",
            d->flag, ms, d->hidden, d->failures);
    return FLAGCTL_OK;
}

static int drill_run(struct flagctl *ctl, int argc, char **argv)
{
    struct drill d = {.flag = argv[0], .begin_ns = flagshm_mono_ns()};
    cJSON *request, *answer = NULL;
    int code = flagctl_flag_name(ctl, d.flag);

    (void)argc;
    if (code != FLAGCTL_OK || (code = flagctl_open(ctl, &d.client)) != FLAGCTL_OK)
        return code;
    if (flagctl_option(ctl, "live") != NULL) {
        code = drill_live(ctl, &d);
    } else {
        request = request_of(&d);
        (void)cJSON_AddFalseToObject(request, "live");
        code = flagctl_ask(ctl, "drill", request, false, &answer);
        if (code == FLAGCTL_OK)
            code = drill_hidden(ctl, &d, answer);
        if (code == FLAGCTL_OK)
            code = end(ctl, &d);
    }
    cJSON_Delete(answer);
    if (code == FLAGCTL_OK) {
        d.result = cJSON_CreateObject();
        code = tell(ctl, &d);
    }
    cJSON_Delete(d.result);
    return code;
}

static const struct flagctl_option drill_options[] = {
    {"live", 0, NULL, FLAGCTL_NOTHING, "take the flag itself to 0 % for a moment, at most 2 s"},
    {0},
};

const struct flagctl_command flagctl_drill_command = {
    .name = "drill",
    .group = "Ask the server",
    .arguments = "FLAG",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "try the way back, and measure how long it takes",
    .help =
        "A hidden flag is made beside this one and fed failing calls until the server takes it back: the "
        "time "
        "from the outcome\n"
        "that proves the harm to the first decision for control is told, and kept with the flag (list shows "
        "flags that were not\n"
        "drilled for 7 days). Nobody is touched. It books, so it is for root and the group of those who "
        "book.\n"
        "With --live the flag itself goes to 0 %: the time from the request to the first decision for "
        "control; "
        "then its share\n"
        "comes back, after 2 s at the latest, whatever happens to this command or to the server.\n\n"
        "Exit codes: 3 the way back does not work (not within 10 s, or the share did not come back), 4 no "
        "such "
        "flag, 5 no server,\n"
        "1 not permitted or refused.\n\n"
        "JSON: {\"flag\", \"live\", \"failed\", \"ms\" (or null), \"hidden\", \"failures\" (calls), \"why\", "
        "\"warnings\": []}; hidden,\n"
        "  failures and why where they apply",
    .options = drill_options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = drill_run,
};
