/* assign: see assign.h. */
#include "tools/assign.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the plan ---- */

/* A text of the heap, cut off at room - 1 bytes; room is a multiple of 8. False: it does not stand there. */
static bool text_copy(const struct flagshm_map_ *map, const unsigned char *heap, uint32_t offset,
                      uint32_t bytes, char *out, uint32_t room)
{
    uint32_t i;

    if (bytes >= room || !flagshm_is_inside_(offset, ((uint64_t)bytes + 7) & ~UINT64_C(7), map->heap_bytes))
        return false;
    for (i = 0; i < bytes; i += 8) {
        uint64_t word = flagshm_load64_(heap + offset + i);
        memcpy(out + i, &word, 8);
    }
    out[bytes] = '\0';
    return true;
}

/* Private words of a record or an arm. */
static void words_copy(void *out, const unsigned char *shared, size_t bytes)
{
    size_t i;
    for (i = 0; i < bytes; i += 8) {
        uint64_t word = flagshm_load64_(shared + i);
        memcpy((unsigned char *)out + i, &word, 8);
    }
}

static bool arm_copy(struct assign_arm *arm, const struct flagshm_map_ *map, const unsigned char *heap,
                     uint64_t offset)
{
    struct flagshm_arm_entry entry;

    words_copy(&entry, heap + offset, sizeof entry);
    arm->weight_end = entry.weight_end;
    return text_copy(map, heap, entry.name_offset, entry.name_bytes, arm->name, sizeof arm->name) &&
           text_copy(map, heap, entry.model_offset, entry.model_bytes, arm->model, sizeof arm->model);
}

static void prefix_copy(struct flagshm_md5_prefix_ *prefix, const struct flagshm_flag_entry *entry)
{
    size_t i;
    for (i = 0; i < 4; i++) {
        prefix->start[i] = entry->md5_start[i];
        prefix->state[i] = entry->md5_state[i];
    }
    for (i = 0; i < 8; i++)
        prefix->pending[i] = flagshm_get64_(entry->pending + 8 * i);
    prefix->bytes = entry->prefix_bytes;
}

/* Copies a record of the bank, and its arms through checked offsets. False: it makes no sense. */
static bool record_copy(struct assign_plan *plan, const struct flagshm_map_ *map, const unsigned char *bank,
                        const unsigned char *record, uint64_t seq)
{
    struct flagshm_flag_entry entry;
    uint32_t i;

    words_copy(&entry, record, sizeof entry);
    plan->version = flagshm_load64_(bank + offsetof(struct flagshm_bank, version));
    plan->arm_count = entry.arm_count;
    plan->rollout_mpct = entry.rollout_mpct;
    plan->weight_sum = entry.weight_sum;
    plan->force_count = entry.force_count;
    plan->is_control = (seq & FLAGSHM_SEQ_ALL_CONTROL) != 0 || (entry.switches & FLAGSHM_SWITCH_OFF) != 0 ||
                       ((entry.switches & FLAGSHM_SWITCH_STALE_CONTROL) != 0 && flagshm_is_stale_(map));
    plan->is_hashed = (entry.switches & FLAGSHM_SWITCH_HASH) != 0;
    plan->static_arm = entry.rollout_mpct == 100000;
    prefix_copy(&plan->prefix, &entry);
    if (entry.arm_count < 2 || entry.arm_count > 8 || entry.rollout_mpct > 100000 ||
        !flagshm_is_inside_(entry.arms_offset, (uint64_t)entry.arm_count * map->arm_stride,
                            map->heap_bytes) ||
        !flagshm_is_inside_(entry.force_offset, (uint64_t)entry.force_count * sizeof *plan->force,
                            map->heap_bytes))
        return false;
    for (i = 0; i < entry.arm_count; i++)
        if (!arm_copy(&plan->arms[i], map, bank + map->heap_offset,
                      entry.arms_offset + (uint64_t)i * map->arm_stride))
            return false;
    return true;
}

/* The ids as they stand; false: no memory. `seq` has to be looked at again afterwards. */
static bool force_copy(struct assign_plan *plan, const struct flagshm_map_ *map, const unsigned char *bank,
                       const unsigned char *record)
{
    uint32_t offset = flagshm_load32_(record + offsetof(struct flagshm_flag_entry, force_offset));
    size_t bytes = (size_t)plan->force_count * sizeof *plan->force;

    free(plan->force);
    plan->force = NULL;
    if (bytes == 0 || !flagshm_is_inside_(offset, bytes, map->heap_bytes))
        return true;
    plan->force = malloc(bytes);
    if (plan->force != NULL)
        words_copy(plan->force, bank + map->heap_offset + offset, bytes);
    return plan->force != NULL;
}

