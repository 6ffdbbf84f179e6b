/* stress_world: tables of which every word follows from the version, and a check of decisions against that. For stress_latch and
 * stress_kill.
 *
 * Version v is table v % 8: salts, shares, weights, names, models, values, forced arms and the set of flags all change with it, so a
 * decision that mixes two tables, or carries another version than it was made from, shows. Deterministic: each process of a
 * test makes the same world.
 *
 * With FLAGSHM_STRESS_UNCHECKED the reader's second look at seq is taken out of the header (every caller has that word in a local named
 * seq): the negative control. The checks must then find mixes, else they could find none where it counts.
 */
#ifndef FLAGSHM_TESTS_STRESS_WORLD_H
#define FLAGSHM_TESTS_STRESS_WORLD_H

/* clang-format off */
#ifdef FLAGSHM_STRESS_UNCHECKED
#include <stdint.h>
static inline uint64_t world_read_first(uint64_t seq)
{
    return seq;
}
#define FLAGSHM_PICK_const    flagshm_seq_not_read_(const /* at its definition: another name */
#define FLAGSHM_PICK_map      world_read_first(seq        /* at a call: what was read first */
#define flagshm_seq_again_(x) FLAGSHM_PICK_##x)
#endif
/* clang-format on */
#include "client/flagshm.h"

#include "server/flagfile.h"
#include "server/segment.h"
#include "server/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORLD_TABLES     8u
#define WORLD_FLAGS      24u
#define WORLD_IDS        64u
#define WORLD_LONG_BYTES 1500u /* of the second variant's value: more than a decision holds */

struct world_flag {
    char name[16], salt[24], stage[32], text[3][2][32]; /* of each arm: name, model */
    char value[3][WORLD_LONG_BYTES + 1];
    struct flagshm_arm arms[3];
    struct flagshm_force force;
    struct flagshm_flag flag;
    uint32_t bucket[WORLD_IDS], arm[WORLD_IDS]; /* of each id */
};

struct world {
    struct world_flag flags[WORLD_TABLES][WORLD_FLAGS];
    struct flagshm_table tables[WORLD_TABLES];
    char ids[WORLD_IDS][40];
    char instance[33];
    struct flagshm_segment_options options;
};

/* The last flag stands in even tables only. */
static uint32_t world_count(uint32_t k)
{
    return k % 2 ? WORLD_FLAGS - 1 : WORLD_FLAGS;
}

static void world_make_flag(struct world *w, uint32_t k, uint32_t n)
{
    struct world_flag *f = &w->flags[k][n];
    struct flagshm_md5_prefix_ prefix;
    uint32_t i, words[4];
    char share[16];

    (void)snprintf(f->name, sizeof f->name, "flag-%u", n);
    (void)snprintf(f->salt, sizeof f->salt, "%.*s-%u-%u", (int)(k * 2), "saltsaltsaltsalt", k, n);
    for (i = 0; i < 3; i++) {
        size_t bytes = i == 2 ? WORLD_LONG_BYTES - k : 60 + 20 * k;

        (void)snprintf(f->text[i][0], sizeof f->text[i][0], "arm-%u-%u", k, i);
        (void)snprintf(f->text[i][1], sizeof f->text[i][1], "model-%u-%u-%u", k, n, i);
        memset(f->value[i], 'a' + (int)k, bytes);
        f->arms[i] = (struct flagshm_arm){.name = f->text[i][0],
                                          .model = f->text[i][1],
                                          .model_bytes = strlen(f->text[i][1]),
                                          .value = f->value[i],
                                          .value_bytes = bytes,
                                          .value_hash = flagshm_hash64_(f->value[i], bytes, n),
                                          .weight = i == 1 ? k + 1 : 8 - k};
    }
    f->force = (struct flagshm_force){w->ids[0], strlen(w->ids[0]), k % 3};
    f->flag = (struct flagshm_flag){.name = f->name,
                                    .name_bytes = strlen(f->name),
                                    .salt = f->salt,
                                    .salt_bytes = strlen(f->salt),
                                    .enabled = true,
                                    .rollout_mpct = 10000 * (k + 1) + n,
                                    .arms = f->arms,
                                    .arm_count = 3,
                                    .force = &f->force,
                                    .force_count = 1};
    (void)snprintf(f->stage, sizeof f->stage, "static-%spct",
                   flagshm_mpct_to_text(f->flag.rollout_mpct, share));
    flagshm_table_prefix(&prefix, f->salt, strlen(f->salt));
    for (i = 0; i < WORLD_IDS; i++) {
        flagshm_md5_id_(&prefix, (const unsigned char *)w->ids[i], strlen(w->ids[i]), words);
        f->bucket[i] = flagshm_bucket_(words);
        f->arm[i] = f->bucket[i] >= f->flag.rollout_mpct ? 0 : flagshm_lot_(words, 9) < k + 1 ? 1 : 2;
    }
    f->arm[0] = k % 3;
}

