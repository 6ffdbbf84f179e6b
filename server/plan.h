/* plan: how a share rises by itself, and what is watched while it does: the flag file's "rollout" and "guardrails" after checking, with
 * every default filled in. Plain data; no pointers, so that it can be copied, compared and kept in a journal.
 */
#ifndef FLAGSHM_SERVER_PLAN_H
#define FLAGSHM_SERVER_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#define FLAGSHM_CANARY_MPCT 10000u /* up to here a step is a canary: few users, few are waited for */

#define FLAGSHM_STEPS_MAX      32u
#define FLAGSHM_GUARDRAILS_MAX 8u
#define FLAGSHM_NOTIFY_MAX     16u

enum flagshm_plan_mode {                       /* what the server may do by itself */
                         FLAGSHM_MODE_OBSERVE, /* judge and say what it would do; change nothing */
                         FLAGSHM_MODE_GUARD,   /* only ever lower the share */
                         FLAGSHM_MODE_AUTO
};

enum flagshm_no_data { FLAGSHM_NO_DATA_HOLD, FLAGSHM_NO_DATA_ADVANCE, FLAGSHM_NO_DATA_ROLLBACK };

struct flagshm_plan_step {
    uint32_t mpct;      /* of users in the variant; of users whose calls are shadowed where is_shadow */
    uint32_t min_users; /* of a shadow step: pairs */
    uint64_t hold_ns;
    bool is_shadow, needs_approval;
};

struct flagshm_plan_window { /* when the share may rise */
    bool is_set;
    char tz[64];
    uint8_t days;                    /* bit 0: monday */
    uint16_t from_minute, to_minute; /* since midnight */
};

/* By the order of the names in the file format: see flagshm_guard_name. */
enum flagshm_guard_kind {
    FLAGSHM_GUARD_ERROR_RATE,
    FLAGSHM_GUARD_JSON_VALID,
    FLAGSHM_GUARD_LATENCY_P95,
    FLAGSHM_GUARD_TOKENS_TOTAL,
    FLAGSHM_GUARD_TOKENS_OUT,
    FLAGSHM_GUARD_LOST,
    FLAGSHM_GUARD_SCHEMA_VALID,
    FLAGSHM_GUARD_TOOL_VALID,
    FLAGSHM_GUARD_REFUSAL,
    FLAGSHM_GUARD_TRUNCATED,
    FLAGSHM_GUARD_EMPTY,
    FLAGSHM_GUARD_TTFT_P95,
    FLAGSHM_GUARD_THUMBS_DOWN,
    FLAGSHM_GUARD_RETRY,
    FLAGSHM_GUARD_SUPPORT_CONTACT,
    FLAGSHM_GUARD_CUSTOM,
    FLAGSHM_GUARD_KINDS
};

/* How far the variant must be off; 0: that limit is not set. Shares of calls are 0...1, times ms, tokens as they come. */
struct flagshm_limit {
    double ratio, delta, min_delta, drop;
};

struct flagshm_guardrail {
    enum flagshm_guard_kind kind;
    uint8_t custom_index;
    char name[32];    /* of a custom one, else "" */
    bool is_observed; /* mode "observe": said, never acted upon */
    double weight;    /* of alpha; the weights of those that roll back sum to 1 at most */
    bool has_rollback, has_hold, has_absolute;
    struct flagshm_limit rollback, hold;
    double absolute_max;
    uint64_t absolute_over_ns;
    uint32_t absolute_min_users;
};

struct flagshm_guards {
    uint32_t count;  /* 0: the flag is not guarded */
    bool is_default; /* "default": those of whose outcomes none arrive may be left out */
    struct flagshm_guardrail list[FLAGSHM_GUARDRAILS_MAX];
};

struct flagshm_plan {
    uint32_t
        step_count; /* 0: no plan; the file's share is served, and the flag's default guard (mode guard) goes by the rest */
    struct flagshm_plan_step steps[FLAGSHM_STEPS_MAX];
    enum flagshm_plan_mode mode;
    uint64_t watch_ns, overdue_ns, drill_every_ns, no_data_grace_ns;
    enum flagshm_no_data no_data;
    struct flagshm_plan_window window;
    double alpha;
    double prove[FLAGSHM_GUARD_KINDS]; /* ratio that must be ruled out above 10 %; 0: none */
    uint32_t holdback_mpct;
    uint32_t notify_count;
    char notify[FLAGSHM_NOTIFY_MAX][65];
};

/* "error_rate" ... "custom"; "" for what is none. */
const char *flagshm_guard_name(enum flagshm_guard_kind kind);
/* The limits that a kind has where the file says none, with the weight that it has in the default set. */
struct flagshm_guardrail flagshm_guardrail_default(enum flagshm_guard_kind kind);
/* "default": error_rate, json_valid, latency_p95 and tokens_total. */
void flagshm_guards_default(struct flagshm_guards *guards);
/* The default set also takes up to four of the other kinds, those whose outcomes arrive: adds one where there is room. It never
 * rolls back, so the weights stay. */
void flagshm_guards_add(struct flagshm_guards *guards, enum flagshm_guard_kind kind);
/* No steps, and the built-in default of all else. */
void flagshm_plan_default(struct flagshm_plan *plan);

/* Equal meaning, equal hash, on every machine: of each field, not of bytes between them. Never 0. */
uint64_t flagshm_plan_hash(const struct flagshm_plan *plan);
uint64_t flagshm_guards_hash(const struct flagshm_guards *guards);

#endif
