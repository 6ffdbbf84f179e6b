/* stress_outcomes: processes that book outcomes at full speed and are killed by SIGKILL at random moments, so between any two of the
 * additions of a call, while the server's reader looks on: never more bad calls than calls, and of each killed process at most one
 * call is lost. Then threads, for the thread sanitizer. Usage: stress_outcomes [KILLS [MILLISECONDS]].
 *
 * Compiled a second time as stress_outcomes_bad_first (FLAGSHM_STRESS_BAD_FIRST), which books the failure before the call, it must
 * find more failures than calls, and ends with the first. */
#include "outcomes_fixture.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define THREADS 3

/* One kind at a time: every call is bad then, and a bad count that is ahead by one shows. */
static const struct flagshm_outcome outcomes[] = {
    {.http_status = 500},
    {.transport_error = true},
    {.http_status = 429},
    {.http_status = 200, .json_checked = true, .schema_checked = true, .tool_checked = true},
    {.http_status = 200, .refusal = true, .truncated = true, .empty = true, .attempts = 3, .limited = true},
    {.http_status = 529, .attempts = 2},
};
#define OUTCOMES (sizeof outcomes / sizeof outcomes[0])

static const struct {
    const char *what;
    uint8_t part, whole;
} parts[] = {
    {"failed > finished", FLAGSHM_N_FAILED, FLAGSHM_N_FINISHED},
    {"transport > failed", FLAGSHM_N_TRANSPORT, FLAGSHM_N_FAILED},
    {"limited > met_limit", FLAGSHM_N_LIMITED, FLAGSHM_N_MET_LIMIT},
    {"met_limit > finished", FLAGSHM_N_MET_LIMIT, FLAGSHM_N_FINISHED},
    {"json_invalid > json_checked", FLAGSHM_N_JSON_INVALID, FLAGSHM_N_JSON_CHECKED},
    {"json_checked > finished", FLAGSHM_N_JSON_CHECKED, FLAGSHM_N_FINISHED},
    {"schema_invalid > schema_checked", FLAGSHM_N_SCHEMA_INVALID, FLAGSHM_N_SCHEMA_CHECKED},
    {"tool_invalid > tool_checked", FLAGSHM_N_TOOL_INVALID, FLAGSHM_N_TOOL_CHECKED},
    {"refusal > finished", FLAGSHM_N_REFUSAL, FLAGSHM_N_FINISHED},
    {"truncated > finished", FLAGSHM_N_TRUNCATED, FLAGSHM_N_FINISHED},
    {"empty > finished", FLAGSHM_N_EMPTY, FLAGSHM_N_FINISHED},
    {"judged > finished", FLAGSHM_N_JUDGED, FLAGSHM_N_FINISHED},
    {"users > started", FLAGSHM_N_USERS_STARTED, FLAGSHM_N_STARTED},
};

struct board { /* in memory that all processes share */
    uint64_t finished, started;
};

static struct outcomes_world w;
static struct board *board;
static struct flagshm_decision decisions[64];
static uint64_t looks, wrong;
static uint32_t kind; /* of the outcomes that are booked now */
static int stop;
static pthread_t threads[THREADS];
static unsigned running;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t now_ns(void)
{
    return flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
}

static void book(struct flagshm *fs, const struct flagshm_decision *d, const struct flagshm_outcome *o)
{
#ifdef FLAGSHM_STRESS_BAD_FIRST
    struct flagshm_booked_ b = {0};

    if (flagshm_book_(fs, d, false, &b) != 1)
        return;
    if (flagshm_has_failed_(o))
        flagshm_add64_last_(&b.counters[FLAGSHM_N_FAILED], 1);
    flagshm_add64_last_(&b.counters[FLAGSHM_N_FINISHED], 1);
#else
    if (flagshm_record(fs, d, o) != 0)
        abort();
#endif
}

/* Until it is killed, or stop is set. */
static void book_on(uint64_t random, uint64_t *finished, uint64_t *started)
{
    static const struct flagshm_outcome start = {.event = FLAGSHM_STARTED};

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        const struct flagshm_decision *d = &decisions[next_random(&random) % 64];

        if (random >> 60 == 0) {
            if (flagshm_record(&w.fs, d, &start) == 0)
                (void)__atomic_fetch_add(started, 1, __ATOMIC_RELAXED);
            continue;
        }
        book(&w.fs, d, &outcomes[kind]);
        (void)__atomic_fetch_add(finished, 1, __ATOMIC_RELAXED);
    }
}

static void end_threads(void)
{
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    while (running > 0)
        (void)pthread_join(threads[--running], NULL);
}

/* ---- the reader ---- */

