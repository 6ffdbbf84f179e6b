/* sim_world: simulated rollouts through the real arithmetic: users call, the client's own flagshm_record books what became of each call, the
 * server's own functions prepare, open and clear the slot, and the judge judges. Only the clock, the users and the model that answers are made up.
 *
 * From event to event: the next call or the next end of a call; nothing ticks. The judge looks after each failure of the variant, after what
 * else adds to the evidence against it, each five minutes at most, and each ten minutes. All randomness comes from a seed.
 */
#ifndef FLAGSHM_TESTS_SIM_WORLD_H
#define FLAGSHM_TESTS_SIM_WORLD_H

#include "server/evidence.h"
#include "server/outcomes.h"
#include "sim_random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIM_SECOND      UINT64_C(1000000000)
#define SIM_MINUTE      (60 * SIM_SECOND)
#define SIM_HOUR        (3600 * SIM_SECOND)
#define SIM_DAY         (24 * SIM_HOUR)
#define SIM_STAGES      8
#define SIM_SHADOW_MPCT 10000u

/* ---- a world ---- */

struct sim_user {
    uint64_t id_hash;
    uint32_t bucket; /* 0...99999 */
    float errors;    /* chance that a call of control fails */
    float scale;     /* of its tokens and latencies */
};

struct sim_stage {
    uint32_t mpct;
    uint64_t hold_ns;
};

struct sim;
struct sim_world {
    const char *name, *says;
    uint32_t users; /* 0: each call has an id of its own */
    double calls_a_day;
    struct sim_stage stages[SIM_STAGES];
    double error;                    /* base rate; 0: 1 % */
    double harm;                     /* times as many errors in the variant; 0: 1 */
    double heavy_users, heavy_error; /* a share of users with another rate */
    double bot_traffic, bot_error;   /* user 0 */
    double orgs;                     /* exponent: user k calls 1/(k+1)^orgs as often; 0: all alike */
    unsigned retries; /* of a call that failed, at once, each failing as likely as `retry_error` */
    double retry_error;
    double day_swing;       /* the base rate moves by this factor over the day */
    uint64_t outages[2][2]; /* from, to, since each stage's begin: both arms fail with chance outage_depth */
    double outage_depth;
    double latency_ms, variant_latency; /* median; the variant's, times as much; 0: 800 ms, 1 */
    double error_latency_ms;            /* of a call that fails; 0: as others */
    double variant_use;                 /* the variant is called so many times as often */
    unsigned forced;    /* users whom the force list sends to the variant, and whose calls all fail */
    bool is_alone;      /* only errors are judged: one guardrail */
    bool is_even;       /* four guardrails at even weights */
    bool is_lean;       /* no STARTED, no JSON, no tokens: for figures of errors only */
    bool has_arm_cells; /* the negative control: each arm has cells of its own */
    bool is_shadow;     /* nobody has the variant; calls of a tenth of the users are shadowed */
    bool goes_on;       /* after the roll-back until the other rules have acted too, or the stage ends */
};

struct sim_result {
    bool is_rolled_back, is_significant, is_breaker, is_srm;
    uint32_t guard, significant; /* which one; all that were significant, as bits */
    uint32_t stage;
    uint64_t after_ns; /* since the stage began */
    /* Of the stage until then: users, where each calls once. Without those of its wash-in, unless the others are watched, who have none. */
    uint64_t variant_calls;
    bool naive, flagger, argo, requests; /* what others would have done */
    uint64_t naive_users, flagger_users, argo_users;
};

struct sim_pending {
    uint64_t at_ns;
    uint32_t user, generation;
    uint8_t arm, tries;
    bool is_call; /* a retry that begins */
    bool has_slot;
    struct flagshm_outcome outcome;
};

