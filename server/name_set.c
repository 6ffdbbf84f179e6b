/* name_set: see the header. Open addressing, linear probing, at most half full. */
#include "server/name_set.h"
#include "client/flagshm.h"

#include <string.h>

struct flagshm_name_slot {
    uint64_t hash;
    const char *name; /* NULL: free */
    size_t bytes;
    uint32_t number;
};

bool flagshm_name_set_make(struct flagshm_name_set *set, size_t capacity, struct flagshm_arena *arena)
{
    size_t slots = 16;

    while (slots < capacity * 2)
        slots *= 2;
    set->slots = flagshm_arena_take(arena, slots * sizeof *set->slots);
    set->mask = slots - 1;
    if (set->slots)
        flagshm_name_set_clear(set);
    return set->slots != NULL;
}

void flagshm_name_set_clear(struct flagshm_name_set *set)
{
    memset(set->slots, 0, (set->mask + 1) * sizeof *set->slots);
}

static struct flagshm_name_slot *slot_of(const struct flagshm_name_set *set, const char *name, size_t bytes,
                                         uint64_t hash)
{
    size_t at = hash & set->mask;

    while (set->slots[at].name != NULL && (set->slots[at].hash != hash || set->slots[at].bytes != bytes ||
                                           memcmp(set->slots[at].name, name, bytes) != 0))
        at = (at + 1) & set->mask;
    return &set->slots[at];
}

bool flagshm_name_set_add(struct flagshm_name_set *set, const char *name, size_t bytes, uint32_t *number)
{
    uint64_t hash = flagshm_hash64_(name, bytes, 0);
    struct flagshm_name_slot *slot = slot_of(set, name, bytes, hash);

    if (slot->name != NULL) {
        *number = slot->number;
        return false;
    }
    *slot = (struct flagshm_name_slot){hash, name, bytes, *number};
    return true;
}

bool flagshm_name_set_find(const struct flagshm_name_set *set, const char *name, size_t bytes,
                           uint32_t *number)
{
    const struct flagshm_name_slot *slot = slot_of(set, name, bytes, flagshm_hash64_(name, bytes, 0));

    if (slot->name == NULL)
        return false;
    *number = slot->number;
    return true;
}
