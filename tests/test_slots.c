/* slots: who holds which, for how long it rests, and that no generation comes twice. */
#include "server/slots.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define HOUR FLAGSHM_SLOT_REST_NS

static struct flagshm_slots *slots;

static void set_up(void)
{
    slots = malloc(sizeof *slots);
    cr_assert_not_null(slots);
    flagshm_slots_init(slots, 1000);
}

static void tear_down(void)
{
    free(slots);
}

TestSuite(slots, .init = set_up, .fini = tear_down);

static uint32_t want(uint64_t flag, uint64_t key, uint64_t now_ns, bool *is_new)
{
    return flagshm_slots_want(slots, flag, key, now_ns, is_new);
}

/* One compilation that wants flags `from` ... `to` - 1 (hash n + 1, this key); how many got a slot. */
static unsigned compile(uint64_t from, uint64_t to, uint64_t key, bool is_published, uint64_t now_ns)
{
    unsigned given = 0;
    bool is_new;
    uint64_t n;

    flagshm_slots_begin(slots);
    for (n = from; n < to; n++)
        given += want(n + 1, key, now_ns, &is_new) != FLAGSHM_NO_SLOT;
    flagshm_slots_end(slots, is_published, now_ns);
    return given;
}

Test(slots, fresh_ones_are_given_from_the_first_on)
{
    bool is_new;
    uint32_t n;

    flagshm_slots_begin(slots);
    for (n = 0; n < 5; n++) {
        cr_assert_eq(want(10 + n, 7, 0, &is_new), n);
        cr_assert(is_new);
        cr_assert_eq(slots->holders[n].generation, 1001 + n);
    }
    flagshm_slots_end(slots, true, 0);
    cr_assert_eq(flagshm_slots_find(slots, 12), 2);
    cr_assert_eq(flagshm_slots_find(slots, 99), FLAGSHM_NO_SLOT);
    cr_assert_eq(flagshm_slots_find(slots, 0), FLAGSHM_NO_SLOT);
}

Test(slots, the_same_form_keeps_its_slot_and_generation)
{
    uint32_t generation;
    bool is_new;
    int i;

    compile(0, 3, 7, true, 0);
    generation = slots->holders[1].generation;
    for (i = 0; i < 100; i++) {
        flagshm_slots_begin(slots);
        cr_assert_eq(want(3, 7, 5, &is_new), 2); /* in any order */
        cr_assert_eq(want(2, 7, 5, &is_new), 1);
        cr_assert_not(is_new);
        flagshm_slots_end(slots, true, 5);
    }
    cr_assert_eq(slots->holders[1].generation, generation);
    cr_assert_eq(slots->holders[0].flag_hash, 0, "what nobody wanted is given up");
}

Test(slots, another_form_takes_another_slot)
{
    bool is_new;

    compile(0, 1, 7, true, 0);
    flagshm_slots_begin(slots);
    cr_assert_eq(want(1, 8, 1, &is_new), 1);
    cr_assert(is_new);
    cr_assert_eq(slots->holders[0].flag_hash, 1, "nothing is given up before the table is published");
    flagshm_slots_end(slots, true, 1);
    cr_assert_eq(slots->holders[0].flag_hash, 0);
    cr_assert_eq(flagshm_slots_find(slots, 1), 1);
    compile(0, 1, 7, true, 2);
    cr_assert_eq(flagshm_slots_find(slots, 1), 2, "back to the first form: its slot rests");
}

Test(slots, one_that_was_given_up_rests_for_an_hour_to_the_nanosecond)
{
    compile(0, FLAGSHM_SLOTS, 7, true, 0);
    compile(0, FLAGSHM_SLOTS - 1, 7, true, 50); /* the last one is given up at 50 */
    cr_assert_eq(compile(0, FLAGSHM_SLOTS + 1, 7, true, 50 + HOUR - 1), FLAGSHM_SLOTS - 1);
    cr_assert_not(flagshm_slots_has_free(slots, 50 + HOUR - 1));
    cr_assert(flagshm_slots_has_free(slots, 50 + HOUR));
    cr_assert_eq(compile(0, FLAGSHM_SLOTS + 1, 7, true, 50 + HOUR), FLAGSHM_SLOTS);
    cr_assert_not(flagshm_slots_has_free(slots, 50 + 9 * HOUR));
}

Test(slots, the_longest_rested_goes_first)
{
    bool is_new;

    compile(0, FLAGSHM_SLOTS, 7, true, 0);
    compile(2, FLAGSHM_SLOTS, 7, true, 200); /* 0 and 1 at 200 */
    slots->holders[0].rested_from = 300;     /* 1 has rested longer than 0 */
    flagshm_slots_begin(slots);
    cr_assert_eq(want(9001, 7, 300 + HOUR, &is_new), 1);
    cr_assert_eq(want(9002, 7, 300 + HOUR, &is_new), 0);
    cr_assert_eq(want(9003, 7, 300 + HOUR, &is_new), FLAGSHM_NO_SLOT);
    flagshm_slots_end(slots, true, 300 + HOUR);
}