int assign_plan_take(struct assign_plan *plan, struct flagshm *fs, const char *flag,
                     struct flagshm_error *error)
{
    size_t bytes = strlen(flag);
    int tries;

    memset(plan, 0, sizeof *plan);
    if (bytes == 0 || bytes > FLAGSHM_NAME_MAX)
        return flagshm_error_set(error, -ENOENT, "no flag has such a name");
    (void)flagshm_version(fs); /* moves on to the newest segment */
    for (tries = 0; tries < FLAGSHM_RETRIES_MAX; tries++) {
        const struct flagshm_map_ *map = __atomic_load_n(&fs->map_, __ATOMIC_ACQUIRE);
        const unsigned char *bank, *record;
        bool is_sound, has_memory = true;
        uint64_t seq;

        if (map == NULL)
            return flagshm_error_set(error, -EBADMSG, "there is no table");
        seq = flagshm_seq_acquire_(map);
        bank = map->bank[seq & 1];
        record = flagshm_find_(map, bank, flagshm_hash64_(flag, bytes, 0), flag, bytes);
        is_sound = record != NULL && record_copy(plan, map, bank, record, seq);
        if (is_sound)
            has_memory = force_copy(plan, map, bank, record);
        if (flagshm_seq_again_(map) != seq) {
            if ((seq & FLAGSHM_SEQ_RETIRED) != 0)
                (void)flagshm_version(fs);
            continue;
        }
        if (record == NULL)
            return flagshm_error_set(error, -ENOENT, "there is no such flag");
        if (!is_sound)
            return flagshm_error_set(error, -EBADMSG, "the record of flag %s is damaged", flag);
        return has_memory ? 0 : flagshm_error_set(error, -ENOMEM, "out of memory");
    }
    return flagshm_error_set(error, -EBADMSG, "the table never stood still");
}

void assign_plan_free(struct assign_plan *plan)
{
    free(plan->force);
    plan->force = NULL;
    plan->force_count = 0;
}

/* ---- deciding ---- */

/* Arm of a forced id, or -1. */
static int forced_arm(const struct assign_plan *plan, const uint32_t words[4])
{
    uint64_t high = (uint64_t)words[0] << 32 | words[1], low = (uint64_t)words[2] << 32 | words[3];
    uint32_t first = 0, end = plan->force_count;

    while (first < end) {
        uint32_t middle = first + (end - first) / 2;
        const struct flagshm_force_id *id = &plan->force[middle];
        if (id->high == high && id->low == low)
            return id->arm < plan->arm_count ? (int)id->arm : -1;
        if (id->high < high || (id->high == high && id->low < low))
            first = middle + 1;
        else
            end = middle;
    }
    return -1;
}

static inline uint32_t arm_of(const struct assign_plan *plan, const uint32_t words[4])
{
    uint32_t arm, lot;

    if (plan->force_count != 0) {
        int forced = forced_arm(plan, words);
        if (forced >= 0)
            return (uint32_t)forced;
    }
    if (!plan->is_hashed)
        return plan->static_arm;
    if (flagshm_bucket_(words) >= plan->rollout_mpct)
        return 0;
    if (plan->arm_count == 2)
        return 1;
    lot = flagshm_lot_(words, plan->weight_sum != 0 ? plan->weight_sum : 1);
    for (arm = 1; arm + 1 < plan->arm_count; arm++)
        if (lot < plan->arms[arm].weight_end)
            break;
    return arm;
}

/* Messages of one block, or of two, in lanes; each sort has its own groups. */
struct lane_group {
    uint32_t words[2][16 * ASSIGN_LANES] __attribute__((aligned(32)));
};

struct lane_set {
    unsigned blocks; /* of each message: 1 or 2 */
    struct assign_id *ids[ASSIGN_BATCH];
    size_t count;
    struct lane_group groups[ASSIGN_BATCH / ASSIGN_LANES];
};

/* Writes the id behind the prefix into a lane: whole words, shifted into place, 0x80 behind the last byte, the length in bits at
 * the end. */
