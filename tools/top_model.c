/* top_model: see top_model.h. */
#include "tools/top_model.h"
#include "tools/connect.h"
#include "tools/rollout_view.h"
#include "tools/wait.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REFERENCE_S          30 /* how often a new one is taken */
#define SAMPLE_S             0.95
#define ROLLOUTS_S           5
#define ROLLOUTS_PATIENCE_MS 200
#define UNIT_MS              (65536.0 / 1e6) /* of times in histograms */

/* ---- the table ---- */

static const struct flagshm_header *header_of(const struct top *top)
{
    const struct flagshm_map_ *map = __atomic_load_n(&top->client->map_, __ATOMIC_ACQUIRE);

    return map != NULL ? (const struct flagshm_header *)(const void *)map->segment : NULL;
}

static bool is_current(const struct top *top)
{
    const struct flagshm_header *h = header_of(top);

    return top->has_snapshot && h != NULL && flagshm_version(top->client) == top->snapshot.version &&
           ((flagshm_load64_(&h->seq) ^ top->snapshot.header.seq) & FLAGSHM_SEQ_SWITCHES) == 0;
}

static int by_name(const void *a, const void *b)
{
    const struct top_flag *left = a, *right = b;
    return strcmp(left->served->name, right->served->name);
}

static void share_arms(struct top_flag *flag, uint32_t served_mpct)
{
    const struct flagshm_snapshot_flag *s = flag->served;
    double sum = 0, share = served_mpct / 1000.0;
    uint32_t i;

    for (i = 1; i < s->arm_count; i++)
        sum += s->arms[i].weight;
    for (i = 0; i < flag->arm_count; i++) {
        struct top_arm *arm = &flag->arms[i];
        bool is_shadow = i >= s->arm_count;

        (void)flagctl_clean(is_shadow ? "shadow" : s->arms[i].name, arm->name, sizeof arm->name);
        arm->model = is_shadow ? s->arms[s->arm_count > 1].model : s->arms[i].model;
        arm->share_pct = is_shadow ? s->shadow_mpct / 1000.0
                         : i == 0  ? 100 - share
                         : sum > 0 ? share * s->arms[i].weight / sum
                                   : 0;
    }
}

/* The flags of a new table that have a slot; what is known of them so far goes on. */
static bool take_table(struct top *top, struct flagshm_snapshot *snapshot)
{
    struct top_flag *flags = calloc(snapshot->count + 1, sizeof *flags);
    size_t count = 0, i, k;

    if (flags == NULL)
        return false;
    for (i = 0; i < snapshot->count; i++) {
        const struct flagshm_snapshot_flag *served = &snapshot->flags[i];
        struct top_flag *flag = &flags[count], key = {.served = served}, *old;
        uint32_t arms = served->arm_count < 8 ? served->arm_count + (served->shadow_mpct != 0) : 8;

        if (served->slot >= FLAGSHM_SLOTS || served->slot_generation == 0 || arms == 0 ||
            count == FLAGSHM_SLOTS)
            continue;
        flag->served = served;
        flag->generation = served->slot_generation;
        flag->arm_count = arms;
        old = top->count > 0 ? bsearch(&key, top->flags, top->count, sizeof key, by_name) : NULL;
        if (old != NULL && old->arms != NULL && old->arm_count == arms) {
            flag->arms = old->arms; /* its curve goes on, also in another slot */
            old->arms = NULL;
            flag->is_known = old->is_known && old->generation == flag->generation;
            flag->is_tainted = flag->is_known && old->is_tainted;
        } else if ((flag->arms = calloc(arms, sizeof *flag->arms)) == NULL) {
            continue;
        }
        share_arms(flag, flagctl_served(snapshot, served).mpct);
        count++;
    }
    for (k = 0; k < top->count; k++)
        free(top->flags[k].arms);
    free(top->flags);
    top->flags = flags;
    top->count = count;
    if (top->has_snapshot)
        flagshm_snapshot_free(&top->snapshot);
    top->snapshot = *snapshot;
    top->has_snapshot = true;
    return true;
}

static void look_at_table(struct top *top)
{
    struct flagshm_error error = {""};
    struct flagshm_snapshot snapshot;

    (void)flagshm_version(top->client); /* follows a new segment */
    top->age_ns = flagshm_age_ns(top->client);
    if (is_current(top))
        return;
    if (flagshm_snapshot_take(&snapshot, top->client, &error) != 0)
        (void)snprintf(top->fault, sizeof top->fault, "the table cannot be read: %.400s", error.text);
    else if (!take_table(top, &snapshot))
        flagshm_snapshot_free(&snapshot);
}

/* ---- the segment ---- */

static bool holds(const struct flagctl_outcomes *file, uint64_t wanted)
{
    struct flagshm_outcomes header;

    if (file->fd < 0)
        return false;
    flagctl_outcomes_header(file, &header);
    return header.magic == FLAGSHM_OUTCOMES_MAGIC && header.segment_id == wanted;
}

