/* slots: which flag books its outcomes where.
 *
 * A slot belongs to one flag in one form: whatever changes what its counts mean (an arm's value, the share, weights, salt,
 * the force list, the guardrails) takes another slot, so that no evidence is ever mixed. A slot that was given up rests for an
 * hour before it is taken again: a call that began before may still end. Pure: the time is an argument.
 */
#ifndef FLAGSHM_SERVER_SLOTS_H
#define FLAGSHM_SERVER_SLOTS_H

#include "client/flagshm.h"

#include <stdbool.h>
#include <stdint.h>

#define FLAGSHM_SLOT_REST_NS UINT64_C(3600000000000)

struct flagshm_slot_holder {
    uint64_t flag_hash; /* 0: nobody's */
    uint64_t key;       /* of the flag's form: flagshm_table_form_key */
    uint32_t generation;
    bool is_fresh;        /* nothing was ever booked in it */
    bool is_wanted;       /* by the set that is being compiled */
    uint64_t rested_from; /* CLOCK_MONOTONIC ns of when it was given up */
};

struct flagshm_slots {
    struct flagshm_slot_holder holders[FLAGSHM_SLOTS];
    uint32_t generation;               /* the highest given out */
    bool is_full;                      /* while compiling: nothing is free */
    struct flagshm_slot_holder before; /* what the slot held that was given last */
    uint16_t index[FLAGSHM_SLOTS * 2]; /* while compiling: holders by flag and key; number + 1 */
};

/* All slots fresh. Generations go on above `generation`. */
void flagshm_slots_init(struct flagshm_slots *slots, uint32_t generation);

/* After adoption: this slot is held by a flag, in a form that is not known but for what the table serves. */
void flagshm_slots_adopt(struct flagshm_slots *slots, uint32_t slot, uint64_t flag_hash, uint64_t key,
                         uint32_t generation);
/* After adoption: this slot was in use once; it rests from `now_ns` on. */
void flagshm_slots_rest(struct flagshm_slots *slots, uint32_t slot, uint32_t generation, uint64_t now_ns);

/* Compiling a set: begin, want one for each flag that books outcomes (those that a guardrail watches first), and end when the table
 * is published (is_published), or was not. want: the slot, with *is_new where its memory is to be prepared; FLAGSHM_NO_SLOT where all are held or
 * rest. Between begin and end nothing is given up. */
void flagshm_slots_begin(struct flagshm_slots *slots);
uint32_t flagshm_slots_want(struct flagshm_slots *slots, uint64_t flag_hash, uint64_t key, uint64_t now_ns,
                            bool *is_new);
void flagshm_slots_end(struct flagshm_slots *slots, bool is_published, uint64_t now_ns);
/* Takes back the slot that want has just given as new: its memory could not be had. It rests no longer for that, and no other new
 * one is given before the next begin. */
void flagshm_slots_take_back(struct flagshm_slots *slots, uint32_t slot);
/* Would want give a new slot? */
bool flagshm_slots_has_free(const struct flagshm_slots *slots, uint64_t now_ns);

/* While compiling: the slot that a flag holds in this form, or FLAGSHM_NO_SLOT; and gives a form that goes on in the same slot another key. */
uint32_t flagshm_slots_held(struct flagshm_slots *slots, uint64_t flag_hash, uint64_t key);
void flagshm_slots_rekey(struct flagshm_slots *slots, uint32_t slot, uint64_t key);

/* The slot that a flag holds, or FLAGSHM_NO_SLOT. */
uint32_t flagshm_slots_find(const struct flagshm_slots *slots, uint64_t flag_hash);

#endif
