/* doorbell: a bad outcome wakes the server at once, a good one does not, and nobody's scribbling wakes, holds or ends it. */
#include "outcomes_fixture.h"

#include "server/doorbell.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

static struct outcomes_world w;
static struct flagshm_decision d;
static const struct flagshm_outcome bad = {.http_status = 500}, good = {.http_status = 200},
                                    limited = {.http_status = 429};

static void set_up(void)
{
    cr_assert(outcomes_begin(&w), "%s", w.error.text);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", "") ", " OUTCOMES_FLAG("g", "50", "")), 0);
    cr_assert_eq(flagshm_open(&w.fs, NULL), 0);
    outcomes_decide(&w, "f", 1, 0, &d);
}

static void tear_down(void)
{
    outcomes_end(&w);
}

TestSuite(doorbell, .init = set_up, .fini = tear_down);

static bool has_rung(int milliseconds)
{
    struct pollfd bell = {.fd = w.ledger.bell_fd, .events = POLLIN};

    return poll(&bell, 1, milliseconds) == 1;
}

static void record(const struct flagshm_outcome *o)
{
    cr_assert_eq(flagshm_record(&w.fs, &d, o), 0);
}

Test(doorbell, a_bad_outcome_rings_once_until_it_is_armed_again)
{
    int i;

    record(&bad);
    cr_assert_not(has_rung(20), "nobody has armed it");
    flagshm_ledger_arm(&w.ledger);
    cr_assert_eq(w.ledger.news, 1, "what came before is looked at when it is armed");
    cr_assert_not(has_rung(0));
    record(&good);
    record(&limited);
    cr_assert_not(has_rung(20));
    for (i = 0; i < 1000; i++)
        record(&bad);
    cr_assert(has_rung(1000));
    flagshm_ledger_rung(&w.ledger);
    cr_assert_eq(w.ledger.news, 2);
    cr_assert_not(has_rung(20), "a thousand failures, one ring");
    flagshm_ledger_rung(&w.ledger);
    cr_assert_eq(w.ledger.news, 2);
    flagshm_ledger_arm(&w.ledger);
    record(&bad);
    cr_assert(has_rung(1000));
}

Test(doorbell, it_says_which_slots_have_news)
{
    uint64_t dirty[FLAGSHM_SLOTS / 64];

    cr_assert_not(flagshm_outcomes_take(&w.ledger.file, dirty));
    record(&bad);
    outcomes_decide(&w, "g", 0, 0, &d);
    record(&bad);
    cr_assert(flagshm_outcomes_take(&w.ledger.file, dirty));
    cr_assert_eq(dirty[0], UINT64_C(1) << outcomes_slot(&w, "f") | UINT64_C(1) << outcomes_slot(&w, "g"));
    cr_assert_eq(dirty[1] | dirty[2] | dirty[3], 0);
    cr_assert_not(flagshm_outcomes_take(&w.ledger.file, dirty));
}

/* Generous: it takes some 30 us on an idle machine. What it must not be is the next tick. */
Test(doorbell, the_news_are_there_within_milliseconds)
{
    uint64_t worst = 0, best = UINT64_MAX;
    int i;

    for (i = 0; i < 100; i++) {
        uint64_t before, took;
        struct timespec nap = {0, 1000000};

        (void)nanosleep(&nap, NULL);
        flagshm_ledger_arm(&w.ledger);
        before = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
        record(&bad);
        cr_assert(has_rung(1000));
        flagshm_ledger_rung(&w.ledger);
        took = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) - before;
        worst = took > worst ? took : worst;
        best = took < best ? took : best;
    }
    cr_log_info("best %.1f us, worst %.1f us", (double)best / 1e3, (double)worst / 1e3);
    cr_assert_eq(w.ledger.news, 100);
    cr_assert_lt(best, 5000000);
}

Test(doorbell, an_adopted_segment_rings)
{
    uint32_t i;

    for (i = 1; i <= 3; i++) {
        outcomes_stop(&w);
        cr_assert(outcomes_start(&w));
        cr_assert(w.ledger.file.is_adopted);
        flagshm_ledger_arm(&w.ledger);
        record(&bad);
        cr_assert(has_rung(1000));
        flagshm_ledger_rung(&w.ledger);
    }
}

Test(doorbell, scribbling_over_the_word_ends_nobody)
{
    uint64_t random = 88172645463325252u, words = 0;
    struct timespec nap = {0, 200000};
    uint64_t end, began;

    end = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) + UINT64_C(1500000000);
    while (flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) < end) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        __atomic_store_n(words % 2 ? &w.ledger.file.segment->rung : &w.ledger.file.segment->armed,
                         words % 5   ? (uint32_t)random
                         : words % 3 ? 0
                                     : UINT32_MAX,
                         __ATOMIC_RELAXED);
        if (words % 7 == 0)
            record(&bad);
        if (++words % 64 == 0)
            (void)nanosleep(&nap, NULL);
    }
    cr_assert_gt(words, 1000);
    began = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
    outcomes_stop(&w);
    cr_assert_lt(flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) - began, UINT64_C(3000000000),
                 "it ends as ever");
    cr_assert(outcomes_start(&w));
    flagshm_ledger_arm(&w.ledger);
    record(&bad);
    cr_assert(has_rung(1000), "and the next server has a bell");
}

Test(doorbell, a_count_that_is_written_all_the_time_wakes_two_thousand_times_a_second_at_most)
{
    struct flagshm_doorbell *bell;
    struct flagshm_error error;
    uint32_t *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t rings = 0, begin, took;

    cr_assert_eq(flagshm_doorbell_open(&bell, word, fd, &error), 0);
    begin = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
    while (flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) - begin < UINT64_C(500000000)) {
        (void)__atomic_fetch_add(word, 1, __ATOMIC_RELAXED);
        (void)syscall(SYS_futex, word, FLAGSHM_FUTEX_WAKE_, 1, NULL, NULL, 0);
    }
    (void)!read(fd, &rings, sizeof rings);
    took = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) - begin; /* more, on a busy machine */
    cr_assert_gt(rings, 10);
    cr_assert_leq(rings, took / 500000 + 2);
    flagshm_doorbell_close(bell);
    (void)close(fd);
    (void)munmap(word, 4096);
}

/* An idle bell costs one wake-up a second: counted by the kernel. */
Test(doorbell, an_idle_bell_sleeps)
{
    struct rusage before, after;
    struct timespec nap = {2, 500000000};

    cr_assert_eq(getrusage(RUSAGE_SELF, &before), 0);
    (void)nanosleep(&nap, NULL);
    cr_assert_eq(getrusage(RUSAGE_SELF, &after), 0);
    cr_assert_leq(after.ru_nvcsw - before.ru_nvcsw, 20, "%ld switches in 2.5 s",
                  after.ru_nvcsw - before.ru_nvcsw);
}

Test(doorbell, cut_short_under_the_bell_nobody_ends)
{
    int i;

    for (i = 0; i < 3; i++) {
        cr_assert_eq(truncate(outcomes_path(&w), i * 100), 0);
        (void)has_rung(1200); /* the thread looks at its word again */
        w.mono_ns += OUTCOMES_SECOND;
        cr_assert(flagshm_ledger_beat(&w.ledger, &w.segment, w.mono_ns));
        cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", "")), 0);
        outcomes_decide(&w, "f", 1, 0, &d);
        flagshm_ledger_arm(&w.ledger);
        record(&bad);
        cr_assert(has_rung(1000));
        flagshm_ledger_rung(&w.ledger);
    }
}