static void look(void)
{
    struct flagshm_slot_counts counts;
    uint32_t arm, i, signal;

    looks++;
    if (!outcomes_read(&w, "f", &counts)) {
        (void)fprintf(stderr, "stress_outcomes: the slot cannot be read\n");
        exit(1);
    }
    for (arm = 0; arm < 2; arm++) {
        const uint64_t *n = counts.arms[arm].n;

        for (i = 0; i < sizeof parts / sizeof parts[0]; i++)
            if (n[parts[i].part] > n[parts[i].whole] && wrong++ < 5)
                (void)fprintf(stderr, "arm %u: %s: %" PRIu64 ", %" PRIu64 "\n", arm, parts[i].what,
                              n[parts[i].part], n[parts[i].whole]);
        for (signal = 0; signal < FLAGSHM_SIGNALS_MAX; signal++)
            if (counts.capped_bad[arm][signal] > counts.capped_calls[arm] && wrong++ < 5)
                (void)fprintf(stderr, "arm %u: signal %u: more bad calls than calls\n", arm, signal);
    }
#ifdef FLAGSHM_STRESS_BAD_FIRST
    if (wrong > 0) {
        (void)printf("found after %" PRIu64 " looks: failures without a call\n", looks);
        end_threads(); /* they book in what goes now */
        outcomes_end(&w);
        exit(0);
    }
#else
    if (w.ledger.entries[outcomes_slot(&w, "f")].is_tainted && wrong++ < 5)
        (void)fprintf(stderr, "honest clients count as liars\n");
#endif
}

static uint64_t total(uint32_t counter)
{
    struct flagshm_slot_counts counts;

    return outcomes_read(&w, "f", &counts) ? counts.arms[0].n[counter] + counts.arms[1].n[counter] : 0;
}

/* ---- processes ---- */

static unsigned kill_them(unsigned kills, uint64_t until_ns)
{
    uint64_t random = 4711;
    unsigned n;

    for (n = 0; n < kills && now_ns() < until_ns; n++) {
        uint64_t end = now_ns() + 100000 + next_random(&random) % 1000000;
        pid_t child = fork();

        if (child == 0) {
            if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
                _exit(1);
            book_on(random | 1, &board->finished, &board->started);
            _exit(0);
        }
        if (child < 0)
            exit(1);
        while (now_ns() < end)
            look();
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
        look();
    }
    return n;
}

/* ---- threads ---- */

static void *book_in_thread(void *seed)
{
    book_on(*(uint64_t *)seed, &board->finished, &board->started);
    return NULL;
}

static void run_threads(uint64_t milliseconds)
{
    uint64_t seeds[THREADS], end = now_ns() + milliseconds * 1000000;
    unsigned i;

    for (i = 0; i < THREADS; i++) {
        seeds[i] = 977 * (i + 1);
        if (pthread_create(&threads[i], NULL, book_in_thread, &seeds[i]) != 0)
            exit(1);
        running++;
    }
    while (now_ns() < end)
        look();
    end_threads();
    look();
}

static void prepare(void)
{
    struct flagshm_slot_form form = w.ledger.entries[outcomes_slot(&w, "f")].form;

    if (!outcomes_reform(&w, "f", &form))
        exit(1);
    board->finished = board->started = 0;
}

/* Is what was booked there, and no more than one call of each process that was killed beside it? */
static void check_sums(uint64_t killed)
{
    uint64_t finished = total(FLAGSHM_N_FINISHED), started = total(FLAGSHM_N_STARTED);

    if (finished >= board->finished && finished + started <= board->finished + board->started + killed &&
        started >= board->started)
        return;
    (void)fprintf(stderr,
                  "%" PRIu64 " and %" PRIu64 " calls were booked, %" PRIu64 " and %" PRIu64 " are there\n",
                  board->started, board->finished, started, finished);
    wrong++;
}

int main(int argc, char **argv)
{
    unsigned kills = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 3000, killed = 0, now, i;
    uint64_t milliseconds = argc > 2 ? strtoull(argv[2], NULL, 10) : 2000, calls = 0;
    uint64_t until = now_ns() + UINT64_C(60000000000);

    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED || !outcomes_begin(&w) ||
        outcomes_publish(&w, OUTCOMES_FLAG("f", "50", OUTCOMES_GUARDED)) != 0 ||
        flagshm_open(&w.fs, NULL) != 0)
        return 1;
    for (i = 0; i < 64; i++)
        outcomes_decide(&w, "f", i % 2, i / 2, &decisions[i]);
    for (kind = 0; kind < OUTCOMES; kind++) {
        prepare();
        now = kill_them(kills / OUTCOMES, until);
        check_sums(now);
        killed += now;
        calls += board->finished;
    }
    (void)printf("%u processes killed, %" PRIu64 " calls, %" PRIu64 " looks\n", killed, calls, looks);
    kind = 1;
    prepare();
    run_threads(milliseconds);
    check_sums(0);
    (void)printf("%" PRIu64 " calls of %d threads, %" PRIu64 " looks in all; %" PRIu64 " wrong\n",
                 board->finished, THREADS, looks, wrong);
    outcomes_end(&w);
#ifdef FLAGSHM_STRESS_BAD_FIRST
    (void)fprintf(stderr, "the negative control found nothing\n");
    return 1;
#else
    return wrong != 0;
#endif
}