/* False: no memory. */
static bool world_make(struct world *w, const char *name)
{
    struct flagshm_table_entry entries[WORLD_FLAGS];
    uint32_t k, n;

    memset(w, 0, sizeof *w);
    (void)snprintf(w->instance, sizeof w->instance, "%s-%d", name, (int)getpid());
    w->options =
        (struct flagshm_segment_options){.instance = w->instance, .group = (gid_t)-1, .lock_wait_ms = 10000};
    for (n = 0; n < WORLD_IDS; n++)
        (void)snprintf(w->ids[n], sizeof w->ids[n], "user-%.*s%u", (int)(n % 30),
                       "0123456789012345678901234567890", n);
    for (k = 0; k < WORLD_TABLES; k++) {
        for (n = 0; n < WORLD_FLAGS; n++) {
            world_make_flag(w, k, n);
            entries[n] = (struct flagshm_table_entry){.flag = &w->flags[k][n].flag};
        }
        if (flagshm_table_build(&w->tables[k], entries, world_count(k), k ? &w->tables[0].geometry : NULL) !=
            0)
            return false;
    }
    return true;
}

static void world_free(struct world *w)
{
    static const char *const endings[] = {"", ".lock", ".old", ".new"};
    char path[128];
    uint32_t i;

    for (i = 0; i < WORLD_TABLES; i++)
        flagshm_table_free(&w->tables[i]);
    for (i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof path, "/dev/shm/flagshm.%s.table%s", w->instance, endings[i]);
        (void)unlink(path);
    }
}

/* Publishes the next version. 0 or -errno. */
static int world_publish(struct world *w, struct flagshm_segment *segment, struct flagshm_error *error)
{
    uint64_t version = flagshm_segment_version(segment) + 1;

    return flagshm_segment_publish(segment, &w->tables[version % WORLD_TABLES], version, version * 3, error);
}

static bool world_is_value(struct flagshm *fs, const struct world_flag *f, const struct flagshm_decision *d)
{
    static __thread char value[WORLD_LONG_BYTES + 8];
    const struct flagshm_arm *arm = &f->arms[d->arm];
    int64_t bytes = flagshm_value(fs, d, value, sizeof value);

    if (bytes == -ESTALE) /* the table has moved on: allowed, and never half a value */
        return d->value_bytes >= sizeof d->value;
    return bytes == (int64_t)arm->value_bytes && memcmp(value, arm->value, arm->value_bytes + 1) == 0;
}

/* Is the decision for flag n and id i one that a single table gives? NULL, or what is wrong. */
static const char *world_check(const struct world *w, struct flagshm *fs, uint32_t n, uint32_t i,
                               const struct flagshm_decision *d)
{
    uint32_t k = (uint32_t)(d->version % WORLD_TABLES);
    const struct world_flag *f = &w->flags[k][n];
    const struct flagshm_arm *arm;

    if (d->reason == FLAGSHM_FLAG_NOT_FOUND)
        return n < world_count(k) ? "a flag of that version is not found" : NULL;
    if (d->reason != FLAGSHM_SPLIT && d->reason != FLAGSHM_TARGETING_MATCH)
        return flagshm_reason_name(d->reason);
    if (n >= world_count(k))
        return "a flag is found that this version has not";
    if ((d->reason == FLAGSHM_TARGETING_MATCH) != (i == 0))
        return "forced";
    if (d->arm != f->arm[i])
        return "arm";
    if (d->bucket != f->bucket[i])
        return "bucket";
    if (d->rollout_mpct != f->flag.rollout_mpct)
        return "share";
    if (strcmp(d->stage, f->stage) != 0)
        return "stage";
    arm = &f->arms[d->arm];
    if (strcmp(d->arm_name, arm->name) != 0)
        return "arm's name";
    if (strcmp(d->model, arm->model) != 0)
        return "model";
    if (d->value_bytes != arm->value_bytes || d->value_hash != arm->value_hash)
        return "value's length or hash";
    if (d->value_bytes < sizeof d->value && memcmp(d->value, arm->value, arm->value_bytes + 1) != 0)
        return "short value";
    return world_is_value(fs, f, d) ? NULL : "value";
}

#endif