static bool look_at_segment(struct top *top)
{
    const struct flagshm_header *h = header_of(top);
    uint64_t wanted = h != NULL ? flagshm_load64_(&h->outcomes_id) : 0;
    int code;

    if (wanted == 0) {
        (void)snprintf(top->fault, sizeof top->fault,
                       "nothing is recorded: the server has no outcome segment; why, says flagctl stats");
        return false;
    }
    if (holds(&top->file, wanted))
        return true;
    flagctl_outcomes_close(&top->file);
    code = flagctl_outcomes_open(&top->file, &top->ctl->instance);
    if (code == -EACCES)
        (void)snprintf(top->fault, sizeof top->fault,
                       "%s may not be read by this user: join its group (ls -l), or run as root",
                       top->file.path);
    else if (code != 0)
        (void)snprintf(top->fault, sizeof top->fault,
                       "%s: %s; the server makes a new one within seconds, or says "
                       "why not: flagctl stats",
                       top->file.path, code == -EPERM ? "no regular file" : strerror(-code));
    else if (!holds(&top->file, wanted))
        (void)snprintf(top->fault, sizeof top->fault,
                       "%s is another segment than the table names: the server makes "
                       "a new one within seconds",
                       top->file.path);
    else
        return true;
    flagctl_outcomes_close(&top->file);
    return false;
}

/* ---- the counters ---- */

static uint64_t tokens_of(const uint64_t n[FLAGSHM_COUNTERS])
{
    return n[FLAGSHM_N_INPUT_TOKENS] + n[FLAGSHM_N_OUTPUT_TOKENS] + n[FLAGSHM_N_CACHE_TOKENS];
}

static void sum_minute(const struct top *top, struct top_arm *arm)
{
    double seconds = 0;
    unsigned i;

    memset(&arm->minute, 0, sizeof arm->minute);
    for (i = 0; i < TOP_SAMPLES; i++) {
        unsigned at = (top->head - i) % TOP_SAMPLES;

        if (top->sample_s[at] <= 0 || (i > 0 && seconds + top->sample_s[at] > TOP_MINUTE_S + 0.5))
            return;
        seconds += top->sample_s[at];
        arm->minute.calls += arm->samples[at].calls;
        arm->minute.failed += arm->samples[at].failed;
        arm->minute.tokens += arm->samples[at].tokens;
    }
}

static void judge_latency(struct top_arm *arm, const uint64_t now[FLAGSHM_HISTOGRAM_BUCKETS], unsigned oldest)
{
    uint64_t since[FLAGSHM_HISTOGRAM_BUCKETS];
    uint32_t i;

    for (i = 0; i < FLAGSHM_HISTOGRAM_BUCKETS; i++)
        since[i] = (uint32_t)((uint32_t)now[i] - arm->references[oldest][i]);
    arm->latency_count = flagshm_histogram_count(since);
    arm->p50_ms = flagshm_histogram_quantile(since, 0.50) * UNIT_MS;
    arm->p95_ms = flagshm_histogram_quantile(since, 0.95) * UNIT_MS;
}

static void refer(struct top_arm *arm, const uint64_t now[FLAGSHM_HISTOGRAM_BUCKETS], unsigned number)
{
    uint32_t i;

    for (i = 0; i < FLAGSHM_HISTOGRAM_BUCKETS; i++)
        arm->references[number][i] = (uint32_t)now[i];
}

/* `renewed`: the reference that is to be taken now; TOP_REFERENCES: none. `oldest`: the one to compare with. */
static void read_arm(struct top *top, struct top_flag *flag, uint32_t number, unsigned renewed,
                     unsigned oldest)
{
    struct top_arm *arm = &flag->arms[number];
    struct top_sample *sample = &arm->samples[top->head];
    struct flagshm_arm_counts counts;
    unsigned i;

    flagctl_outcomes_arm(&top->file, flag->served->slot, number, &counts);
    arm->calls = arm->failed = 0;
    if (!flag->is_known) {
        for (i = 0; i < TOP_REFERENCES; i++)
            refer(arm, counts.histograms[FLAGSHM_H_LATENCY], i);
    } else if (flagshm_counts_are_tainted(arm->n, counts.n)) {
        flag->is_tainted = true;
    } else {
        arm->calls = counts.n[FLAGSHM_N_FINISHED] - arm->n[FLAGSHM_N_FINISHED];
        arm->failed = counts.n[FLAGSHM_N_FAILED] - arm->n[FLAGSHM_N_FAILED];
        sample->calls += arm->calls;
        sample->failed += arm->failed;
        sample->tokens += tokens_of(counts.n) - tokens_of(arm->n);
    }
    memcpy(arm->n, counts.n, sizeof arm->n);
    judge_latency(arm, counts.histograms[FLAGSHM_H_LATENCY], oldest);
    if (renewed < TOP_REFERENCES)
        refer(arm, counts.histograms[FLAGSHM_H_LATENCY], renewed);
    sum_minute(top, arm);
}

