/* arena: memory that is taken in small pieces and given back all at once.
 *
 * One arena holds everything that was read from one flag file, cJSON's nodes too (its hooks have no argument, so
 * the arena in use is thread-local while cJSON parses). Never returns NULL for a size of 0.
 */
#ifndef FLAGSHM_SERVER_ARENA_H
#define FLAGSHM_SERVER_ARENA_H

#include <stddef.h>

struct flagshm_arena_block;
struct flagshm_arena {
    struct flagshm_arena_block *head;
    size_t bytes; /* handed out since the last reset */
};

void *flagshm_arena_take(struct flagshm_arena *a, size_t bytes); /* 16-byte aligned, not cleared; NULL: no memory */
char *flagshm_arena_copy(struct flagshm_arena *a, const char *bytes, size_t length); /* adds a NUL */
void flagshm_arena_reset(struct flagshm_arena *a); /* forgets all pieces, keeps the largest block */
void flagshm_arena_free(struct flagshm_arena *a);

/* While entered, cJSON allocates from `a` on this thread (frees are ignored); leave restores malloc. */
void flagshm_arena_enter_cjson(struct flagshm_arena *a);
void flagshm_arena_leave_cjson(void);

#endif
