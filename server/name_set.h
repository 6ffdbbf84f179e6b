/* name_set: byte strings, each with a number, found by hash. Strings are not copied; the slots lie in an
 * arena.
 *
 * For sets whose greatest size is known before: it never grows, and never holds more than it was made for.
 */
#ifndef FLAGSHM_SERVER_NAME_SET_H
#define FLAGSHM_SERVER_NAME_SET_H

#include "server/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flagshm_name_slot;
struct flagshm_name_set {
    struct flagshm_name_slot *slots;
    size_t mask;
};

/* False: no memory. */
bool flagshm_name_set_make(struct flagshm_name_set *set, size_t capacity, struct flagshm_arena *arena);
void flagshm_name_set_clear(struct flagshm_name_set *set); /* of all names; for as many again */
/* Adds the name with its number; where an equal one is there already, leaves it, sets *number to its
 * number, returns false. */
bool flagshm_name_set_add(struct flagshm_name_set *set, const char *name, size_t bytes, uint32_t *number);
/* True where it is there; sets *number. */
bool flagshm_name_set_find(const struct flagshm_name_set *set, const char *name, size_t bytes,
                           uint32_t *number);

#endif
