/* bench_readers: two readers at once, threads or processes, each on its own processor, beside one alone. A read path that
 * writes no shared cache line costs the same; a lock does not.
 *
 * The workers wait at semaphores in shared memory, begin together, and read for a while that is the same for all. */
#include "tests/bench_common.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SHARE_REF, DECIDE, RWLOCK, OPS };
enum { ALONE, THREADS, PROCESSES, WAYS };

/* One reader; [0] is the main thread, [1] a thread of ours, [2] a process of its own. */
struct worker {
    sem_t begin, end;
    struct bench_reader reader;
    struct bench_rwlock_reader rwlock;
    int op, cpu;
    uint64_t duration_ns;
    double ns; /* for each call */
    bool ends;
    pthread_t thread;
    pid_t pid;
} __attribute__((aligned(128)));

struct shared {
    struct worker workers[3];
    uint32_t ready __attribute__((aligned(128))); /* workers that wait for the others, actively */
};

static void work(struct shared *s, struct worker *w, uint32_t readers)
{
    static void (*const runs[OPS])(void *, size_t) = {bench_run_share_ref, bench_run_decide_ref,
                                                      bench_run_rwlock};
    void *context = w->op == RWLOCK ? (void *)&w->rwlock : (void *)&w->reader;
    uint64_t begin, own;
    size_t n = 0;

    runs[w->op](context, 200);
    __atomic_fetch_add(&s->ready, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&s->ready, __ATOMIC_ACQUIRE) < readers)
        ;
    begin = bench_now_ns();
    own = bench_own_ns();
    do {
        runs[w->op](context, 500);
        n += 500;
    } while (bench_now_ns() - begin < w->duration_ns);
    w->ns = (double)(bench_own_ns() - own) / (double)n;
}

static struct shared *shared; /* for the workers */

static void *work_on(void *argument)
{
    struct worker *w = argument;

    bench_pin(w->cpu);
    for (;;) {
        while (sem_wait(&w->begin) != 0)
            ;
        if (w->ends)
            return NULL;
        work(shared, w, 2);
        sem_post(&w->end);
    }
}

/* One round: nanoseconds for each call, the mean of the readers. */
static double once(int way, int op, uint64_t duration_ns)
{
    struct worker *own = &shared->workers[0], *other = &shared->workers[way];

    shared->ready = 0;
    own->op = other->op = op;
    own->duration_ns = other->duration_ns = duration_ns;
    if (way != ALONE)
        sem_post(&other->begin);
    work(shared, own, way == ALONE ? 1 : 2);
    if (way == ALONE)
        return own->ns;
    while (sem_wait(&other->end) != 0)
        ;
    return (own->ns + other->ns) / 2;
}

static void start(const struct bench_setup *setup, struct bench_store *store, void *rwlock)
{
    int i;

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        bench_die("no memory");
    for (i = 0; i < 3; i++) {
        struct worker *w = &shared->workers[i];

        if (sem_init(&w->begin, 1, 0) != 0 || sem_init(&w->end, 1, 0) != 0)
            bench_die("no semaphore");
        bench_reader_open(&w->reader, store, BENCH_FLAG, false);
        w->rwlock = (struct bench_rwlock_reader){.table = rwlock, .store = store};
        w->cpu = setup->cpu[i > 0];
    }
    shared->workers[2].pid = fork();
    if (shared->workers[2].pid == 0) {
        bench_end_with_parent();
        (void)work_on(&shared->workers[2]);
        _exit(0);
    }
    if (shared->workers[2].pid < 0 ||
        pthread_create(&shared->workers[1].thread, NULL, work_on, &shared->workers[1]) != 0)
        bench_die("no second reader");
}

static void stop(void)
{
    int i;

    for (i = 1; i < 3; i++) {
        shared->workers[i].ends = true;
        sem_post(&shared->workers[i].begin);
    }
    (void)pthread_join(shared->workers[1].thread, NULL);
    (void)waitpid(shared->workers[2].pid, NULL, 0);
    for (i = 0; i < 3; i++)
        bench_reader_close(&shared->workers[i].reader);
    (void)munmap(shared, sizeof *shared);
}

static void say(struct bench_op ops[WAYS][OPS])
{
    static const char *const what[OPS] = {"percentage, resolved flag", "decision, resolved flag",
                                          "process-shared rwlock"};
    static const char *const names[WAYS] = {"alone", "two threads", "two processes"};
    static char texts[WAYS][OPS][80];
    int way, op;

    for (op = 0; op < OPS; op++)
        for (way = 0; way < WAYS; way++) {
            (void)snprintf(texts[way][op], sizeof texts[way][op], "%s, %s", what[op], names[way]);
            ops[way][op].what = texts[way][op];
            if (way == ALONE)
                bench_row_plain(&ops[way][op]);
            else
                bench_row_times(&ops[way][op], &ops[ALONE][op], "one alone", op == RWLOCK ? 0 : 1.15);
        }
    bench_row_rival(&ops[PROCESSES][RWLOCK], &ops[PROCESSES][SHARE_REF], "ours, two processes each", 0);
}

void bench_group_readers(const struct bench_setup *setup)
{
    int rounds = setup->is_quick ? 9 : 31, round, way, op;
    uint64_t duration_ns = setup->is_quick ? 3000000 : 8000000;
    static struct bench_op ops[WAYS][OPS];
    struct bench_store store;
    struct bench_rivals *rivals;

    bench_group("Two readers at once, 1000 flags");
    if (setup->cpu[1] < 0) {
        bench_note("not measured: there is one processor");
        return;
    }
    bench_progress("two readers at once");
    bench_store_open(&store, setup, 1000);
    rivals = bench_rivals_open(setup, &store);
    start(setup, &store, bench_rivals_rwlock(rivals));
    for (round = 0; round < rounds; round++)
        for (op = 0; op < OPS; op++)
            for (way = 0; way < WAYS; way++) {
                ops[way][op].ns[round] = once(way, op, duration_ns);
                ops[way][op].rounds = round + 1;
            }
    stop();
    say(ops);
    bench_rivals_close(rivals);
    bench_store_close(&store);
}
