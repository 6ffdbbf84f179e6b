/* bench_record: what it costs to book the outcome of a call: beside seven atomic additions that nobody disputes, with a second
 * writer on another processor, and beside the two obvious ways to count: counters that all writers share, and a mutex. */
#include "tests/bench_common.h"

#include "server/ledger.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define ADDS 7u /* what a full outcome cannot do without: a call, two token sums, two times, two sizes */

struct writer { /* one for each processor */
    struct flagshm *fs;
    struct flagshm_decision decision;
    struct flagshm_outcome outcome;
    struct bench_record *record;
    flagshm_u64_ own[ADDS] __attribute__((aligned(128)));
} __attribute__((aligned(128)));

struct pair { /* the same op twice, here and on a thread of its own */
    void (*run)(void *context, size_t n);
    struct writer *writers;
    sem_t begin, end;
    uint32_t ready;
    size_t n;
    int cpu;
    double ns; /* of the thread's part */
    bool ends;
    pthread_t thread;
};

struct bench_record {
    struct flagshm_segment segment;
    struct flagshm_outcomes_options options;
    struct flagshm_ledger ledger;
    struct flagshm fs;
    struct flagshm_flagfile file;
    struct writer
        writers[4]; /* a guarded flag's good call, twice; a plain flag's; a guarded one's bad call */
    flagshm_u64_ shared[ADDS] __attribute__((aligned(128)));
    struct {
        pthread_mutex_t lock;
        uint64_t sums[ADDS];
    } locked __attribute__((aligned(128)));
};

static const struct flagshm_outcome full = {.http_status = 200,
                                            .latency_ns = 900000000,
                                            .ttft_ns = 200000000,
                                            .input_tokens = 812,
                                            .output_tokens = 140,
                                            .attempts = 1,
                                            .json_checked = true,
                                            .json_valid = true,
                                            .schema_checked = true,
                                            .schema_valid = true};

/* ---- what is measured ---- */

/* Another user each time, so that the filters are really looked at; one multiplication. */
static void next_user(struct writer *w)
{
    w->decision.id_hash = w->decision.id_hash * UINT64_C(6364136223846793005) + 1442695040888963407u;
}

void bench_run_record(void *context, size_t n)
{
    struct writer *w = context;
    int bad = 0;

    for (; n > 0; n--) {
        next_user(w);
        bad |= flagshm_record(w->fs, &w->decision, &w->outcome);
    }
    if (bad != 0)
        bench_die("flagshm_record: %d", bad);
}

void bench_run_adds(void *context, size_t n)
{
    struct writer *w = context;
    size_t i;

    for (; n > 0; n--)
        for (i = 0; i < ADDS; i++)
            (void)__atomic_fetch_add(&w->own[i], 1, __ATOMIC_RELAXED);
}

static void run_shared(void *context, size_t n)
{
    struct writer *w = context;
    size_t i;

    for (; n > 0; n--)
        for (i = 0; i < ADDS; i++)
            (void)__atomic_fetch_add(&w->record->shared[i], 1, __ATOMIC_RELAXED);
}

static void run_mutex(void *context, size_t n)
{
    struct writer *w = context;
    size_t i;

    for (; n > 0; n--) {
        (void)pthread_mutex_lock(&w->record->locked.lock);
        for (i = 0; i < ADDS; i++)
            w->record->locked.sums[i]++;
        (void)pthread_mutex_unlock(&w->record->locked.lock);
    }
}

/* ---- two at once ---- */

static void meet(struct pair *p)
{
    (void)__atomic_fetch_add(&p->ready, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&p->ready, __ATOMIC_ACQUIRE) < 2)
        ;
}

static void *write_beside(void *argument)
{
    struct pair *p = argument;

    bench_pin(p->cpu);
    for (;;) {
        uint64_t own;

        while (sem_wait(&p->begin) != 0)
            ;
        if (p->ends)
            return NULL;
        meet(p);
        own = bench_own_ns();
        p->run(&p->writers[1], p->n);
        p->ns = (double)(bench_own_ns() - own);
        (void)sem_post(&p->end);
    }
}

/* Mean of the two. */
static double timed_pair(void *context, size_t n)
{
    struct pair *p = context;
    uint64_t own;
    double ns;

    p->n = n;
    p->ready = 0;
    (void)sem_post(&p->begin);
    meet(p);
    own = bench_own_ns();
    p->run(&p->writers[0], n);
    ns = (double)(bench_own_ns() - own);
    while (sem_wait(&p->end) != 0)
        ;
    return (ns + p->ns) / 2;
}

