/* assign: arms for very many ids by one flag of one version, eight MD5s at a time.
 *
 * A plan is a private copy of what deciding needs, so that all ids of a run are decided by one table. The answers are those of
 * flagshm_decide bit for bit; a test holds the two against each other.
 */
#ifndef FLAGSHM_TOOLS_ASSIGN_H
#define FLAGSHM_TOOLS_ASSIGN_H

#include "client/flagshm.h"
#include "server/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ASSIGN_LANES 8
#define ASSIGN_BATCH 128 /* ids handled in one go; their blocks (8 or 16 KiB) stay in the first cache */
#define ASSIGN_SLACK 8   /* bytes that may be read behind an id */

struct assign_arm {
    char name[32], model[128];
    uint32_t weight_end;
};

struct assign_plan {
    uint64_t version;
    bool is_control; /* everyone gets control: switched off, killed, rolled back, or stale */
    bool is_hashed;  /* else `static_arm`, but for forced ids */
    uint32_t static_arm, rollout_mpct, weight_sum, arm_count, force_count;
    struct assign_arm arms[8];
    struct flagshm_force_id *force; /* sorted; owned */
    struct flagshm_md5_prefix_ prefix;
};

struct assign_id {
    const unsigned char *bytes; /* ASSIGN_SLACK more can be read */
    uint32_t length;            /* at most FLAGSHM_ID_MAX */
    uint32_t arm;               /* the answer */
};

/* Copies the flag from the served table. 0; -ENOENT: no such flag; -EBADMSG: damaged, or it never stood still; -ENOMEM. */
int assign_plan_take(struct assign_plan *plan, struct flagshm *fs, const char *flag,
                     struct flagshm_error *error);
void assign_plan_free(struct assign_plan *plan);

/* Decides for at most ASSIGN_BATCH ids. */
void assign_decide(const struct assign_plan *plan, struct assign_id *ids, size_t count);

/* MD5's compression of one more block for ASSIGN_LANES messages. `blocks`: word k of lane l at [k * ASSIGN_LANES + l], 16 words, 32-byte
 * aligned; `states`: the chaining states, 4 words likewise, moved on. */
void assign_md5_lanes(const uint32_t *blocks, uint32_t *states);

#endif
