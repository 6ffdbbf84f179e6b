/* slots: see the header. */
#include "server/slots.h"

#include <string.h>

void flagshm_slots_init(struct flagshm_slots *slots, uint32_t generation)
{
    uint32_t i;

    memset(slots, 0, sizeof *slots);
    slots->generation = generation;
    for (i = 0; i < FLAGSHM_SLOTS; i++)
        slots->holders[i].is_fresh = true;
}

static void know_generation(struct flagshm_slots *slots, uint32_t generation)
{
    if (generation > slots->generation)
        slots->generation = generation;
}

void flagshm_slots_adopt(struct flagshm_slots *slots, uint32_t slot, uint64_t flag_hash, uint64_t key,
                         uint32_t generation)
{
    if (slot >= FLAGSHM_SLOTS || generation == 0)
        return;
    slots->holders[slot] =
        (struct flagshm_slot_holder){.flag_hash = flag_hash, .key = key, .generation = generation};
    know_generation(slots, generation);
}

void flagshm_slots_rest(struct flagshm_slots *slots, uint32_t slot, uint32_t generation, uint64_t now_ns)
{
    if (slot >= FLAGSHM_SLOTS)
        return;
    slots->holders[slot] = (struct flagshm_slot_holder){.generation = generation, .rested_from = now_ns};
    know_generation(slots, generation);
}

/* The place of a holder in the index, or where it belongs. */
static uint16_t *index_at(struct flagshm_slots *slots, uint64_t flag_hash, uint64_t key)
{
    uint32_t mask = FLAGSHM_SLOTS * 2 - 1, at = (uint32_t)(flag_hash ^ key) & mask;

    for (;; at = (at + 1) & mask) {
        const struct flagshm_slot_holder *h = &slots->holders[(slots->index[at] - 1u) % FLAGSHM_SLOTS];

        if (slots->index[at] == 0 || (h->flag_hash == flag_hash && h->key == key))
            return &slots->index[at];
    }
}

static void index_all(struct flagshm_slots *slots)
{
    uint32_t i;

    memset(slots->index, 0, sizeof slots->index);
    for (i = 0; i < FLAGSHM_SLOTS; i++)
        if (slots->holders[i].flag_hash != 0)
            *index_at(slots, slots->holders[i].flag_hash, slots->holders[i].key) = (uint16_t)(i + 1);
}

void flagshm_slots_begin(struct flagshm_slots *slots)
{
    uint32_t i;

    slots->is_full = false;
    for (i = 0; i < FLAGSHM_SLOTS; i++)
        slots->holders[i].is_wanted = false;
    index_all(slots);
}

/* The fresh one with the lowest number, else the one that has rested longest, and long enough. */
static uint32_t find_free(const struct flagshm_slots *slots, uint64_t now_ns)
{
    uint32_t best = FLAGSHM_NO_SLOT, i;

    if (slots->generation == UINT32_MAX) /* the next one would be one that was given out before */
        return best;
    for (i = 0; i < FLAGSHM_SLOTS; i++) {
        const struct flagshm_slot_holder *h = &slots->holders[i];

        if (h->flag_hash != 0)
            continue;
        if (h->is_fresh)
            return i;
        if (now_ns - h->rested_from >= FLAGSHM_SLOT_REST_NS &&
            (best == FLAGSHM_NO_SLOT || h->rested_from < slots->holders[best].rested_from))
            best = i;
    }
    return best;
}

uint32_t flagshm_slots_want(struct flagshm_slots *slots, uint64_t flag_hash, uint64_t key, uint64_t now_ns,
                            bool *is_new)
{
    uint16_t *place = index_at(slots, flag_hash, key);
    uint32_t slot;

    *is_new = false;
    if (*place != 0) {
        slots->holders[*place - 1].is_wanted = true;
        return *place - 1u;
    }
    slot = slots->is_full ? FLAGSHM_NO_SLOT : find_free(slots, now_ns);
    if (slot == FLAGSHM_NO_SLOT) {
        slots->is_full = true;
        return slot;
    }
    slots->generation++;
    slots->before = slots->holders[slot];
    slots->holders[slot] = (struct flagshm_slot_holder){
        .flag_hash = flag_hash, .key = key, .generation = slots->generation, .is_wanted = true};
    *place = (uint16_t)(slot + 1);
    *is_new = true;
    return slot;
}

uint32_t flagshm_slots_held(struct flagshm_slots *slots, uint64_t flag_hash, uint64_t key)
{
    uint16_t place = *index_at(slots, flag_hash, key);

    return place != 0 ? place - 1u : FLAGSHM_NO_SLOT;
}

void flagshm_slots_rekey(struct flagshm_slots *slots, uint32_t slot, uint64_t key)
{
    slots->holders[slot % FLAGSHM_SLOTS].key = key;
    index_all(slots); /* an entry in the middle of a run cannot just go */
}

void flagshm_slots_end(struct flagshm_slots *slots, bool is_published, uint64_t now_ns)
{
    uint32_t i;

    for (i = 0; i < FLAGSHM_SLOTS; i++) {
        struct flagshm_slot_holder *h = &slots->holders[i];

        if (is_published && h->flag_hash != 0 && !h->is_wanted) {
            h->flag_hash = h->key = 0;
            h->rested_from = now_ns;
        }
        h->is_wanted = false;
    }
}

void flagshm_slots_take_back(struct flagshm_slots *slots, uint32_t slot)
{
    struct flagshm_slot_holder *h = &slots->holders[slot % FLAGSHM_SLOTS];

    *index_at(slots, h->flag_hash, h->key) = 0; /* the newest entry: no other stands behind it */
    *h = slots->before;
    slots->is_full = true;
}

bool flagshm_slots_has_free(const struct flagshm_slots *slots, uint64_t now_ns)
{
    return find_free(slots, now_ns) != FLAGSHM_NO_SLOT;
}

uint32_t flagshm_slots_find(const struct flagshm_slots *slots, uint64_t flag_hash)
{
    uint32_t i, found = FLAGSHM_NO_SLOT;

    for (i = 0; i < FLAGSHM_SLOTS; i++)
        if (slots->holders[i].flag_hash == flag_hash && flag_hash != 0 &&
            (found == FLAGSHM_NO_SLOT || slots->holders[i].generation > slots->holders[found].generation))
            found = i;
    return found;
}
