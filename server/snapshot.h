/* snapshot: a private, whole copy of the table that is served now, in words that people use.
 *
 * For tools and for a server that adopts a table. The bytes are as hostile as for any client: each offset and
 * length is checked, what makes no sense is left out and counted. Strings live in the snapshot and end in NUL.
 */
#ifndef FLAGSHM_SERVER_SNAPSHOT_H
#define FLAGSHM_SERVER_SNAPSHOT_H

#include "client/flagshm.h"
#include "server/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flagshm_snapshot_arm {
    const char *name, *model, *value;
    uint32_t value_bytes;
    uint32_t weight; /* 0 for control */
    uint64_t value_hash, fingerprint;
};

struct flagshm_snapshot_flag {
    const char *name, *stage;
    const char *salt;  /* the hash prefix without its ':'; "" where the table does not tell */
    uint32_t switches; /* FLAGSHM_SWITCH_... */
    uint32_t rollout_mpct, shadow_mpct;
    uint32_t slot, slot_generation;
    uint32_t force_count;
    uint32_t arm_count;
    const struct flagshm_snapshot_arm *arms; /* [0] is control */
    uint64_t changed_version;
};

struct flagshm_snapshot {
    struct flagshm_header header; /* as it stood; seq is the one that the copy was made at */
    uint64_t version, file_rev, published_realtime_ns, content_hash;
    bool is_all_control, is_retired;
    int64_t age_ns;                      /* of the heartbeat; as flagshm_age_ns */
    struct flagshm_snapshot_flag *flags; /* sorted by name */
    size_t count;
    size_t damaged; /* records that were left out */
    void *memory_;
};

/* Copies what the handle is attached to (or re-attaches, as a decision does). 0; -ENOENT: no table; -EBADMSG: damaged, or
 * it never stood still; -ENOMEM. Cost: a copy of the bank. */
int flagshm_snapshot_take(struct flagshm_snapshot *snapshot, struct flagshm *fs, struct flagshm_error *error);
void flagshm_snapshot_free(struct flagshm_snapshot *snapshot); /* leaves an empty one */
const struct flagshm_snapshot_flag *flagshm_snapshot_find(const struct flagshm_snapshot *snapshot,
                                                          const char *name);

#endif
