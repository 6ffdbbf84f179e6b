/* arena: see the header. A chain of blocks, newest first; pieces are cut from the newest one only. */
#include "server/arena.h"

#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

/* Under the address sanitizer what was not handed out is poisoned, with a gap behind each piece: an arena
 * must not hide an overrun from the fuzzer. */
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#define GAP_BYTES          16u
#define HIDE(start, bytes) ASAN_POISON_MEMORY_REGION(start, bytes)
#define SHOW(start, bytes) ASAN_UNPOISON_MEMORY_REGION(start, bytes)
#else
#define GAP_BYTES          0u
#define HIDE(start, bytes) ((void)(start))
#define SHOW(start, bytes) ((void)(start))
#endif

#define ALIGN_BYTES       16u
#define FIRST_BLOCK_BYTES (64u * 1024u)
#define LAST_BLOCK_BYTES  (4u * 1024u * 1024u) /* blocks double up to here: few calls, little slack */

struct flagshm_arena_block {
    struct flagshm_arena_block *next;
    size_t capacity, used;
    _Alignas(ALIGN_BYTES) unsigned char bytes[];
};

static struct flagshm_arena_block *add_block(struct flagshm_arena *a, size_t bytes)
{
    size_t capacity = a->head ? a->head->capacity * 2 : FIRST_BLOCK_BYTES;
    struct flagshm_arena_block *block;

    if (capacity > LAST_BLOCK_BYTES)
        capacity = LAST_BLOCK_BYTES;
    if (capacity < bytes)
        capacity = bytes;
    block = malloc(sizeof *block + capacity);
    if (!block)
        return NULL;
    block->capacity = capacity;
    block->used = 0;
    block->next = a->head;
    a->head = block;
    HIDE(block->bytes, capacity);
    return block;
}

void *flagshm_arena_take(struct flagshm_arena *a, size_t bytes)
{
    struct flagshm_arena_block *block = a->head;
    size_t need;
    unsigned char *piece;

    if (bytes > SIZE_MAX / 4)
        return NULL;
    need = (bytes + GAP_BYTES + (bytes == 0) + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1);
    if (!block || block->capacity - block->used < need) {
        block = add_block(a, need);
        if (!block)
            return NULL;
    }
    piece = block->bytes + block->used;
    block->used += need;
    a->bytes += bytes;
    SHOW(piece, bytes);
    return piece;
}

char *flagshm_arena_copy(struct flagshm_arena *a, const char *bytes, size_t length)
{
    char *copy = length < SIZE_MAX ? flagshm_arena_take(a, length + 1) : NULL;

    if (!copy)
        return NULL;
    if (length > 0)
        memcpy(copy, bytes, length);
    copy[length] = '\0';
    return copy;
}

static void free_block(struct flagshm_arena_block *block)
{
    SHOW(block->bytes, block->capacity);
    free(block);
}

void flagshm_arena_reset(struct flagshm_arena *a)
{
    struct flagshm_arena_block *largest = a->head, *block, *next;

    for (block = a->head; block; block = block->next)
        if (block->capacity > largest->capacity)
            largest = block;
    for (block = a->head; block; block = next) {
        next = block->next;
        if (block != largest)
            free_block(block);
    }
    a->head = largest;
    a->bytes = 0;
    if (largest) {
        largest->next = NULL;
        largest->used = 0;
        HIDE(largest->bytes, largest->capacity);
    }
}

/* Behind the block that pieces are cut from, where there is one. */
void flagshm_arena_join(struct flagshm_arena *a, struct flagshm_arena *other)
{
    struct flagshm_arena_block **end = a->head ? &a->head->next : &a->head, *block = other->head;

    if (!block)
        return;
    while (block->next)
        block = block->next;
    block->next = *end;
    *end = other->head;
    a->bytes += other->bytes;
    other->head = NULL;
    other->bytes = 0;
}

void flagshm_arena_free(struct flagshm_arena *a)
{
    struct flagshm_arena_block *block, *next;

    for (block = a->head; block; block = next) {
        next = block->next;
        free_block(block);
    }
    a->head = NULL;
    a->bytes = 0;
}

/* cJSON has one pair of hooks for the process, without an argument. They are set before main(), so that no
 * thread ever sees them change, and do what malloc and free do on a thread that has not entered an arena. */
static _Thread_local struct flagshm_arena *entered;

static void *cjson_take(size_t bytes)
{
    return entered ? flagshm_arena_take(entered, bytes) : malloc(bytes);
}

static void cjson_give_back(void *piece)
{
    if (!entered)
        free(piece);
}

__attribute__((constructor)) static void set_cjson_hooks(void)
{
    cJSON_Hooks hooks = {cjson_take, cjson_give_back};

    cJSON_InitHooks(&hooks);
}

void flagshm_arena_enter_cjson(struct flagshm_arena *a)
{
    entered = a;
}

void flagshm_arena_leave_cjson(void)
{
    entered = NULL;
}
