/* bench_reach: how soon harm is gone: from the outcome that proves it, booked here, to each of eight other processes that wait and then
 * decide control.
 *
 * Each trial takes a flag that no other took. Nine of the variant's calls fail, which proves nothing; the server has looked at them when the
 * tenth is booked. Where the tenth is not enough, the next one is, and counts from its own moment. All stamps are CLOCK_MONOTONIC. */
#include "tests/bench_rollouts.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READERS   8
#define TRIALS    220 /* each takes a slot, which then rests for an hour */
#define QUICK     40
#define LIMIT_NS  UINT64_C(2000000000)
#define NEXT_NS   UINT64_C(30000000) /* by then the last outcome was not enough */
#define FAILS_MAX 40

struct meeting { /* shared */
    uint32_t trial;
    uint32_t ready[READERS]; /* the trial that a reader waits in, + 1 */
    uint64_t seen_ns[READERS];
    char id[32]; /* of a user of the variant */
};

/* ---- eight processes ---- */

/* Waits until the flag's users have control; false: the trial was given up. */
static bool wait_for_control(struct flagshm *fs, struct meeting *m, int reader, uint32_t trial)
{
    struct flagshm_decision d;
    char flag[16];

    (void)snprintf(flag, sizeof flag, "f%u", trial);
    while (__atomic_load_n(&m->trial, __ATOMIC_ACQUIRE) == trial) {
        uint64_t version = flagshm_version(fs);

        (void)flagshm_decide(fs, flag, m->id, &d);
        if (d.arm == 0)
            return true;
        if (__atomic_exchange_n(&m->ready[reader], trial + 1, __ATOMIC_ACQ_REL) == trial + 1)
            (void)flagshm_wait(fs, version, 1000);
    }
    return false;
}

static void read_and_tell(const struct bench_rollouts *r, struct meeting *m, int reader)
{
    struct flagshm fs;

    (void)flagshm_open(&fs, r->instance);
    for (;;) {
        uint32_t trial = __atomic_load_n(&m->trial, __ATOMIC_ACQUIRE);

        if (!wait_for_control(&fs, m, reader, trial))
            continue;
        __atomic_store_n(&m->seen_ns[reader], bench_now_ns(), __ATOMIC_RELEASE);
        while (__atomic_load_n(&m->trial, __ATOMIC_ACQUIRE) == trial)
            bench_sleep_ms(1);
    }
}

