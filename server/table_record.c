/* table_record: one flag's record, and what of it stands in the heap. See table.h. */
#include "server/table_internal.h"

#include "server/rollout.h"

#include <stdlib.h>
#include <string.h>

/* ---- the salt, the force list, the arms ---- */

/* MD5's first round, one step, on words that keep their names: step i replaces a, d, c, b in turn. */
static void md5_step(uint32_t state[4], unsigned step, uint32_t word)
{
    static const uint32_t sines[16] = {0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a,
                                       0xa8304613, 0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be,
                                       0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821};
    static const unsigned shifts[4] = {7, 12, 17, 22};
    unsigned at = (4 - step % 4) % 4, shift = shifts[step % 4];
    uint32_t b = state[(at + 1) % 4], c = state[(at + 2) % 4], d = state[(at + 3) % 4];
    uint32_t sum = state[at] + word + sines[step] + (d ^ (b & (c ^ d)));

    state[at] = (sum << shift | sum >> (32 - shift)) + b;
}

/* A salt of 63 or 64 bytes and its ':' fill a whole block. */
void flagshm_table_prefix(struct flagshm_md5_prefix_ *prefix, const char *salt, size_t bytes)
{
    static const uint32_t init[4] = FLAGSHM_MD5_INIT_;
    unsigned char text[FLAGSHM_SALT_MAX + 64] = {0};
    size_t whole = (bytes + 1) / 64 * 64, i;

    memcpy(text, salt, bytes);
    text[bytes] = ':';
    memcpy(prefix->start, init, sizeof init);
    if (whole > 0) {
        uint64_t block[8];

        for (i = 0; i < 8; i++)
            block[i] = flagshm_get64_(text + 8 * i);
        flagshm_md5_block_(prefix->start, init, 0, block);
    }
    memcpy(prefix->state, prefix->start, sizeof prefix->state);
    for (i = 0; i < (bytes + 1 - whole) / 4; i++)
        md5_step(prefix->state, (unsigned)i, flagshm_get32_(text + whole + 4 * i));
    for (i = 0; i < 8; i++)
        prefix->pending[i] = flagshm_get64_(text + whole + 8 * i);
    prefix->bytes = (uint32_t)bytes + 1;
}

static void record_prefix(struct flagshm_flag_entry *r, const struct flagshm_md5_prefix_ *prefix)
{
    size_t i;

    r->prefix_bytes = prefix->bytes;
    memcpy(r->md5_start, prefix->start, sizeof r->md5_start);
    memcpy(r->md5_state, prefix->state, sizeof r->md5_state);
    for (i = 0; i < 8; i++) {
        uint64_t word = flagshm_le64_(prefix->pending[i]);

        memcpy(r->pending + 8 * i, &word, 8);
    }
}

static int force_order(const void *left, const void *right)
{
    const struct flagshm_force_id *a = left, *b = right;

    if (a->high != b->high)
        return a->high < b->high ? -1 : 1;
    if (a->low != b->low)
        return a->low < b->low ? -1 : 1;
    return a->arm < b->arm ? -1 : a->arm > b->arm;
}

/* Ids are personal data: only their hashes go into shared memory. */
static void record_force(struct flagshm_table_builder *b, struct flagshm_flag_entry *r,
                         const struct flagshm_flag *flag, const struct flagshm_md5_prefix_ *prefix)
{
    struct flagshm_force_id *ids;
    uint32_t i;

    if (flag->force_count == 0)
        return;
    r->force_offset = flagshm_heap_take(b, flag->force_count * sizeof *ids);
    if (b->error)
        return;
    r->force_count = flag->force_count;
    ids = (struct flagshm_force_id *)(void *)(b->heap + r->force_offset);
    for (i = 0; i < flag->force_count; i++) {
        uint32_t words[4];

        flagshm_md5_id_(prefix, (const unsigned char *)flag->force[i].id, flag->force[i].id_bytes, words);
        ids[i] = (struct flagshm_force_id){(uint64_t)words[0] << 32 | words[1],
                                           (uint64_t)words[2] << 32 | words[3], flag->force[i].arm};
    }
    qsort(ids, flag->force_count, sizeof *ids, force_order);
}

