#include "server/arena.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

Test(arena, pieces_are_aligned_apart_and_keep_what_is_written)
{
    struct flagshm_arena a = {0};
    unsigned char *pieces[3000];
    size_t i, j, total = 0;

    for (i = 0; i < 3000; i++) {
        size_t bytes = i % 97;

        pieces[i] = flagshm_arena_take(&a, bytes);
        cr_assert_not_null(pieces[i]);
        cr_assert_eq((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)(i & 0xff), bytes);
        total += bytes;
    }
    for (i = 0; i < 3000; i++)
        for (j = 0; j < i % 97; j++)
            cr_assert_eq(pieces[i][j], i & 0xff, "piece %zu", i);
    cr_assert_eq(a.bytes, total);
    flagshm_arena_free(&a);
    cr_assert_null(a.head);
    cr_assert_eq(a.bytes, 0);
}

Test(arena, a_piece_may_be_larger_than_any_block_so_far)
{
    struct flagshm_arena a = {0};
    char *small = flagshm_arena_take(&a, 1), *large = flagshm_arena_take(&a, 9u << 20);

    cr_assert(small && large);
    large[0] = 'a';
    large[(9u << 20) - 1] = 'z';
    *small = 's';
    cr_assert_eq(*small, 's');
    flagshm_arena_free(&a);
}

Test(arena, a_size_that_cannot_be_gives_null)
{
    struct flagshm_arena a = {0};

    cr_assert_null(flagshm_arena_take(&a, SIZE_MAX));
    cr_assert_null(flagshm_arena_take(&a, SIZE_MAX - 15));
    cr_assert_null(flagshm_arena_copy(&a, "", SIZE_MAX));
    cr_assert_null(a.head);
}

Test(arena, copy_ends_in_nul_and_takes_any_bytes)
{
    struct flagshm_arena a = {0};
    char *copy = flagshm_arena_copy(&a, "a\0b", 3);

    cr_assert_eq(memcmp(copy, "a\0b\0", 4), 0);
    cr_assert_str_eq(flagshm_arena_copy(&a, NULL, 0), "");
    flagshm_arena_free(&a);
}

Test(arena, reset_keeps_the_largest_block_and_forgets_the_pieces)
{
    struct flagshm_arena a = {0};
    struct flagshm_arena_block *largest;

    flagshm_arena_take(&a, 10);
    flagshm_arena_take(&a, 20u << 20);
    largest = a.head;
    flagshm_arena_take(&a, 100u << 10);
    flagshm_arena_reset(&a);
    cr_assert_eq(a.head, largest);
    cr_assert_eq(a.bytes, 0);
    cr_assert_not_null(flagshm_arena_take(&a, 20u << 20));
    cr_assert_eq(a.head, largest, "the kept block holds what it held");
    flagshm_arena_free(&a);
    flagshm_arena_reset(&a);
    cr_assert_null(a.head);
}

Test(arena, cjson_takes_from_the_entered_arena_and_from_malloc_otherwise)
{
    struct flagshm_arena a = {0};
    cJSON *node;
    size_t before;

    flagshm_arena_enter_cjson(&a);
    node = cJSON_Parse("{\"a\": [1, 2, {\"b\": \"c\"}]}");
    cr_assert_not_null(node);
    cr_assert_gt(a.bytes, 5 * sizeof(cJSON) - 1);
    cr_assert_null(cJSON_Parse("{\"a\": [1, 2"), "what a failed parse frees is ignored");
    flagshm_arena_leave_cjson();

    before = a.bytes;
    node = cJSON_Parse("[1]");
    cr_assert_eq(a.bytes, before);
    cJSON_Delete(node);
    flagshm_arena_free(&a);
}

static void *parse_in_thread(void *argument)
{
    struct flagshm_arena *a = argument;
    cJSON *node = cJSON_Parse("[1, 2, 3]");
    size_t bytes = a->bytes;

    cJSON_Delete(node);
    return bytes == 0 ? NULL : argument;
}

Test(arena, an_entered_arena_is_that_of_one_thread)
{
    struct flagshm_arena a = {0};
    pthread_t thread;
    void *touched;

    flagshm_arena_enter_cjson(&a);
    cr_assert_eq(pthread_create(&thread, NULL, parse_in_thread, &a), 0);
    pthread_join(thread, &touched);
    flagshm_arena_leave_cjson();
    cr_assert_null(touched);
    flagshm_arena_free(&a);
}
