/* plan: the names and built-in limits of guardrails, the built-in plan, and hashes to see whether an edit changed either. */
#include "server/plan.h"
#include "client/flagshm.h"

#include <string.h>

#define HOUR_NS        UINT64_C(3600000000000)
#define WATCH_NS       (72 * HOUR_NS)
#define OVERDUE_NS     UINT64_C(60000000000)
#define DRILL_EVERY_NS (7 * 24 * HOUR_NS)
#define GRACE_NS       (24 * HOUR_NS)
#define ABSOLUTE_OVER  UINT64_C(300000000000)
#define ABSOLUTE_USERS 5
#define ALPHA          0.01

/* Shares of calls, milliseconds, tokens. A weight of 0: the kind only holds. */
static const struct {
    const char *name;
    struct flagshm_limit hold, rollback;
    double weight;
} kinds[FLAGSHM_GUARD_KINDS] = {
    [FLAGSHM_GUARD_ERROR_RATE] = {"error_rate", {.delta = 0.001}, {.ratio = 2, .min_delta = 0.002}, 0.4},
    [FLAGSHM_GUARD_JSON_VALID] = {"json_valid",
                                  {.ratio = 1.5, .min_delta = 0.003},
                                  {.ratio = 3, .min_delta = 0.01},
                                  0.2},
    [FLAGSHM_GUARD_LATENCY_P95] = {"latency_p95",
                                   {.ratio = 1.25, .min_delta = 500},
                                   {.ratio = 1.5, .min_delta = 2000},
                                   0.2},
    [FLAGSHM_GUARD_TOKENS_TOTAL] = {"tokens_total", {.ratio = 1.2}, {.ratio = 2}, 0.2},
    [FLAGSHM_GUARD_TOKENS_OUT] = {"tokens_out", {.ratio = 1.2}, {.ratio = 2}, 0.2},
    [FLAGSHM_GUARD_LOST] = {"lost", {.ratio = 1.5, .min_delta = 0.003}, {0}, 0},
    [FLAGSHM_GUARD_SCHEMA_VALID] = {"schema_valid", {.ratio = 1.5, .min_delta = 0.003}, {0}, 0},
    [FLAGSHM_GUARD_TOOL_VALID] = {"tool_valid", {.ratio = 1.5, .min_delta = 0.003}, {0}, 0},
    [FLAGSHM_GUARD_REFUSAL] = {"refusal", {.ratio = 1.5, .min_delta = 0.003}, {0}, 0},
    [FLAGSHM_GUARD_TRUNCATED] = {"truncated", {.ratio = 1.5, .min_delta = 0.003}, {0}, 0},
    [FLAGSHM_GUARD_EMPTY] = {"empty", {.ratio = 1.5, .min_delta = 0.003}, {0}, 0},
    [FLAGSHM_GUARD_TTFT_P95] = {"ttft_p95", {.ratio = 1.5, .min_delta = 300}, {0}, 0},
    [FLAGSHM_GUARD_THUMBS_DOWN] = {"thumbs_down", {.ratio = 1.3}, {0}, 0},
    [FLAGSHM_GUARD_RETRY] = {"retry", {.ratio = 1.3}, {0}, 0},
    [FLAGSHM_GUARD_SUPPORT_CONTACT] = {"support_contact", {.ratio = 1.3}, {0}, 0},
    [FLAGSHM_GUARD_CUSTOM] = {"custom", {.ratio = 1.3}, {0}, 0},
};

const char *flagshm_guard_name(enum flagshm_guard_kind kind)
{
    return (unsigned)kind < FLAGSHM_GUARD_KINDS ? kinds[kind].name : "";
}

struct flagshm_guardrail flagshm_guardrail_default(enum flagshm_guard_kind kind)
{
    struct flagshm_guardrail guardrail = {
        .kind = kind,
        .weight = kinds[kind].weight,
        .has_rollback = kinds[kind].weight > 0,
        .has_hold = true,
        .rollback = kinds[kind].rollback,
        .hold = kinds[kind].hold,
        .absolute_over_ns = ABSOLUTE_OVER,
        .absolute_min_users = ABSOLUTE_USERS,
    };

    return guardrail;
}

void flagshm_guards_default(struct flagshm_guards *guards)
{
    uint32_t i;

    memset(guards, 0, sizeof *guards);
    guards->is_default = true;
    for (i = 0; i < 4; i++)
        guards->list[i] = flagshm_guardrail_default((enum flagshm_guard_kind)i);
    guards->count = 4;
}

