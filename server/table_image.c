/* table_image: what can be asked of a compiled image, or of a bank that is served: its hash, a record,
 * what has changed. See table.h.
 *
 * A served bank is read in place, with plain loads: nobody but the server that asks ever writes it. Its
 * bytes may come from a predecessor, so offsets are checked before they are followed.
 */
#include "server/table.h"

#include <stdio.h>
#include <string.h>

static struct flagshm_flag_entry *record_at(const struct flagshm_table *table, uint32_t number)
{
    return (struct flagshm_flag_entry *)(void *)(table->bytes + table->geometry.records_offset) + number;
}

/* Four hashes side by side, each of every fourth word: one alone would wait for its multiplication at each
 * word. */
static void lanes_take(uint64_t lanes[4], const unsigned char *bytes, size_t words)
{
    size_t j;

    for (; words >= 4; words -= 4, bytes += 32)
        for (j = 0; j < 4; j++)
            lanes[j] = flagshm_hash64_word_(lanes[j], flagshm_get64_(bytes + 8 * j));
    for (j = 0; j < words; j++)
        lanes[j] = flagshm_hash64_word_(lanes[j], flagshm_get64_(bytes + 8 * j));
}

uint64_t flagshm_table_hash(const struct flagshm_table *table)
{
    const size_t words = offsetof(struct flagshm_flag_entry, changed_version) / 8;
    const unsigned char *heap = table->bytes + table->geometry.heap_offset;
    size_t heap_words = (size_t)table->heap_used / 8, i;
    uint64_t lanes[4], hash;

    _Static_assert(offsetof(struct flagshm_flag_entry, changed_version) ==
                       sizeof(struct flagshm_flag_entry) - 8,
                   "what is left out is the last word");
    for (i = 0; i < 4; i++)
        lanes[i] = flagshm_hash64_begin_(table->flag_count, i);
    for (i = 0; i < table->flag_count; i++)
        lanes_take(lanes, (const unsigned char *)record_at(table, (uint32_t)i), words);
    lanes_take(lanes, heap, heap_words);
    hash = flagshm_hash64_(heap + 8 * heap_words, (size_t)table->heap_used % 8, table->heap_used);
    for (i = 0; i < 4; i++)
        hash = flagshm_hash64_word_(hash, lanes[i]);
    return flagshm_hash64_end_(hash);
}

uint64_t flagshm_table_form_key(const unsigned char *heap, uint64_t heap_used,
                                const struct flagshm_flag_entry *r)
{
    /* the salt, without hashing 64 bytes for each flag: MD5's state after its whole words, and what is left of it */
    const unsigned char *left = r->pending + (r->prefix_bytes & 56u);
    uint64_t arms_bytes = (uint64_t)r->arm_count * sizeof(struct flagshm_arm_entry);
    uint64_t force_bytes = (uint64_t)r->force_count * sizeof(struct flagshm_force_id);
    uint64_t key = flagshm_hash64_begin_(r->prefix_bytes, (uint64_t)r->rollout_mpct << 32 | r->shadow_mpct);
    uint32_t i;

    key = flagshm_hash64_word_(key, r->switches & FLAGSHM_SWITCH_HASH);
    key = flagshm_hash64_pair_(key, (uint64_t)r->md5_state[0] << 32 | r->md5_state[1],
                               (uint64_t)r->md5_state[2] << 32 | r->md5_state[3]);
    key = flagshm_hash64_word_(key, flagshm_get64_(left));
    if (flagshm_is_inside_(r->arms_offset, arms_bytes, heap_used))
        for (i = 0; i < r->arm_count; i++) {
            const struct flagshm_arm_entry *arm =
                (const struct flagshm_arm_entry *)(const void *)(heap + r->arms_offset) + i;

            key = flagshm_hash64_word_(key, arm->fingerprint);
            key = flagshm_hash64_word_(key, arm->weight_end);
            if (flagshm_is_inside_(arm->name_offset, arm->name_bytes, heap_used))
                key = flagshm_hash64_(heap + arm->name_offset, arm->name_bytes, key);
        }
    if (flagshm_is_inside_(r->force_offset, force_bytes, heap_used))
        key = flagshm_hash64_(heap + r->force_offset, (size_t)force_bytes, key);
    key = flagshm_hash64_end_(key);
    return key != 0 ? key : 1;
}

struct flagshm_flag_entry *flagshm_table_find(const struct flagshm_table *table, uint64_t name_hash)
{
    const struct flagshm_geometry *g = &table->geometry;
    const uint64_t *index = (const uint64_t *)(const void *)(table->bytes + g->index_offset);
    uint32_t at = (uint32_t)name_hash & (g->index_slots - 1), probes;

    for (probes = 0; probes < FLAGSHM_PROBES_MAX && index[at] != 0; probes++) {
        uint32_t number = (uint32_t)index[at] - 1;

        if (number < table->flag_count && record_at(table, number)->name_hash == name_hash)
            return record_at(table, number);
        at = (at + 1) & (g->index_slots - 1);
    }
    return NULL;
}

