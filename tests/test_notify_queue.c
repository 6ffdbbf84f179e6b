/* notify_queue: when a notice is tried, which one, and what is told of it. Time and chance are given. */
#include "server/notify_queue.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define NOON   UINT64_C(1764072000000000000) /* CLOCK_REALTIME */
#define START  (1000 * SECOND)               /* CLOCK_MONOTONIC */

static struct notify_queue queue;
static struct flagshm_notify_report report;
static const struct flagshm_error refused = {"it answered 500"};

static void tear_down(void)
{
    notify_queue_free(&queue);
}

TestSuite(notify_queue, .fini = tear_down);

static void give(const char *id, const char *target, uint64_t now_ns)
{
    notify_queue_give(&queue, id, target, "{}", NOON, NOON, now_ns);
}

static struct notify_notice *next(uint64_t now_ns)
{
    return notify_queue_next(&queue, now_ns);
}

static void fail_next(uint64_t now_ns, double chance)
{
    struct notify_notice *notice = next(now_ns);

    cr_assert_not_null(notice);
    notify_queue_failed(&queue, notice, &refused, now_ns, chance);
}

static void expect_next(uint64_t now_ns, const char *id, const char *target)
{
    struct notify_notice *notice = next(now_ns);

    cr_assert_not_null(notice, "%s for %s was expected", id, target);
    cr_assert_str_eq(notice->id, id);
    cr_assert_str_eq(notice->target, target);
}

Test(notify_queue, a_failed_try_waits_twice_as_long_as_the_one_before_up_to_five_minutes)
{
    static const unsigned seconds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300};
    unsigned tries;

    for (tries = 1; tries <= 11; tries++) {
        cr_expect_eq(notify_delay_ns(tries, 0), seconds[tries - 1] * SECOND, "try %u", tries);
        cr_expect_eq(notify_delay_ns(tries, 1), seconds[tries - 1] * SECOND * 3 / 4, "try %u", tries);
    }
    cr_assert_eq(notify_delay_ns(4000000000u, 0), 300 * SECOND);
}

Test(notify_queue, a_notice_is_tried_at_once_and_then_by_the_schedule_until_its_day_is_over)
{
    uint64_t now = START, waited = 0;
    unsigned tries = 0;

    give("n1", "oncall", START);
    while (queue.count > 0) {
        uint64_t due;

        fail_next(now, 0);
        tries++;
        if (queue.count == 0)
            break;
        cr_assert_null(next(now));
        due = notify_queue_due_ns(&queue);
        cr_assert_null(next(due - 1));
        cr_assert(due - now == notify_delay_ns(tries, 0) || due == START + DAY);
        waited = due - START;
        now = due;
    }
    cr_assert_eq(waited, DAY, "the last try is at its end");
    cr_assert_geq(tries, 288, "all five minutes");
    cr_assert(notify_queue_take(&queue, &report));
    cr_assert(report.is_given_up && !report.is_delivered);
    cr_assert_eq(report.tries, tries);
    cr_assert_str_eq(report.error.text, refused.text);
    cr_assert_not(notify_queue_take(&queue, &report), "the first failure is told by the last report here");
}

Test(notify_queue, the_day_counts_from_when_the_notice_came_to_be)
{
    notify_queue_give(&queue, "n1", "a", "{}", NOON - DAY + 10 * SECOND, NOON, START);
    fail_next(START + 9 * SECOND, 0);
    cr_assert_eq(queue.count, 1);
    fail_next(START + 10 * SECOND, 0);
    cr_assert_eq(queue.count, 0);
}

Test(notify_queue, an_old_notice_has_one_try)
{
    notify_queue_give(&queue, "n1", "a", "{}", 0, NOON, START);
    fail_next(START, 0);
    cr_assert(notify_queue_take(&queue, &report));
    cr_assert(report.is_given_up);
    cr_assert_eq(report.tries, 1);
}

Test(notify_queue, a_notice_from_the_future_has_its_day)
{
    notify_queue_give(&queue, "n1", "a", "{}", NOON + 1000 * DAY, NOON, START);
    fail_next(START + DAY - 1, 0);
    cr_assert_eq(queue.count, 1);
    fail_next(START + DAY, 0);
    cr_assert_eq(queue.count, 0);
}