static inline void lane_fill(const struct assign_plan *plan, uint32_t *lane, unsigned blocks,
                             const struct assign_id *id)
{
    size_t filled = plan->prefix.bytes & 63u, word = filled / 4, left = id->length, end = 16 * blocks - 2;
    unsigned shift = (unsigned)(filled & 3) * 8;
    const unsigned char *bytes = id->bytes;
    uint32_t carry = (uint32_t)(plan->prefix.pending[word / 2] >> (32 * (word & 1)));
    uint32_t last;

    for (; left >= 4; left -= 4, bytes += 4, word++) {
        uint32_t part = flagshm_get32_(bytes);
        lane[word * ASSIGN_LANES] = carry | part << shift;
        carry = part >> 1 >> (31 - shift);
    }
    last = (flagshm_get32_(bytes) & ((1u << (8 * left)) - 1)) | 0x80u << (8 * left);
    lane[word * ASSIGN_LANES] = carry | last << shift;
    if (word + 1 < end)
        lane[(word + 1) * ASSIGN_LANES] = last >> 1 >> (31 - shift);
    lane[end * ASSIGN_LANES] = (plan->prefix.bytes + id->length) * 8;
}

/* Puts an id into the next lane. A new group begins as the prefix alone, zeros behind it. */
static inline void lane_take(const struct assign_plan *plan, const struct lane_group *template,
                             struct lane_set *set, struct assign_id *id)
{
    struct lane_group *group = &set->groups[set->count / ASSIGN_LANES];
    size_t lane = set->count % ASSIGN_LANES;

    if (lane == 0)
        memcpy(group, template, set->blocks * sizeof group->words[0]);
    lane_fill(plan, group->words[0] + lane, set->blocks, id);
    set->ids[set->count++] = id;
}

static void template_make(const struct assign_plan *plan, struct lane_group *template)
{
    size_t k, lane;

    memset(template, 0, sizeof *template);
    for (k = 0; k < 16; k++)
        for (lane = 0; lane < ASSIGN_LANES; lane++)
            template->words[0][k * ASSIGN_LANES + lane] =
                (uint32_t)(plan->prefix.pending[k / 2] >> (32 * (k & 1)));
}

/* The words were written one by one and are read as vectors: by now they have reached the cache. */
static void set_decide(const struct assign_plan *plan, struct lane_set *set)
{
    uint32_t states[4 * ASSIGN_LANES] __attribute__((aligned(32))), words[4], k;
    size_t lane, at;
    unsigned block;

    for (at = 0; at < set->count; at += ASSIGN_LANES) {
        size_t count = set->count - at < ASSIGN_LANES ? set->count - at : ASSIGN_LANES;
        for (k = 0; k < 4 * ASSIGN_LANES; k++)
            states[k] = plan->prefix.start[k / ASSIGN_LANES];
        for (block = 0; block < set->blocks; block++)
            assign_md5_lanes(set->groups[at / ASSIGN_LANES].words[block], states);
        for (lane = 0; lane < count; lane++) {
            for (k = 0; k < 4; k++)
                words[k] = __builtin_bswap32(states[k * ASSIGN_LANES + lane]);
            set->ids[at + lane]->arm = arm_of(plan, words);
        }
    }
}

void assign_decide(const struct assign_plan *plan, struct assign_id *ids, size_t count)
{
    struct lane_group template;
    struct lane_set one, two;
    size_t filled = plan->prefix.bytes & 63u, i;
    bool needs_hash = !plan->is_control && (plan->is_hashed || plan->force_count != 0);

    one.blocks = 1;
    two.blocks = 2;
    one.count = two.count = 0;
    if (needs_hash)
        template_make(plan, &template);
    for (i = 0; i < count; i++) {
        uint32_t words[4];
        ids[i].arm = 0;
        if (plan->is_control || ids[i].length == 0)
            continue;
        if (!needs_hash) {
            ids[i].arm = plan->static_arm;
        } else if (filled + ids[i].length <= 55) {
            lane_take(plan, &template, &one, &ids[i]);
        } else if (filled + ids[i].length <= 119) {
            lane_take(plan, &template, &two, &ids[i]);
        } else {
            flagshm_md5_id_(&plan->prefix, ids[i].bytes, ids[i].length, words);
            ids[i].arm = arm_of(plan, words);
        }
    }
    set_decide(plan, &one);
    set_decide(plan, &two);
}