static void record_arms(struct flagshm_table_builder *b, struct flagshm_flag_entry *r,
                        const struct flagshm_flag *flag)
{
    uint32_t offset = flagshm_heap_take(b, flag->arm_count * sizeof(struct flagshm_arm_entry)), sum = 0, i;

    r->arms_offset = offset;
    r->arm_count = (uint16_t)flag->arm_count;
    for (i = 0; i < flag->arm_count; i++) {
        const struct flagshm_arm *arm = &flag->arms[i];
        size_t name_bytes = strlen(arm->name);
        struct flagshm_arm_entry entry = {.name_bytes = (uint16_t)name_bytes,
                                          .model_bytes = (uint16_t)arm->model_bytes,
                                          .value_bytes = (uint32_t)arm->value_bytes,
                                          .value_hash = arm->value_hash,
                                          .fingerprint = arm->fingerprint};

        sum += i > 0 ? arm->weight : 0;
        entry.weight_end = sum;
        entry.name_offset =
            flagshm_heap_share(b, arm->name, name_bytes, flagshm_hash64_(arm->name, name_bytes, 0));
        entry.model_offset = arm->model == arm->value /* a string names the model and is the value */
                                 ? flagshm_heap_share(b, arm->model, arm->model_bytes, arm->value_hash)
                                 : flagshm_heap_share(b, arm->model, arm->model_bytes,
                                                      flagshm_hash64_(arm->model, arm->model_bytes, 0));
        entry.value_offset = flagshm_heap_share(b, arm->value, arm->value_bytes, arm->value_hash);
        if (!b->error)
            memcpy(b->heap + offset + i * sizeof entry, &entry, sizeof entry);
    }
    r->weight_sum = sum;
}

/* ---- how it is served ---- */

/* A flag with all that bears on how it is served. */
struct serving {
    const struct flagshm_flag *flag;
    const struct flagshm_rollout *rollout; /* or NULL */
    bool is_killed, is_rolled_back, is_guarded;
    uint32_t share_mpct, shadow_mpct;
};

static bool is_off(const struct serving *s)
{
    return s->is_killed || s->is_rolled_back || !s->flag->enabled;
}

/* The state follows the file; where it did not come to hear of a lower number, that number counts all the same. */
static uint32_t at_most(uint32_t share_mpct, uint32_t cap_mpct)
{
    return share_mpct < cap_mpct ? share_mpct : cap_mpct;
}

static struct serving serving_of(const struct flagshm_table_entry *entry)
{
    const struct flagshm_flag *flag = entry->flag;
    const struct flagshm_rollout *rollout = entry->rollout;
    struct serving s = {.flag = flag, .rollout = rollout, .is_killed = entry->is_killed};

    if (rollout != NULL) {
        s.is_killed = s.is_killed || rollout->is_killed;
        s.is_rolled_back = rollout->stage == FLAGSHM_STAGE_ROLLED_BACK;
    }
    if (is_off(&s))
        return s;
    s.is_guarded = entry->guards != NULL;
    if (rollout != NULL) {
        s.share_mpct = at_most(flagshm_rollout_share(rollout), flag->rollout_mpct);
        s.shadow_mpct = flag->rollout_mpct > 0 ? flagshm_rollout_shadow(rollout) : 0;
    } else if (!flag->has_rollout) {
        s.share_mpct = flag->rollout_mpct;
    }
    return s;
}

uint32_t flagshm_table_share_mpct(const struct flagshm_table_entry *entry)
{
    return serving_of(entry).share_mpct;
}

/* Without anybody who watches it, a canary is none: where the server is silent, such flags give control. */
static bool is_stale_control(const struct serving *s)
{
    if (s->flag->has_on_stale)
        return s->flag->on_stale_control;
    return s->flag->has_rollout && s->is_guarded &&
           (s->shadow_mpct > 0 || (s->share_mpct > 0 && s->share_mpct < FLAGSHM_MPCT_FULL));
}

