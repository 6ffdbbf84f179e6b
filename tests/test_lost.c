/* lost: calls that were started and never finished are counted once they are overdue: each user once in the cells of now, all calls in the
 * arm's counter; what ends in time, or too late, takes nothing from anyone else. */
#include "outcomes_fixture.h"

#include <criterion/criterion.h>

#define OVERDUE OUTCOMES_HOUR /* far longer than this test runs: clients ask the real clock */

static struct outcomes_world w;
static const struct flagshm_slot_form form = {
    .arm_count = 2,
    .is_guarded = true,
    .signal_count = 2,
    .signals = {{FLAGSHM_SIGNAL_ERROR, true}, {FLAGSHM_SIGNAL_LOST, true}},
    .overdue_ns = OVERDUE};
static struct flagshm_slot_counts counts;
static uint32_t window;

static void set_up(void)
{
    cr_assert(outcomes_begin(&w), "%s", w.error.text);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", "")), 0);
    cr_assert_eq(flagshm_open(&w.fs, NULL), 0);
    cr_assert(outcomes_reform(&w, "f", &form));
    window = flagshm_load32_(&outcomes_slot_bytes(&w, "f")->lost_window);
}

static void tear_down(void)
{
    outcomes_end(&w);
}

TestSuite(lost, .init = set_up, .fini = tear_down);

static void book(unsigned user, uint32_t arm, enum flagshm_event event, uint64_t call_ns)
{
    const struct flagshm_outcome o = {.event = event, .http_status = 200, .call_ns = call_ns};
    struct flagshm_decision d;

    outcomes_decide(&w, "f", arm, user, &d);
    cr_assert_eq(flagshm_record(&w.fs, &d, &o), 0);
}

/* The server's beat in the window so many after the one that the test began in. */
static void turn(uint32_t later)
{
    const struct flagshm_header *h = w.segment.header;

    flagshm_outcomes_turn_lost(&w.ledger.file, outcomes_slot(&w, "f"),
                               &w.ledger.entries[outcomes_slot(&w, "f")].form,
                               (uint64_t)(window + later) * OVERDUE + 1, h->window_4h, h->window_1h);
    cr_assert(outcomes_read(&w, "f", &counts));
}

static void expect_lost(uint64_t control_calls, uint64_t variant_calls, uint32_t control_users,
                        uint32_t variant_users)
{
    static const struct {
        uint32_t first, last;
    } spans[] = {{0, 0}, {1, 2}, {3, 4}}; /* the slot; of the 4 h and of the 1 h windows one is counted in */
    size_t i;
    uint32_t at, users[2];

    cr_expect_eq(counts.arms[0].n[FLAGSHM_N_LOST], control_calls);
    cr_expect_eq(counts.arms[1].n[FLAGSHM_N_LOST], variant_calls);
    for (i = 0; i < 3; i++) {
        users[0] = users[1] = 0;
        for (at = spans[i].first; at <= spans[i].last; at++) {
            users[0] += counts.levels[1][at][0][0];
            users[1] += counts.levels[1][at][1][0];
        }
        cr_expect_eq(users[0], control_users, "control, span %zu: %u", i, users[0]);
        cr_expect_eq(users[1], variant_users, "variant, span %zu: %u", i, users[1]);
    }
    cr_expect_eq(counts.levels[0][0][0][0] + counts.levels[0][0][1][0], 0, "they are no errors");
}

Test(lost, what_ends_is_not_lost)
{
    unsigned i;

    for (i = 0; i < 100; i++)
        book(i, i % 2, FLAGSHM_STARTED, 0);
    for (i = 0; i < 100; i++)
        book(i, i % 2, FLAGSHM_FINISHED, 1000000);
    turn(1);
    turn(2);
    turn(3);
    expect_lost(0, 0, 0, 0);
}

Test(lost, what_starts_in_a_window_that_the_server_has_not_turned_yet_and_ends_is_not_lost)
{
    __atomic_store_n(&outcomes_slot_bytes(&w, "f")->lost_window, window - 1, __ATOMIC_RELAXED);
    book(0, 1, FLAGSHM_STARTED, 0);
    book(0, 1, FLAGSHM_FINISHED, 1000000);
    book(1, 1, FLAGSHM_STARTED, 0);
    book(2, 1, FLAGSHM_STARTED, 0);
    turn(0);
    book(1, 1, FLAGSHM_FINISHED, 1000000);
    turn(1);
    expect_lost(0, 1, 0, 1);
    turn(2);
    expect_lost(0, 1, 0, 1);
}

Test(lost, what_never_ends_counts_once_it_is_overdue_and_only_once)
{
    int i;

    book(0, 1, FLAGSHM_STARTED, 0);
    book(1, 1, FLAGSHM_STARTED, 0);
    book(0, 0, FLAGSHM_STARTED, 0);
    for (i = 0; i < 3; i++) /* one user, three calls, of which two end: with the one above, two are left */
        book(1, 1, FLAGSHM_STARTED, 0);
    for (i = 0; i < 2; i++)
        book(1, 1, FLAGSHM_FINISHED, 1000000);
    turn(1);
    expect_lost(0, 0, 0, 0);
    turn(2);
    expect_lost(1, 3, 1, 2);
    turn(3);
    turn(4);
    expect_lost(1, 3, 1, 2);
}

Test(lost, a_window_that_nobody_looked_at_is_counted_late)
{
    book(0, 1, FLAGSHM_STARTED, 0);
    turn(7); /* the server slept: of the two windows this one counts the other */
    expect_lost(0, 0, 0, 0);
    turn(8);
    expect_lost(0, 1, 0, 1);
}

Test(lost, who_ends_too_late_or_never_began_takes_nothing_from_others)
{
    book(0, 1, FLAGSHM_FINISHED, 1000000);
    book(0, 1, FLAGSHM_STARTED, 0);
    book(0, 1, FLAGSHM_FINISHED, 3 * OVERDUE); /* another call of that user, which counts as lost already */
    turn(1);
    turn(2);
    expect_lost(0, 1, 0, 1);
}

Test(lost, the_same_user_again_is_the_next_level)
{
    uint32_t round;

    for (round = 0; round < 4; round++) { /* calls start in the window of now, whichever that is */
        book(0, 1, FLAGSHM_STARTED, 0);
        turn(2 * round + 1);
        turn(2 * round + 2);
    }
    cr_expect_eq(counts.arms[1].n[FLAGSHM_N_LOST], 4);
    cr_expect_eq(counts.levels[1][0][1][0], 1);
    cr_expect_eq(counts.levels[1][0][1][1], 1, "2 = 2^1");
    cr_expect_eq(counts.levels[1][0][1][2], 1, "4 = 2^2");
    cr_expect_eq(counts.levels[1][0][1][3], 0);
}

Test(lost, before_the_wash_in_is_over_nothing_is_under_way)
{
    struct flagshm_slot *slot = outcomes_slot_bytes(&w, "f");

    slot->is_open = 0;
    book(0, 1, FLAGSHM_STARTED, 0);
    slot->is_open = 1;
    turn(1);
    turn(2);
    expect_lost(0, 0, 0, 0);
}