static void pair_open(struct pair *p, void (*run)(void *, size_t), struct bench_record *record, int cpu)
{
    memset(p, 0, sizeof *p);
    p->run = run;
    p->writers = record->writers;
    p->cpu = cpu;
    if (sem_init(&p->begin, 0, 0) != 0 || sem_init(&p->end, 0, 0) != 0 ||
        pthread_create(&p->thread, NULL, write_beside, p) != 0)
        bench_die("no thread");
}

static void pair_close(struct pair *p)
{
    p->ends = true;
    (void)sem_post(&p->begin);
    (void)pthread_join(p->thread, NULL);
}

/* ---- a table with two flags, and their slots ---- */

static void publish(struct bench_record *r)
{
    static const char text[] = "{\"flags\": {"
                               "\"guarded\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 50, "
                               "\"guardrails\": \"default\"},"
                               "\"plain\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 50}}}";
    uint64_t now = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
    struct flagshm_table_booking booking = flagshm_ledger_begin(&r->ledger, now, now);
    struct flagshm_table_entry entries[2];
    struct flagshm_diags diags = {0};
    struct flagshm_table table;
    struct flagshm_error error;

    if (flagshm_flagfile_parse(&r->file, text, sizeof text - 1, NULL, &diags) != 0 || diags.errors != 0)
        bench_die("the flags are not good");
    entries[0] = (struct flagshm_table_entry){.flag = &r->file.entries[0].flag,
                                              .guards = r->file.entries[0].flag.guards};
    entries[1] = (struct flagshm_table_entry){.flag = &r->file.entries[1].flag};
    if (flagshm_table_build_booked(&table, entries, 2, NULL, &booking) != 0 ||
        flagshm_segment_publish(&r->segment, &table, 1, 1, &error) != 0)
        bench_die("the table cannot be published");
    flagshm_ledger_name(&r->ledger, &r->segment);
    flagshm_ledger_end(&r->ledger, true, now);
    flagshm_outcomes_open_slot(&r->ledger.file, 0);
    flagshm_table_free(&table);
    flagshm_diags_free(&diags);
}

static void writer_open(struct bench_record *r, unsigned number, const char *flag)
{
    struct writer *w = &r->writers[number];
    char id[32];
    unsigned i;

    w->fs = &r->fs;
    w->record = r;
    w->outcome = full;
    for (i = 0; i < 1000; i++) {
        (void)snprintf(id, sizeof id, "user-%u-%u", number, i);
        if (flagshm_decide(w->fs, flag, id, &w->decision) == FLAGSHM_SPLIT && w->decision.arm == 1 &&
            w->decision.slot != FLAGSHM_NO_SLOT)
            return;
    }
    bench_die("%s has no slot", flag);
}

struct bench_record *bench_record_open(const struct bench_setup *setup)
{
    struct bench_record *r = aligned_alloc(128, (sizeof *r + 127) / 128 * 128);
    struct flagshm_segment_options options = {.dir = setup->dir,
                                              .instance = "bench-record",
                                              .group = (gid_t)-1,
                                              .stale_after_ns = UINT64_C(3600000000000)};
    pthread_mutexattr_t shared;
    struct flagshm_error error = {{0}};

    if (r == NULL)
        bench_die("no memory");
    memset(r, 0, sizeof *r);
    r->options =
        (struct flagshm_outcomes_options){.dir = setup->dir, .instance = "bench-record", .group = (gid_t)-1};
    if (flagshm_segment_open(&r->segment, &options, &error) != 0 ||
        flagshm_ledger_open(&r->ledger, &r->options, &r->segment, flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_),
                            UINT64_C(1800000000000000000), &error) != 0)
        bench_die("%s", error.text);
    publish(r);
    if (flagshm_open(&r->fs, "bench-record") != 0)
        bench_die("the table cannot be opened");
    writer_open(r, 0, "guarded");
    writer_open(r, 1, "guarded");
    writer_open(r, 2, "plain");
    writer_open(r, 3, "guarded");
    r->writers[3].outcome.http_status = 500;
    if (pthread_mutexattr_init(&shared) != 0 ||
        pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED) != 0 ||
        pthread_mutex_init(&r->locked.lock, &shared) != 0)
        bench_die("no mutex");
    return r;
}