void flagshm_guards_add(struct flagshm_guards *guards, enum flagshm_guard_kind kind)
{
    struct flagshm_guardrail *added = &guards->list[guards->count];
    uint32_t i;

    for (i = 0; i < guards->count; i++)
        if (guards->list[i].kind == kind)
            return;
    if (guards->count == FLAGSHM_GUARDRAILS_MAX)
        return;
    *added = flagshm_guardrail_default(kind);
    added->has_rollback = false;
    added->weight = 0;
    guards->count++;
}

void flagshm_plan_default(struct flagshm_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    plan->mode = FLAGSHM_MODE_GUARD;
    plan->watch_ns = WATCH_NS;
    plan->overdue_ns = OVERDUE_NS;
    plan->drill_every_ns = DRILL_EVERY_NS;
    plan->no_data_grace_ns = GRACE_NS;
    plan->no_data = FLAGSHM_NO_DATA_HOLD;
    plan->alpha = ALPHA;
}

/* ---- hashes ---- */

struct mix {
    unsigned char bytes[4096];
    size_t used;
};

static void mix_number(struct mix *mix, uint64_t number)
{
    unsigned i;

    for (i = 0; i < 8 && mix->used < sizeof mix->bytes; i++)
        mix->bytes[mix->used++] = (unsigned char)(number >> 8 * i);
}

static void mix_double(struct mix *mix, double number)
{
    uint64_t bits;

    number = number == 0 ? 0 : number; /* -0 is 0 */
    memcpy(&bits, &number, sizeof bits);
    mix_number(mix, bits);
}

static void mix_text(struct mix *mix, const char *text, size_t room)
{
    size_t bytes = strnlen(text, room);

    mix_number(mix, bytes);
    if (mix->used + bytes <= sizeof mix->bytes) {
        memcpy(mix->bytes + mix->used, text, bytes);
        mix->used += bytes;
    }
}

static uint64_t mix_end(const struct mix *mix)
{
    uint64_t hash = flagshm_hash64_((const char *)mix->bytes, mix->used, 0);

    return hash != 0 ? hash : 1;
}

uint64_t flagshm_plan_hash(const struct flagshm_plan *plan)
{
    struct mix mix = {.used = 0};
    uint32_t i;

    mix_number(&mix, plan->step_count);
    for (i = 0; i < plan->step_count; i++) {
        const struct flagshm_plan_step *step = &plan->steps[i];

        mix_number(&mix, step->mpct);
        mix_number(&mix, step->min_users);
        mix_number(&mix, step->hold_ns);
        mix_number(&mix, (uint64_t)step->is_shadow | (uint64_t)step->needs_approval << 1);
    }
    mix_number(&mix, (uint64_t)plan->mode);
    mix_number(&mix, plan->watch_ns);
    mix_number(&mix, plan->overdue_ns);
    mix_number(&mix, plan->drill_every_ns);
    mix_number(&mix, plan->no_data_grace_ns);
    mix_number(&mix, (uint64_t)plan->no_data);
    mix_number(&mix, plan->window.is_set);
    mix_text(&mix, plan->window.tz, sizeof plan->window.tz);
    mix_number(&mix, plan->window.days);
    mix_number(&mix, (uint64_t)plan->window.from_minute << 16 | plan->window.to_minute);
    mix_double(&mix, plan->alpha);
    for (i = 0; i < FLAGSHM_GUARD_KINDS; i++)
        mix_double(&mix, plan->prove[i]);
    mix_number(&mix, plan->holdback_mpct);
    mix_number(&mix, plan->notify_count);
    for (i = 0; i < plan->notify_count; i++)
        mix_text(&mix, plan->notify[i], sizeof plan->notify[i]);
    return mix_end(&mix);
}

static void mix_limit(struct mix *mix, const struct flagshm_limit *limit)
{
    mix_double(mix, limit->ratio);
    mix_double(mix, limit->delta);
    mix_double(mix, limit->min_delta);
    mix_double(mix, limit->drop);
}

uint64_t flagshm_guards_hash(const struct flagshm_guards *guards)
{
    struct mix mix = {.used = 0};
    uint32_t i;

    mix_number(&mix, guards->count);
    mix_number(&mix, guards->is_default);
    for (i = 0; i < guards->count; i++) {
        const struct flagshm_guardrail *g = &guards->list[i];

        mix_number(&mix, (uint64_t)g->kind << 8 | g->custom_index);
        mix_text(&mix, g->name, sizeof g->name);
        mix_number(&mix, (uint64_t)g->is_observed | (uint64_t)g->has_rollback << 1 |
                             (uint64_t)g->has_hold << 2 | (uint64_t)g->has_absolute << 3);
        mix_double(&mix, g->weight);
        mix_limit(&mix, &g->rollback);
        mix_limit(&mix, &g->hold);
        mix_double(&mix, g->absolute_max);
        mix_number(&mix, g->absolute_over_ns);
        mix_number(&mix, g->absolute_min_users);
    }
    return mix_end(&mix);
}