struct sim {
    const struct sim_world *world;
    struct sim_random random;
    struct sim_user *users;
    double *until; /* cumulative weights, where users differ */
    uint32_t user_count, user_room;
    struct sim_pending *pending; /* a heap */
    size_t pending_count, pending_room;
    /* the client */
    struct flagshm fs;
    struct flagshm_map_ map;
    struct flagshm_outcomes_map_ outcomes_map;
    struct flagshm_header header;
    /* the server */
    struct flagshm_outcomes_file file;
    volatile sig_atomic_t is_torn;
    struct flagshm_slot_form form;
    struct flagshm_slot_counts counts;
    struct flagshm_evidence evidence;
    struct flagshm_evidence_look look;
    struct flagshm_plan plan;
    struct flagshm_guards guards;
    struct flagshm_verdict verdict;
    uint32_t generation;
    uint64_t now_ns, opened_ns, stage_ns;
    uint64_t thresholds[FLAGSHM_SIGNALS_MAX];
    bool is_open, breaks;
    /* other rules: calls and failures of the stage by arm; of this minute; of these five */
    uint64_t calls[2], failed[2], minute[2], five[2], events[2];
    uint64_t minute_ns, five_ns;
    unsigned flagger_failures, argo_failures;
    uint64_t looks;
    uint32_t risen;
};

/* ---- the segment ---- */

static bool sim_open(struct sim *s)
{
    size_t bytes = sizeof(struct flagshm_outcomes) + 2 * sizeof(struct flagshm_slot);
    void *memory;

    memset(s, 0, sizeof *s);
    s->file.fd = memfd_create("sim", MFD_CLOEXEC);
    if (s->file.fd < 0 || ftruncate(s->file.fd, (off_t)bytes) != 0)
        return false;
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->file.fd, 0);
    if (memory == MAP_FAILED)
        return false;
    s->file.segment = memory;
    s->file.is_torn_ = &s->is_torn;
    s->header.outcomes_id = 1;
    s->map.segment = (const unsigned char *)&s->header;
    s->outcomes_map.segment = memory;
    s->outcomes_map.segment_id = 1;
    s->fs.map_ = &s->map;
    s->fs.outcomes_ = &s->outcomes_map;
    s->pending_room = 1u << 16;
    s->pending = malloc(s->pending_room * sizeof *s->pending);
    return s->pending != NULL;
}

static void sim_close(struct sim *s)
{
    if (s->file.segment != NULL)
        (void)munmap(s->file.segment, sizeof(struct flagshm_outcomes) + 2 * sizeof(struct flagshm_slot));
    (void)close(s->file.fd);
    free(s->pending);
    free(s->users);
    free(s->until);
}

static struct flagshm_slot *sim_slot(const struct sim *s, uint32_t slot)
{
    return flagshm_slot_at_(s->file.segment, slot);
}

/* ---- users ---- */

static void sim_new_user(struct sim *s, struct sim_user *u)
{
    const struct sim_world *w = s->world;

    u->id_hash = sim_next(&s->random);
    u->bucket = (uint32_t)(sim_next(&s->random) % 100000);
    u->errors = (float)(w->error > 0 ? w->error : 0.01);
    if (w->heavy_users > 0 && sim_chance(&s->random, w->heavy_users))
        u->errors = (float)w->heavy_error;
    u->scale = w->is_lean ? 1 : (float)exp(0.5 * sim_normal(&s->random));
}

static bool sim_make_users(struct sim *s)
{
    uint32_t count = s->world->users != 0 ? s->world->users : 1, i;
    double sum = 0;

    if (count > s->user_room) {
        free(s->users);
        free(s->until);
        s->users = malloc(count * sizeof *s->users);
        s->until = malloc(count * sizeof *s->until);
        s->user_room = count;
    }
    if (s->users == NULL || s->until == NULL)
        return false;
    s->user_count = count;
    for (i = 0; i < count; i++) {
        sim_new_user(s, &s->users[i]);
        sum += s->world->orgs > 0 ? pow(i + 1, -s->world->orgs) : 1;
        s->until[i] = sum;
    }
    if (s->world->bot_traffic > 0)
        s->users[0].errors = (float)s->world->bot_error;
    return true;
}