static bool is_split(const struct serving *s)
{
    return s->shadow_mpct > 0 ||
           (s->share_mpct > 0 && (s->share_mpct < FLAGSHM_MPCT_FULL || s->flag->arm_count > 2));
}

/* What is off says only why: a kill that is set in a served record must give what a build with it gives. */
static uint32_t record_switches(const struct serving *s)
{
    uint32_t switches = 0;

    if (s->is_killed)
        switches |= FLAGSHM_SWITCH_KILLED;
    if (!s->flag->enabled)
        switches |= FLAGSHM_SWITCH_DISABLED;
    if (s->is_rolled_back)
        switches |= FLAGSHM_SWITCH_ROLLED_BACK;
    if (s->flag->identity == FLAGSHM_IDENTITY_ORG)
        switches |= FLAGSHM_SWITCH_ORG;
    if (s->flag->identity == FLAGSHM_IDENTITY_SESSION)
        switches |= FLAGSHM_SWITCH_SESSION;
    if (is_off(s))
        return switches;
    if (is_stale_control(s))
        switches |= FLAGSHM_SWITCH_STALE_CONTROL;
    if (is_split(s))
        switches |= FLAGSHM_SWITCH_HASH;
    if (s->is_guarded)
        switches |= FLAGSHM_SWITCH_GUARDED;
    return switches;
}

static void record_stage(char stage[24], const struct serving *s)
{
    memset(stage, 0, 24); /* the same input gives the same bytes */
    if (s->is_killed)
        memcpy(stage, "killed", 6);
    else if (!s->flag->enabled && !s->is_rolled_back)
        memcpy(stage, "disabled", 8);
    else if (s->rollout != NULL)
        flagshm_rollout_stage_word(s->rollout, stage);
    else
        flagshm_stage_share_word("static", s->share_mpct, stage);
}

void flagshm_record_build(struct flagshm_table_builder *b, struct flagshm_flag_entry *r,
                          const struct flagshm_table_entry *entry)
{
    const struct flagshm_flag *flag = entry->flag;
    const struct serving s = serving_of(entry);
    struct flagshm_md5_prefix_ prefix;

    r->name_hash = flagshm_hash64_(flag->name, flag->name_bytes, 0);
    r->name_bytes = (uint16_t)flag->name_bytes;
    r->name_offset = flagshm_heap_text(b, flag->name, flag->name_bytes);
    if (flag->salt_bytes + 1 >= 64) /* `pending` has lost it: for people, its text stands behind the name's */
        (void)flagshm_heap_text(b, flag->salt, flag->salt_bytes);
    r->switches = record_switches(&s);
    r->rollout_mpct = s.share_mpct;
    r->shadow_mpct = s.shadow_mpct;
    r->slot = FLAGSHM_NO_SLOT;
    if (s.rollout != NULL && flagshm_rollout_is_latched(s.rollout))
        r->latch_fingerprint = s.rollout->variant_fingerprint;
    record_stage(r->stage, &s);
    flagshm_table_prefix(&prefix, flag->salt, flag->salt_bytes);
    record_prefix(r, &prefix);
    record_arms(b, r, flag);
    record_force(b, r, flag, &prefix);
}

bool flagshm_record_wants_slot(const struct flagshm_flag_entry *r, const struct flagshm_table_entry *entry,
                               bool *only_with_slot)
{
    const struct flagshm_rollout *rollout = entry->rollout;

    *only_with_slot = false;
    if ((r->switches & FLAGSHM_SWITCH_OFF) != 0)
        return false;
    if ((r->switches & FLAGSHM_SWITCH_HASH) != 0)
        return true;
    /* at 100 %, while somebody still watches it */
    *only_with_slot = rollout != NULL && rollout->is_planned && rollout->stage != FLAGSHM_STAGE_COMPLETE &&
                      r->rollout_mpct == FLAGSHM_MPCT_FULL && (r->switches & FLAGSHM_SWITCH_GUARDED) != 0;
    return *only_with_slot;
}