Test(notify_queue, the_first_failure_is_told_once_and_then_the_end)
{
    give("n1", "oncall", START);
    fail_next(START, 0);
    cr_assert(notify_queue_take(&queue, &report));
    cr_assert_str_eq(report.id, "n1");
    cr_assert_str_eq(report.target, "oncall");
    cr_assert(!report.is_delivered && !report.is_given_up);
    cr_assert_eq(report.tries, 1);
    cr_assert_str_eq(report.error.text, refused.text);
    fail_next(START + SECOND, 0);
    cr_assert_not(notify_queue_take(&queue, &report));
    notify_queue_delivered(&queue, next(START + 3 * SECOND));
    cr_assert(notify_queue_take(&queue, &report));
    cr_assert(report.is_delivered && !report.is_given_up);
    cr_assert_eq(report.tries, 3);
    cr_assert_str_empty(report.error.text);
    cr_assert_not(notify_queue_take(&queue, &report));
}

Test(notify_queue, one_try_at_a_time_for_each_target_and_the_oldest_that_is_due_first)
{
    struct notify_notice *first;

    give("n1", "a", START);
    give("n2", "a", START);
    give("n1", "b", START);
    first = next(START);
    cr_assert_str_eq(first->id, "n1");
    expect_next(START, "n1", "b");
    cr_assert_null(next(START), "both targets are busy");
    cr_assert_eq(notify_queue_due_ns(&queue), UINT64_MAX);
    notify_queue_failed(&queue, first, &refused, START, 0);
    expect_next(START, "n2", "a");
    cr_assert_null(next(START + HOUR), "busy again");
}

Test(notify_queue, one_notice_that_a_target_refuses_does_not_hold_up_the_next)
{
    give("bad", "a", START);
    fail_next(START, 0);
    give("good", "a", START);
    expect_next(START, "good", "a");
}

Test(notify_queue, the_same_notice_for_the_same_target_is_there_once)
{
    give("n1", "a", START);
    give("n1", "a", START);
    give("n1", "b", START);
    give("n2", "a", START);
    cr_assert_eq(queue.count, 3);
    notify_queue_delivered(&queue, next(START));
    give("n1", "a", START);
    cr_assert_eq(queue.count, 2, "until its last report was taken");
    cr_assert(notify_queue_take(&queue, &report));
    give("n1", "a", START);
    cr_assert_eq(queue.count, 3);
}

Test(notify_queue, no_more_than_so_many_fly_at_a_time)
{
    struct notify_notice *last = NULL;
    char target[16];
    unsigned i;

    for (i = 0; i <= NOTIFY_FLYING_MAX; i++) {
        (void)snprintf(target, sizeof target, "t%u", i);
        give("n", target, START);
    }
    for (i = 0; i < NOTIFY_FLYING_MAX; i++)
        last = next(START);
    cr_assert_null(next(START));
    cr_assert_eq(notify_queue_due_ns(&queue), UINT64_MAX);
    notify_queue_delivered(&queue, last);
    expect_next(START, "n", target);
}

Test(notify_queue, too_many_drop_the_oldest_that_is_not_being_tried_and_say_so)
{
    char id[16];
    unsigned i;

    for (i = 0; i < NOTIFY_WAITING_MAX; i++) {
        (void)snprintf(id, sizeof id, "n%u", i);
        give(id, "a", START);
    }
    expect_next(START, "n0", "a");
    cr_assert_not(notify_queue_take(&queue, &report));
    give("one more", "a", START);
    cr_assert_eq(queue.count, NOTIFY_WAITING_MAX);
    cr_assert(notify_queue_take(&queue, &report));
    cr_assert_str_eq(report.id, "n1");
    cr_assert(report.is_given_up);
    cr_assert_not_null(strstr(report.error.text, "the oldest is given up"));
    cr_assert_not(notify_queue_take(&queue, &report));
}

Test(notify_queue, an_id_that_no_report_can_hold_is_given_up_at_once)
{
    char id[161];

    memset(id, 'x', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    give(id, "a", START);
    cr_assert_null(next(START));
    cr_assert(notify_queue_take(&queue, &report));
    cr_assert(report.is_given_up);
    cr_assert_str_eq(report.error.text, "its id or the name of its target is too long");
    id[159] = '\0';
    give(id, "a", START);
    expect_next(START, id, "a");
}