Test(slots, exhaustion_refuses_the_later_ones_and_disturbs_nobody)
{
    bool is_new = true;

    cr_assert_eq(compile(0, 300, 7, true, 0), FLAGSHM_SLOTS);
    flagshm_slots_begin(slots);
    cr_assert_eq(want(1, 7, 1, &is_new), 0);
    cr_assert_eq(want(299, 7, 1, &is_new), FLAGSHM_NO_SLOT);
    cr_assert_not(is_new);
    cr_assert_eq(want(2, 7, 1, &is_new), 1, "who holds one keeps it");
    flagshm_slots_end(slots, false, 1);
    cr_assert_eq(compile(0, 10000, 7, true, 2), FLAGSHM_SLOTS);
}

Test(slots, a_table_that_was_not_published_gives_up_nothing)
{
    uint32_t generation, slot;
    bool is_new;

    compile(0, 1, 7, true, 0);
    generation = slots->holders[0].generation;
    compile(0, 1, 8, false, 1); /* the new form failed */
    cr_assert_eq(slots->holders[0].flag_hash, 1);
    cr_assert_eq(slots->holders[0].generation, generation, "clients go on booking there");
    flagshm_slots_begin(slots);
    slot = want(1, 8, 2, &is_new);
    cr_assert_eq(slot, 1);
    cr_assert_not(is_new, "the next try finds what the first one was given");
    flagshm_slots_end(slots, true, 2);
    cr_assert_eq(slots->holders[0].flag_hash, 0);
    cr_assert_eq(slots->holders[0].rested_from, 2);
}

Test(slots, one_that_got_no_memory_goes_back_as_it_was)
{
    struct flagshm_slot_holder before;
    bool is_new;
    uint32_t slot;

    compile(0, 4, 7, true, 0);
    compile(1, 4, 7, true, 10);
    before = slots->holders[4];
    flagshm_slots_begin(slots);
    slot = want(77, 7, 20, &is_new);
    cr_assert(is_new);
    cr_assert_eq(slot, 4);
    flagshm_slots_take_back(slots, slot);
    cr_assert_eq(slots->holders[4].is_fresh, before.is_fresh);
    cr_assert_eq(slots->holders[4].flag_hash, 0);
    cr_assert_eq(want(78, 7, 20, &is_new), FLAGSHM_NO_SLOT, "the next one would not get any either");
    cr_assert_eq(want(2, 7, 20, &is_new), 1);
    flagshm_slots_end(slots, true, 20);
    cr_assert(flagshm_slots_has_free(slots, 20));
    flagshm_slots_begin(slots);
    cr_assert_eq(want(77, 7, 21, &is_new), 4);
    cr_assert(is_new);
    flagshm_slots_end(slots, true, 21);
}

Test(slots, generations_never_repeat)
{
    uint32_t last = 1000, round, i;
    uint64_t now = 0;

    for (round = 0; round < 2000; round++) {
        uint32_t highest = last;

        now += HOUR / 3;
        compile(round % 5, round % 5 + 60 + round % 200, round, round % 7 != 0, now);
        for (i = 0; i < FLAGSHM_SLOTS; i++) {
            const struct flagshm_slot_holder *h = &slots->holders[i];
            uint32_t j;

            if (h->generation > highest)
                highest = h->generation;
            for (j = 0; h->generation != 0 && j < i; j++)
                cr_assert_neq(h->generation, slots->holders[j].generation);
        }
        cr_assert_geq(highest, last);
        last = highest;
    }
    cr_assert_gt(last, 2000);
}

Test(slots, the_last_generation_is_the_last)
{
    bool is_new;

    flagshm_slots_init(slots, UINT32_MAX - 2);
    flagshm_slots_begin(slots);
    cr_assert_eq(want(1, 7, 0, &is_new), 0);
    cr_assert_eq(want(2, 7, 0, &is_new), 1);
    cr_assert_eq(slots->holders[1].generation, UINT32_MAX);
    cr_assert_eq(want(3, 7, 0, &is_new), FLAGSHM_NO_SLOT, "0 would follow, and then those that were given");
    cr_assert_eq(want(1, 7, 0, &is_new), 0);
    flagshm_slots_end(slots, true, 0);
    cr_assert_not(flagshm_slots_has_free(slots, 0));
}

Test(slots, adopted_ones_are_held_or_rest_from_now_on)
{
    bool is_new;

    flagshm_slots_rest(slots, 0, 5000, 100);
    flagshm_slots_rest(slots, 3, 4000, 100);
    flagshm_slots_adopt(slots, 3, 42, 7, 4000); /* the table names it */
    flagshm_slots_adopt(slots, 9999, 43, 7, 1); /* no such slot */
    flagshm_slots_rest(slots, 9999, 9000, 100);
    flagshm_slots_adopt(slots, 5, 44, 7, 0); /* no such generation */
    flagshm_slots_begin(slots);
    cr_assert_eq(want(42, 7, 200, &is_new), 3);
    cr_assert_not(is_new);
    cr_assert_eq(slots->holders[3].generation, 4000);
    cr_assert_eq(want(50, 7, 200, &is_new), 1, "0 rests");
    cr_assert_eq(slots->holders[1].generation, 5001, "above all that was found");
    flagshm_slots_end(slots, true, 200);
    cr_assert_eq(flagshm_slots_find(slots, 43), FLAGSHM_NO_SLOT);
    cr_assert_eq(flagshm_slots_find(slots, 44), FLAGSHM_NO_SLOT);
}