/* So many bytes of the heap, or NULL where they are not all inside. */
static const unsigned char *heap_at(const struct flagshm_table *table, uint32_t offset, uint64_t bytes)
{
    if (!flagshm_is_inside_(offset, bytes, table->heap_used))
        return NULL;
    return table->bytes + table->geometry.heap_offset + offset;
}

static bool is_same_span(const struct flagshm_table *a, uint32_t a_offset, const struct flagshm_table *b,
                         uint32_t b_offset, uint64_t bytes)
{
    const unsigned char *left = heap_at(a, a_offset, bytes), *right = heap_at(b, b_offset, bytes);

    return left && right && memcmp(left, right, (size_t)bytes) == 0;
}

static bool is_same_arm(const struct flagshm_table *a, const struct flagshm_arm_entry *left,
                        const struct flagshm_table *b, const struct flagshm_arm_entry *right)
{
    return left->weight_end == right->weight_end && left->name_bytes == right->name_bytes &&
           left->model_bytes == right->model_bytes && left->value_bytes == right->value_bytes &&
           left->value_hash == right->value_hash && left->fingerprint == right->fingerprint &&
           is_same_span(a, left->name_offset, b, right->name_offset, left->name_bytes) &&
           is_same_span(a, left->model_offset, b, right->model_offset, left->model_bytes);
}

static bool is_same_span_of(const struct flagshm_flag_entry *a, const struct flagshm_flag_entry *b,
                            size_t from, size_t to)
{
    return memcmp((const unsigned char *)a + from, (const unsigned char *)b + from, to - from) == 0;
}

/* Apart from where their texts stand, and since when they are as they are. */
static bool is_same_but_places(const struct flagshm_flag_entry *a, const struct flagshm_flag_entry *b)
{
    _Static_assert(offsetof(struct flagshm_flag_entry, prefix_bytes) ==
                           offsetof(struct flagshm_flag_entry, name_offset) + 4 &&
                       offsetof(struct flagshm_flag_entry, force_offset) ==
                           offsetof(struct flagshm_flag_entry, arms_offset) + 4 &&
                       offsetof(struct flagshm_flag_entry, force_count) ==
                           offsetof(struct flagshm_flag_entry, force_offset) + 4,
                   "nothing else is left out");
    return is_same_span_of(a, b, 0, offsetof(struct flagshm_flag_entry, name_offset)) &&
           is_same_span_of(a, b, offsetof(struct flagshm_flag_entry, prefix_bytes),
                           offsetof(struct flagshm_flag_entry, arms_offset)) &&
           is_same_span_of(a, b, offsetof(struct flagshm_flag_entry, force_count),
                           offsetof(struct flagshm_flag_entry, changed_version));
}

static bool is_same_record(const struct flagshm_table *a, const struct flagshm_flag_entry *left,
                           const struct flagshm_table *b, const struct flagshm_flag_entry *right)
{
    uint64_t arms_bytes = (uint64_t)left->arm_count * sizeof(struct flagshm_arm_entry);
    const unsigned char *left_arms, *right_arms;
    uint32_t i;

    if (!is_same_but_places(left, right))
        return false;
    left_arms = heap_at(a, left->arms_offset, arms_bytes);
    right_arms = heap_at(b, right->arms_offset, arms_bytes);
    if (!left_arms || !right_arms)
        return false;
    for (i = 0; i < left->arm_count; i++)
        if (!is_same_arm(a, (const struct flagshm_arm_entry *)(const void *)left_arms + i, b,
                         (const struct flagshm_arm_entry *)(const void *)right_arms + i))
            return false;
    return left->force_count == 0 ||
           is_same_span(a, left->force_offset, b, right->force_offset,
                        (uint64_t)left->force_count * sizeof(struct flagshm_force_id));
}

void flagshm_table_carry_versions(struct flagshm_table *table, const struct flagshm_table *served,
                                  uint64_t version)
{
    uint32_t i;

    for (i = 0; i < table->flag_count; i++) {
        struct flagshm_flag_entry *record = record_at(table, i);
        const struct flagshm_flag_entry *before = NULL;

        if (served && i < served->flag_count && record_at(served, i)->name_hash == record->name_hash)
            before = record_at(served, i); /* most edits leave the order as it is */
        else if (served)
            before = flagshm_table_find(served, record->name_hash);

        record->changed_version =
            before && is_same_record(table, record, served, before) ? before->changed_version : version;
    }
}

void flagshm_table_kill(struct flagshm_table *table, struct flagshm_flag_entry *record)
{
    record->switches =
        (record->switches & ~(FLAGSHM_SWITCH_HASH | FLAGSHM_SWITCH_GUARDED | FLAGSHM_SWITCH_STALE_CONTROL)) |
        FLAGSHM_SWITCH_KILLED;
    record->rollout_mpct = 0;
    record->shadow_mpct = 0;
    record->slot = FLAGSHM_NO_SLOT;
    record->slot_generation = 0;
    memset(record->stage, 0, sizeof record->stage);
    (void)snprintf(record->stage, sizeof record->stage, "killed");
    table->content_hash = flagshm_table_hash(table);
    ((struct flagshm_bank *)(void *)table->bytes)->content_hash = table->content_hash;
}
