/* flag: one feature flag as the server understands it, after checking and before compiling.
 *
 * Plain data. Strings live in the arena of the set that holds the flag; they end in NUL and their lengths
 * stand beside them where they may hold any byte but NUL. Shares are whole thousandths of a percent (mpct).
 */
#ifndef FLAGSHM_SERVER_FLAG_H
#define FLAGSHM_SERVER_FLAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flagshm_plan;
struct flagshm_guards;

#define FLAGSHM_MPCT_FULL    100000u       /* 100 % */
#define FLAGSHM_VALUE_MAX    (64u * 1024u) /* bytes of an arm's value, white space taken out */
#define FLAGSHM_MODEL_MAX    127u          /* bytes; the client's field is 128 with its NUL */
#define FLAGSHM_ARM_NAME_MAX 31u
#define FLAGSHM_SALT_MAX     64u
#define FLAGSHM_ARMS_MAX     8u    /* control and at most seven variants */
#define FLAGSHM_FORCE_MAX    1000u /* ids in all arms of a flag */
#define FLAGSHM_WEIGHT_MAX   1000000u

enum flagshm_identity { FLAGSHM_IDENTITY_USER, FLAGSHM_IDENTITY_ORG, FLAGSHM_IDENTITY_SESSION };

struct flagshm_arm {
    const char *name;  /* "control", "variant", or the key in "variants" */
    const char *model; /* "" where the value names none */
    size_t model_bytes;
    const char *value; /* a string's text, or the object's bytes without insignificant white space */
    size_t value_bytes;
    uint64_t value_hash;  /* flagshm_hash64 of value */
    uint64_t fingerprint; /* of the value with its keys sorted: equal meaning, equal fingerprint */
    uint32_t weight;      /* 1 for control and for a lone variant */
};

struct flagshm_force {
    const char *id;
    size_t id_bytes;
    uint32_t arm;
};

struct flagshm_flag {
    const char *name;
    size_t name_bytes;
    const char *salt;
    size_t salt_bytes;
    const char *description, *owner, *created, *expires; /* NULL where absent; dates as YYYY-MM-DD */
    enum flagshm_identity identity;
    bool enabled;
    uint32_t rollout_mpct; /* what the file says: the share, or the cap beside a plan */
    bool has_rollout;      /* a "rollout" object stands there and is sound */
    bool has_guardrails;
    /* server/plan.h, with the file's defaults and ours filled in; of a flag without "rollout" it has no steps, and flags may share
     * it. NULL: broken, or several variants, which nobody guards. guards->count is 0 where "guardrails": [] refuses. */
    const struct flagshm_plan *plan;
    const struct flagshm_guards *guards;
    bool has_on_stale; /* the file says what a silent server means; else it hangs on how the flag is served */
    bool on_stale_control;    /* "on_stale": "control" */
    struct flagshm_arm *arms; /* arm_count of them; [0] is control; NULL where the entry is broken */
    uint32_t arm_count;
    struct flagshm_force *force;
    uint32_t force_count;

    const char *text; /* the flag's own object as it stands in the source, for "last good" and for history */
    size_t text_bytes;
    size_t offset;                        /* where that text begins in the file */
    size_t rollout_offset, rollout_bytes; /* the number after "rollout_pct"; bytes 0 where absent */
    size_t enabled_offset, enabled_bytes; /* the literal after "enabled"; bytes 0 where absent */
};

#endif
