/* table_image: what can be asked of a compiled image, or of a bank that is served: its hash, a record, what has
 * changed. See table.h.
 *
 * A served bank is read in place, with plain loads: nobody but the server that asks ever writes it. Its bytes may
 * come from a predecessor, so offsets are checked before they are followed.
 */
#include "server/table.h"

#include <stdio.h>
#include <string.h>

static struct flagshm_flag_entry *record_at(const struct flagshm_table *table, uint32_t number)
{
    return (struct flagshm_flag_entry *)(void *)(table->bytes + table->geometry.records_offset) + number;
}

uint64_t flagshm_table_hash(const struct flagshm_table *table)
{
    const size_t words = sizeof(struct flagshm_flag_entry) / 8;
    const size_t changed = offsetof(struct flagshm_flag_entry, changed_version) / 8;
    uint64_t hash = flagshm_hash64_begin_(table->flag_count * words * 8, 0);
    uint32_t i;
    size_t j;

    for (i = 0; i < table->flag_count; i++) {
        const unsigned char *record = (const unsigned char *)record_at(table, i);

        for (j = 0; j < words; j++)
            hash = flagshm_hash64_word_(hash, j == changed ? 0 : flagshm_get64_(record + 8 * j));
    }
    return flagshm_hash64_(table->bytes + table->geometry.heap_offset, (size_t)table->heap_used,
                           flagshm_hash64_end_(hash));
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

/* The record without what differs between two images of the same flag. */
static struct flagshm_flag_entry without_places(const struct flagshm_flag_entry *record)
{
    struct flagshm_flag_entry copy = *record;

    copy.name_offset = 0;
    copy.arms_offset = 0;
    copy.force_offset = 0;
    copy.changed_version = 0;
    return copy;
}

static bool is_same_record(const struct flagshm_table *a, const struct flagshm_flag_entry *left,
                           const struct flagshm_table *b, const struct flagshm_flag_entry *right)
{
    struct flagshm_flag_entry x = without_places(left), y = without_places(right);
    uint64_t arms_bytes = (uint64_t)left->arm_count * sizeof(struct flagshm_arm_entry);
    const unsigned char *left_arms, *right_arms;
    uint32_t i;

    if (memcmp(&x, &y, sizeof x) != 0)
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
        const struct flagshm_flag_entry *before =
            served ? flagshm_table_find(served, record->name_hash) : NULL;

        record->changed_version =
            before && is_same_record(table, record, served, before) ? before->changed_version : version;
    }
}

void flagshm_table_kill(struct flagshm_table *table, struct flagshm_flag_entry *record)
{
    record->switches = (record->switches & ~FLAGSHM_SWITCH_HASH) | FLAGSHM_SWITCH_KILLED;
    record->rollout_mpct = 0;
    record->shadow_mpct = 0;
    memset(record->stage, 0, sizeof record->stage);
    (void)snprintf(record->stage, sizeof record->stage, "killed");
    table->content_hash = flagshm_table_hash(table);
    ((struct flagshm_bank *)(void *)table->bytes)->content_hash = table->content_hash;
}