void *bench_record_writer(struct bench_record *r)
{
    return &r->writers[0];
}

void bench_record_close(struct bench_record *r)
{
    char path[400];

    flagshm_close(&r->fs);
    flagshm_ledger_close(&r->ledger);
    (void)unlink(r->ledger.file.path);
    (void)snprintf(path, sizeof path, "%s", r->segment.path);
    flagshm_segment_close(&r->segment);
    (void)unlink(path);
    flagshm_flagfile_free(&r->file);
    free(r);
}

/* ---- the group ---- */

enum { SEVEN, GUARDED, PLAIN, BAD, TWO, SHARED, TWO_SHARED, MUTEX, TWO_MUTEX, OPS };

void bench_group_record(const struct bench_setup *setup)
{
    const struct bench_effort effort = {setup->is_quick ? 7 : 21, setup->is_quick ? 3e6 : 8e6};
    struct bench_record *r = bench_record_open(setup);
    struct writer *w = r->writers;
    struct pair pairs[3];
    struct bench_op ops[OPS] = {
        [SEVEN] = {.what = "seven atomic additions", .run = bench_run_adds, .context = &w[0]},
        [GUARDED] = {.what = "flagshm_record, full, guarded flag", .run = bench_run_record, .context = &w[0]},
        [PLAIN] = {.what = "flagshm_record, full, plain flag", .run = bench_run_record, .context = &w[2]},
        [BAD] = {.what = "flagshm_record, a failure, guarded flag",
                 .run = bench_run_record,
                 .context = &w[3]},
        [SHARED] = {.what = "seven additions to shared counters", .run = run_shared, .context = &w[0]},
        [MUTEX] = {.what = "seven sums behind a mutex", .run = run_mutex, .context = &w[0]},
        [TWO] = {.what = "flagshm_record, two writers", .timed = timed_pair, .context = &pairs[0]},
        [TWO_SHARED] = {.what = "shared counters, two writers", .timed = timed_pair, .context = &pairs[1]},
        [TWO_MUTEX] = {.what = "a mutex, two writers", .timed = timed_pair, .context = &pairs[2]},
    };
    bool has_two = setup->cpu[1] >= 0;

    bench_progress("recording");
    bench_run_record(&r->writers[0], 3000000); /* cells and users as after a day */
    pair_open(&pairs[0], bench_run_record, r, setup->cpu[1]);
    pair_open(&pairs[1], run_shared, r, setup->cpu[1]);
    pair_open(&pairs[2], run_mutex, r, setup->cpu[1]);
    if (!has_two) { /* they would wait for each other's turns */
        struct bench_op alone[] = {ops[SEVEN], ops[GUARDED], ops[PLAIN], ops[BAD], ops[SHARED], ops[MUTEX]};
        static const int which[] = {SEVEN, GUARDED, PLAIN, BAD, SHARED, MUTEX};
        size_t i;

        bench_interleave(alone, sizeof alone / sizeof alone[0], &effort);
        for (i = 0; i < sizeof alone / sizeof alone[0]; i++)
            ops[which[i]] = alone[i];
    } else {
        bench_interleave(ops, OPS, &effort);
    }
    bench_group("recording the outcome of a call");
    bench_row_plain(&ops[SEVEN]);
    bench_row_times(&ops[GUARDED], &ops[SEVEN], "seven atomic additions", 2);
    bench_row_times(&ops[PLAIN], &ops[SEVEN], "seven atomic additions", 0);
    bench_row_times(&ops[BAD], &ops[SEVEN], "seven atomic additions", 0);
    bench_row_times(&ops[SHARED], &ops[SEVEN], "seven atomic additions", 0);
    bench_row_times(&ops[MUTEX], &ops[SEVEN], "seven atomic additions", 0);
    if (has_two) {
        bench_row_times(&ops[TWO], &ops[GUARDED], "one writer", 2);
        bench_row_times(&ops[TWO_SHARED], &ops[SHARED], "one writer", 0);
        bench_row_times(&ops[TWO_MUTEX], &ops[MUTEX], "one writer", 0);
    } else {
        bench_note("two writers were not measured: one processor");
    }
    pair_close(&pairs[0]);
    pair_close(&pairs[1]);
    pair_close(&pairs[2]);
    bench_record_close(r);
}
