/* bench_writer: what readers lose while a writer on the other processor publishes the whole table again and again. */
#include "tests/bench_common.h"

#include <pthread.h>
#include <time.h>

enum pace { IDLE, KILOHERTZ, FULL, PACES };
enum { SHARE_REF, SHARE_NAME, NAME, REF, OPS };

struct writer {
    struct bench_store *store;
    int cpu;
    enum pace pace;              /* atomic */
    bool ends;                   /* atomic */
    uint64_t published, busy_ns; /* at full speed */
};

static void nap_until(uint64_t mono_ns)
{
    struct timespec when = {(time_t)(mono_ns / 1000000000u), (long)(mono_ns % 1000000000u)};

    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
}

static void *write_on(void *argument)
{
    struct writer *w = argument;
    uint64_t next = bench_now_ns();

    bench_pin(w->cpu);
    while (!__atomic_load_n(&w->ends, __ATOMIC_RELAXED)) {
        enum pace pace = __atomic_load_n(&w->pace, __ATOMIC_RELAXED);
        uint64_t begin = bench_now_ns();

        if (pace != IDLE)
            bench_store_publish(w->store);
        if (pace == FULL) {
            w->published++;
            w->busy_ns += bench_now_ns() - begin;
            continue;
        }
        next = next + 1000000 > begin ? next + 1000000 : begin + 1000000; /* no burst after a pause */
        nap_until(next);
    }
    return NULL;
}

/* Round by round, each pace in turn, each op in turn. */
static void measure(struct writer *w, struct bench_op ops[PACES][OPS], const struct bench_effort *effort)
{
    int round, pace, op;

    for (round = 0; round < effort->rounds; round++)
        for (pace = 0; pace < PACES; pace++) {
            __atomic_store_n(&w->pace, (enum pace)pace, __ATOMIC_RELAXED);
            nap_until(bench_now_ns() + 3000000); /* until it has taken the new pace */
            for (op = 0; op < OPS; op++) {
                ops[pace][op].n = ops[IDLE][op].n;
                ops[pace][op].ns[round] = bench_once(&ops[pace][op], effort->chunk_ns);
                ops[IDLE][op].n = ops[pace][op].n;
                ops[pace][op].rounds = round + 1;
            }
        }
}

static void say(const struct writer *w, struct bench_op ops[PACES][OPS])
{
    static const char *const with[PACES] = {"", "with a writer at 1 kHz", "with a writer at full speed"};
    int pace, op;

    for (op = 0; op < OPS; op++)
        bench_row_plain(&ops[IDLE][op]);
    for (pace = KILOHERTZ; pace < PACES; pace++)
        for (op = 0; op < OPS; op++) {
            const struct bench_op *beside = &ops[pace][op];
            struct bench_row row = {.value = bench_median(beside->ns, beside->rounds),
                                    .best = bench_min(beside),
                                    .ratio = bench_ratio(beside, &ops[IDLE][op]),
                                    .against = "none",
                                    .is_percent = true,
                                    .goal_sign = pace == KILOHERTZ ? '<' : 0,
                                    .goal = 1.05};

            (void)snprintf(row.what, sizeof row.what, "%s, %s", beside->what, with[pace] + strlen("with a "));
            bench_row_add(&row);
        }
    bench_note("at full speed %.0f publishes of the whole table a second; no decision ended in doubt",
               (double)w->published * 1e9 / (double)w->busy_ns);
}

static void beside_a_writer(const struct bench_setup *setup, size_t count)
{
    const struct bench_effort effort = {setup->is_quick ? 7 : 21, setup->is_quick ? 4e6 : 10e6};
    struct bench_store store;
    struct bench_reader reader;
    struct bench_op ops[PACES][OPS];
    struct writer w = {.store = &store, .cpu = setup->cpu[1]};
    pthread_t thread;
    int pace;

    bench_progress("a writer beside readers, %zu flags", count);
    bench_store_open(&store, setup, count);
    bench_reader_open(&reader, &store, BENCH_FLAG, false);
    for (pace = 0; pace < PACES; pace++) {
        ops[pace][SHARE_REF] =
            (struct bench_op){.what = "percentage, resolved", .run = bench_run_share_ref, .context = &reader};
        ops[pace][SHARE_NAME] =
            (struct bench_op){.what = "percentage, by name", .run = bench_run_share_name, .context = &reader};
        ops[pace][NAME] =
            (struct bench_op){.what = "decision, by name", .run = bench_run_decide_name, .context = &reader};
        ops[pace][REF] =
            (struct bench_op){.what = "decision, resolved", .run = bench_run_decide_ref, .context = &reader};
    }
    if (pthread_create(&thread, NULL, write_on, &w) != 0)
        bench_die("no thread for the writer");
    measure(&w, ops, &effort);
    __atomic_store_n(&w.ends, true, __ATOMIC_RELAXED);
    (void)pthread_join(thread, NULL);
    bench_group("A writer on the other core, %zu flags", count);
    if (reader.doubts != 0)
        bench_die("%llu decisions ended with an error", (unsigned long long)reader.doubts);
    say(&w, ops);
    bench_reader_close(&reader);
    bench_store_close(&store);
}

void bench_group_writer(const struct bench_setup *setup)
{
    if (setup->cpu[1] < 0) {
        bench_group("A writer on the other core");
        bench_note("not measured: there is one processor");
        return;
    }
    beside_a_writer(setup, 1000);
    if (!setup->is_quick) {
        beside_a_writer(setup, 10);
        beside_a_writer(setup, 100000);
    }
}
