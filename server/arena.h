/* arena: memory that is taken in small pieces and given back all at once.
 *
 * Everything that is kept of one flag file lies in one arena; what is needed only while it is read (cJSON's
 * nodes, the places) lies in another. cJSON's hooks have no argument, so the arena in use is thread-local
 * while cJSON parses. An arena that is all zeros is empty and ready. One thread at a time.
 */
#ifndef FLAGSHM_SERVER_ARENA_H
#define FLAGSHM_SERVER_ARENA_H

#include <stddef.h>

struct flagshm_arena_block;
struct flagshm_arena {
    struct flagshm_arena_block *head;
    size_t bytes; /* handed out since the last reset */
};

/* 16-byte aligned, not cleared; NULL: no memory (never for a size of 0 as such). */
void *flagshm_arena_take(struct flagshm_arena *a, size_t bytes);
/* A copy with a NUL behind it; NULL: no memory. */
char *flagshm_arena_copy(struct flagshm_arena *a, const char *bytes, size_t length);
void flagshm_arena_reset(struct flagshm_arena *a); /* forgets all pieces, keeps the largest block */
void flagshm_arena_join(struct flagshm_arena *a, struct flagshm_arena *other); /* all that is in `other` */
void flagshm_arena_free(struct flagshm_arena *a); /* keeps nothing; the arena may be used again */

/* While entered, cJSON allocates from `a` on this thread and its frees are ignored; leave goes back to
 * malloc. Other threads go on with malloc meanwhile. What cJSON made from malloc must not be freed while
 * entered, nor the other way. */
void flagshm_arena_enter_cjson(struct flagshm_arena *a);
void flagshm_arena_leave_cjson(void);

#endif