static void read_flag(struct top *top, struct top_flag *flag, unsigned renewed, unsigned oldest)
{
    uint64_t calls = 0, tokens = 0, minute_calls = 0, failed = 0;
    uint32_t i;

    flag->p95_ms = 0;
    if (flagctl_outcomes_generation(&top->file, flag->served->slot) != flag->generation) {
        for (i = 0; i < flag->arm_count; i++)
            flag->arms[i].calls = flag->arms[i].failed = 0;
        flag->calls_per_s = 0;
        return;
    }
    for (i = 0; i < flag->arm_count; i++) {
        const struct top_arm *arm = &flag->arms[i];

        read_arm(top, flag, i, renewed, oldest);
        calls += arm->calls;
        failed += arm->failed;
        minute_calls += arm->minute.calls;
        tokens += arm->minute.tokens;
        if (arm->p95_ms > flag->p95_ms)
            flag->p95_ms = arm->p95_ms;
    }
    flag->is_known = true;
    flag->calls_per_s = top->interval_s > 0 ? (double)calls / top->interval_s : 0;
    flag->error_rate = calls > 0 ? (double)failed / (double)calls : 0;
    flag->tokens = minute_calls > 0 ? (double)tokens / (double)minute_calls : 0;
    top->calls_per_s += flag->calls_per_s;
    top->errors_per_s += top->interval_s > 0 ? (double)failed / top->interval_s : 0;
}

/* Begins another sample where the one at the head is a second long. */
static void turn_samples(struct top *top)
{
    size_t i;
    uint32_t k;

    if (top->sample_s[top->head] >= SAMPLE_S) {
        top->head = (top->head + 1) % TOP_SAMPLES;
        top->sample_s[top->head] = 0;
        for (i = 0; i < top->count; i++)
            for (k = 0; k < top->flags[i].arm_count; k++)
                memset(&top->flags[i].arms[k].samples[top->head], 0, sizeof(struct top_sample));
    }
    top->sample_s[top->head] += top->interval_s;
}

/* An answer that is late, or does not come, must not make the screen stutter. */
static void ask_server(struct top *top, double now)
{
    if (top->asked_s > 0 && now < top->asked_s + ROLLOUTS_S)
        return;
    top->asked_s = now;
    cJSON_Delete(top->rollouts);
    top->rollouts = top_is_stale(top) ? NULL : flagctl_rollouts_peek(top->ctl, NULL, ROLLOUTS_PATIENCE_MS);
}

void top_read(struct top *top)
{
    unsigned renewed = TOP_REFERENCES, oldest = 0, newest = 0, i;
    double now = flagctl_now();
    size_t k;

    top->fault[0] = '\0';
    look_at_table(top);
    ask_server(top, now);
    top->calls_per_s = top->errors_per_s = 0;
    if (!look_at_segment(top))
        return;
    top->interval_s = top->read_s > 0 ? now - top->read_s : 0;
    top->read_s = now;
    if (top->interval_s > 0)
        turn_samples(top);
    for (i = 1; i < TOP_REFERENCES; i++) {
        if (top->reference_s[i] < top->reference_s[oldest])
            oldest = i;
        if (top->reference_s[i] > top->reference_s[newest])
            newest = i;
    }
    if (now - top->reference_s[newest] >= REFERENCE_S) {
        renewed = oldest;
        top->reference_s[oldest] = now;
    }
    for (k = 0; k < top->count; k++)
        read_flag(top, &top->flags[k], renewed, oldest);
}

bool top_sample(const struct top *top, const struct top_arm *arm, unsigned back, double *calls_per_s,
                uint64_t *failed)
{
    unsigned at = (top->head - back) % TOP_SAMPLES;

    *calls_per_s = 0;
    *failed = 0;
    if (back >= TOP_SAMPLES || top->sample_s[at] <= 0)
        return false;
    *calls_per_s = (double)arm->samples[at].calls / top->sample_s[at];
    *failed = arm->samples[at].failed;
    return true;
}

bool top_is_stale(const struct top *top)
{
    return top->has_snapshot &&
           (top->age_ns < 0 || (uint64_t)top->age_ns > top->snapshot.header.stale_after_ns);
}

/* ---- begin and end ---- */

int top_open(struct top *top, struct flagctl *ctl)
{
    int code;

    memset(top, 0, sizeof *top);
    top->ctl = ctl;
    top->file.fd = -1;
    code = flagctl_open(ctl, &top->client);
    if (code != FLAGCTL_OK)
        return code;
    top_read(top);
    if (top->fault[0] == '\0')
        return FLAGCTL_OK;
    code = flagctl_fail(ctl, FLAGCTL_UNREACHABLE, "%s", top->fault);
    top_close(top);
    return code;
}

void top_close(struct top *top)
{
    size_t i;

    for (i = 0; i < top->count; i++)
        free(top->flags[i].arms);
    free(top->flags);
    cJSON_Delete(top->rollouts);
    flagctl_outcomes_close(&top->file);
    if (top->has_snapshot)
        flagshm_snapshot_free(&top->snapshot);
    memset(top, 0, sizeof *top);
    top->file.fd = -1;
}