static void unpin(const struct bench_setup *setup)
{
    cpu_set_t set;
    int i;

    CPU_ZERO(&set);
    for (i = 0; i < 2; i++)
        if (setup->cpu[i] >= 0)
            CPU_SET((size_t)setup->cpu[i], &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

/* ---- the journal ---- */

static sqlite3_stmt *open_journal(const struct bench_rollouts *r, sqlite3 **db)
{
    sqlite3_stmt *statement = NULL;
    char path[400];

    (void)snprintf(path, sizeof path, "%s/journal.sqlite", r->state);
    if (sqlite3_open_v2(path, db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(*db, "SELECT 1 FROM event WHERE flag = ?1 AND kind IN ('breaker', 'guardrail')",
                           -1, &statement, NULL) != SQLITE_OK)
        bench_die("%s: %s", path, sqlite3_errmsg(*db));
    return statement;
}

/* Until the roll-back stands in the journal, as another process reads it. */
static uint64_t wait_for_commit(sqlite3_stmt *statement, const char *flag)
{
    uint64_t limit = bench_now_ns() + LIMIT_NS;
    bool is_there = false;

    (void)sqlite3_bind_text(statement, 1, flag, -1, SQLITE_TRANSIENT);
    while (!is_there && bench_now_ns() < limit) {
        struct timespec pause = {0, 50000};

        is_there = sqlite3_step(statement) == SQLITE_ROW;
        (void)sqlite3_reset(statement);
        if (!is_there)
            (void)nanosleep(&pause, NULL);
    }
    return bench_now_ns();
}

/* ---- a trial ---- */

/* The next user of an arm, from *at on. */
static void next_user(struct flagshm *fs, const char *flag, uint32_t arm, unsigned *at, char id[32],
                      struct flagshm_decision *d)
{
    do {
        (void)snprintf(id, 32, "user-%07u", (*at)++);
        if (*at > 10000000)
            bench_die("%s does not split", flag);
    } while (flagshm_decide(fs, flag, id, d) != FLAGSHM_SPLIT || d->arm != arm || d->slot == FLAGSHM_NO_SLOT);
}

static void book_one(struct flagshm *fs, const char *flag, uint32_t arm, unsigned *at, uint32_t status)
{
    const struct flagshm_outcome started = {.event = FLAGSHM_STARTED}, finished = {.http_status = status};
    struct flagshm_decision d;
    char id[32];

    next_user(fs, flag, arm, at, id, &d);
    if (flagshm_record(fs, &d, &started) != 0 || flagshm_record(fs, &d, &finished) != 0)
        bench_die("an outcome of %s cannot be booked", flag);
}

static bool have_all(const struct meeting *m)
{
    int i;

    for (i = 0; i < READERS; i++)
        if (__atomic_load_n(&m->seen_ns[i], __ATOMIC_ACQUIRE) == 0)
            return false;
    return true;
}

static void wait_for_readers(const struct meeting *m, uint32_t trial)
{
    uint64_t limit = bench_now_ns() + LIMIT_NS;
    int i;

    for (i = 0; i < READERS; i++)
        while (__atomic_load_n(&m->ready[i], __ATOMIC_ACQUIRE) != trial + 1)
            if (bench_now_ns() < limit)
                bench_sleep_ms(1);
            else
                bench_die("reader %d does not wait", i);
}

static bool saw_one(const struct meeting *m, uint64_t until_ns)
{
    int i;

    do {
        for (i = 0; i < READERS; i++)
            if (__atomic_load_n(&m->seen_ns[i], __ATOMIC_ACQUIRE) != 0)
                return true;
        bench_sleep_ms(1);
    } while (bench_now_ns() < until_ns);
    return false;
}

/* When the outcome was booked that proved it; 0: nothing did. */
static uint64_t prove(struct bench_rollouts *r, struct meeting *m, const char *flag)
{
    unsigned control = 0, variant = 5000000;
    uint64_t begin = 0;
    int i;

    for (i = 0; i < 40; i++)
        book_one(&r->fs, flag, 0, &control, 200);
    for (i = 0; i < 9; i++)
        book_one(&r->fs, flag, 1, &variant, 500);
    bench_sleep_ms(10);
    for (; i < FAILS_MAX; i++) {
        begin = bench_now_ns();
        book_one(&r->fs, flag, 1, &variant, 500);
        if (saw_one(m, begin + NEXT_NS))
            return begin;
    }
    return 0;
}

struct figures {
    double reach[TRIALS * READERS], all[TRIALS], commit[TRIALS];
    int reached, trials, lost;
};

static void try_one(struct bench_rollouts *r, struct meeting *m, uint32_t trial, sqlite3_stmt *statement,
                    struct figures *f)
{
    struct flagshm_decision d;
    unsigned at = 9000000;
    uint64_t begin, limit, last = 0;
    char flag[16];
    int i;

    (void)snprintf(flag, sizeof flag, "f%u", trial);
    next_user(&r->fs, flag, 1, &at, m->id, &d);
    memset(m->seen_ns, 0, sizeof m->seen_ns);
    __atomic_store_n(&m->trial, trial, __ATOMIC_RELEASE);
    wait_for_readers(m, trial);
    begin = prove(r, m, flag);
    limit = bench_now_ns() + LIMIT_NS;
    while (begin != 0 && !have_all(m) && bench_now_ns() < limit)
        bench_sleep_ms(1);
    if (begin == 0 || !have_all(m)) {
        f->lost++;
        return;
    }
    for (i = 0; i < READERS; i++) {
        f->reach[f->reached++] = (double)(m->seen_ns[i] - begin);
        last = m->seen_ns[i] > last ? m->seen_ns[i] : last;
    }
    f->all[f->trials] = (double)(last - begin);
    f->commit[f->trials++] = (double)(wait_for_commit(statement, flag) - begin);
}

static void tell(const struct figures *f)
{
    bench_group("from the outcome that proves harm");
    bench_row_value("to a process that decides control, half within", BENCH_NS,
                    bench_median(f->reach, f->reached), bench_quantile(f->reach, f->reached, 0), '<', 1e6);
    bench_row_value("to a process that decides control, 99 % within", BENCH_NS,
                    bench_quantile(f->reach, f->reached, 0.99), -1, '<', 5e6);
    bench_row_value("to the last of eight, half within", BENCH_NS, bench_median(f->all, f->trials),
                    bench_quantile(f->all, f->trials, 0), 0, 0);
    bench_row_value("to its commit, half within", BENCH_NS, bench_median(f->commit, f->trials),
                    bench_quantile(f->commit, f->trials, 0), 0, 0);
    bench_row_value("to its commit, 99 % within", BENCH_NS, bench_quantile(f->commit, f->trials, 0.99), -1, 0,
                    0);
    bench_row_value("roll-backs that did not arrive", BENCH_COUNT, f->lost, -1, '<', 0);
    bench_note("%d roll-backs, of a flag each, seen by %d processes in flagshm_wait(); the journal lies on "
               "tmpfs and is "
               "read by another process",
               f->trials, READERS);
}

void bench_reach(const struct bench_setup *setup)
{
    struct bench_rollouts r;
    struct meeting *m = bench_share(sizeof *m);
    struct figures *f = calloc(1, sizeof *f);
    uint32_t trials = setup->is_quick ? QUICK : TRIALS, i;
    sqlite3_stmt *statement;
    pid_t readers[READERS];
    sqlite3 *db;

    if (f == NULL)
        bench_die("no memory");
    bench_progress("from harm to control");
    bench_rollouts_open(&r, setup, "bench-reach", trials, "1s");
    (void)snprintf(m->id, sizeof m->id, "user-0");
    m->trial = UINT32_MAX; /* a flag that there is not: control at once */
    unpin(setup);
    for (i = 0; i < READERS; i++) {
        readers[i] = fork();
        if (readers[i] == 0) {
            bench_end_with_parent();
            read_and_tell(&r, m, (int)i);
        }
    }
    statement = open_journal(&r, &db);
    while (!have_all(m))
        bench_sleep_ms(1);
    for (i = 0; i < trials; i++)
        try_one(&r, m, i, statement, f);
    tell(f);
    (void)sqlite3_finalize(statement);
    (void)sqlite3_close(db);
    for (i = 0; i < READERS; i++)
        bench_end_process(readers[i], SIGKILL);
    bench_rollouts_close(&r);
    bench_pin(setup->cpu[0]);
    bench_unshare(m, sizeof *m);
    free(f);
}