static uint32_t sim_pick(struct sim *s)
{
    uint32_t low = 0, high = s->user_count - 1;
    double at;

    if (s->world->users == 0) {
        sim_new_user(s, &s->users[0]);
        return 0;
    }
    if (s->world->bot_traffic > 0 && sim_chance(&s->random, s->world->bot_traffic))
        return 0;
    if (!(s->world->orgs > 0))
        return (uint32_t)(sim_next(&s->random) % s->user_count);
    at = sim_unit(&s->random) * s->until[s->user_count - 1];
    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (s->until[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* ---- calls under way ---- */

static void sim_push(struct sim *s, const struct sim_pending *p)
{
    size_t at = s->pending_count;

    if (at == s->pending_room) {
        fprintf(stderr, "sim: too many calls under way\n");
        exit(1);
    }
    s->pending_count++;
    while (at > 0 && s->pending[(at - 1) / 2].at_ns > p->at_ns) {
        s->pending[at] = s->pending[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    s->pending[at] = *p;
}

static struct sim_pending sim_pop(struct sim *s)
{
    struct sim_pending top = s->pending[0], last = s->pending[--s->pending_count];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < s->pending_count && s->pending[child + 1].at_ns < s->pending[child].at_ns)
            child++;
        if (child >= s->pending_count || s->pending[child].at_ns >= last.at_ns)
            break;
        s->pending[at] = s->pending[child];
        at = child;
    }
    s->pending[at] = last;
    return top;
}

static struct flagshm_decision sim_decision(const struct sim *s, uint32_t generation, uint64_t id_hash,
                                            uint32_t arm)
{
    struct flagshm_decision d;

    d.slot = s->world->has_arm_cells ? arm : 0;
    d.slot_generation = generation;
    d.arm = arm;
    d.id_hash = id_hash;
    d.reason = FLAGSHM_SPLIT;
    d.rollout_mpct = (uint32_t)(s->look.q * 100000 + 0.5);
    d.bucket = arm != 0 ? 0 : d.rollout_mpct;
    d.shadow = false;
    return d;
}

/* What becomes of a call that begins now, and what it is like. */
static struct flagshm_outcome sim_outcome(struct sim *s, const struct sim_user *u, uint32_t arm,
                                          unsigned tries)
{
    const struct sim_world *w = s->world;
    double chance = tries != 0 && w->retries != 0 ? w->retry_error : (double)u->errors;
    double latency = w->latency_ms > 0 ? w->latency_ms : 800, since = (double)(s->now_ns - s->stage_ns);
    struct flagshm_outcome o;
    unsigned i;

    memset(&o, 0, sizeof o);
    if (w->day_swing > 0) /* sqrt(swing) up and down, by the hour */
        chance *=
            exp(0.5 * log(w->day_swing) * sin(2 * 3.14159265358979 * (double)s->now_ns / (double)SIM_DAY));
    if (arm == 1 && w->harm > 0)
        chance *= w->harm;
    for (i = 0; i < 2; i++)
        if (w->outages[i][1] != 0 && since >= (double)w->outages[i][0] && since < (double)w->outages[i][1])
            chance = 1 - (1 - chance) * (1 - w->outage_depth);
    o.http_status = sim_chance(&s->random, chance) ? 500 : 200;
    if (!w->is_lean)
        latency *= (double)u->scale * exp(0.4 * sim_normal(&s->random));
    if (arm == 1 && w->variant_latency > 0)
        latency *= w->variant_latency;
    if (o.http_status != 200 && w->error_latency_ms > 0)
        latency = w->error_latency_ms;
    o.latency_ns = (uint64_t)(latency * 1e6);
    if (w->is_lean)
        return o;
    o.json_checked = true;
    o.json_valid = !sim_chance(&s->random, 0.005);
    o.input_tokens = (uint64_t)(900 * (double)u->scale * exp(0.5 * sim_normal(&s->random)));
    o.output_tokens = o.input_tokens / 3;
    return o;
}

static void sim_call(struct sim *s, uint32_t user, unsigned tries)
{
    struct sim_user *u = &s->users[user];
    uint32_t arm = u->bucket < (uint32_t)(s->look.q * 100000 + 0.5);
    bool is_forced = user < s->world->forced;
    struct sim_pending p = {.user = user,
                            .generation = s->generation,
                            .arm = (uint8_t)(is_forced ? 1 : arm),
                            .tries = (uint8_t)tries};

    p.outcome = sim_outcome(s, u, arm, tries);
    if (is_forced)
        p.outcome.http_status = 500;
    p.has_slot = !is_forced; /* TARGETING_MATCH carries no slot */
    /* an id that is used once is gone by the time that its call ends: no latency */
    p.at_ns = s->now_ns + (s->world->users != 0 ? p.outcome.latency_ns : 0);
    if (p.has_slot && !s->world->is_lean) {
        struct flagshm_decision d = sim_decision(s, s->generation, u->id_hash, arm);
        const struct flagshm_outcome started = {.event = FLAGSHM_STARTED};

        (void)flagshm_record(&s->fs, &d, &started);
    }
    sim_push(s, &p);
}

#endif
