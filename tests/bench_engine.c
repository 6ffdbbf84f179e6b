/* bench_engine: takes time. See bench_common.h for how rivals are compared. */
#include "tests/bench_common.h"

#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

uint64_t bench_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_own_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void bench_end_with_parent(void)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
}

void bench_pin(int cpu)
{
    cpu_set_t set;

    if (cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

size_t bench_zero(void)
{
    size_t zero = 0;

    __asm__ volatile("" : "+r"(zero));
    return zero;
}

static double once(const struct bench_op *op, size_t n)
{
    uint64_t begin;

    if (op->timed != NULL)
        return op->timed(op->context, n);
    begin = op->waits ? bench_now_ns() : bench_own_ns();
    op->run(op->context, n);
    return (double)((op->waits ? bench_now_ns() : bench_own_ns()) - begin);
}

/* So many times that a round takes about chunk_ns; warms up on the way. One slow try (a page fault, a turn of others) is
 * no ground to stop at: the number found must hold when it is tried. */
static size_t find_n(const struct bench_op *op, double chunk_ns)
{
    size_t n = 1;
    int tries;

    for (tries = 0; tries < 40; tries++) {
        double ns = once(op, n), scale = ns > 0 ? chunk_ns / ns : 8;

        if (scale < 1.5 && (scale > 0.6 || n == 1) && tries > 2)
            break;
        scale = scale > 8 ? 8 : scale;
        n = (size_t)((double)n * scale);
        n = n > 0 ? n : 1;
    }
    return n;
}

double bench_once(struct bench_op *op, double chunk_ns)
{
    if (op->n == 0)
        op->n = find_n(op, chunk_ns);
    return once(op, op->n) / (double)op->n;
}

void bench_interleave(struct bench_op *ops, size_t count, const struct bench_effort *effort)
{
    size_t i;
    int round;

    for (i = 0; i < count; i++)
        (void)bench_once(&ops[i], effort->chunk_ns);
    for (round = 0; round < effort->rounds && round < BENCH_ROUNDS_MAX; round++) {
        for (i = 0; i < count; i++) { /* another one begins each round */
            struct bench_op *op = &ops[(i + (size_t)round) % count];

            op->ns[round] = bench_once(op, effort->chunk_ns);
            op->rounds = round + 1;
        }
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double bench_quantile(const double *values, int count, double quantile)
{
    double *sorted, result;
    size_t n = (size_t)count, i, at;

    if (count <= 0)
        return NAN;
    sorted = malloc(n * sizeof *sorted);
    if (sorted == NULL)
        bench_die("no memory");
    for (i = 0; i < n; i++)
        sorted[i] = values[i];
    qsort(sorted, n, sizeof *sorted, compare);
    at = (size_t)(quantile * (double)n);
    result = sorted[at < n ? at : n - 1];
    free(sorted);
    return result;
}

double bench_median(const double *values, int count)
{
    return bench_quantile(values, count, 0.5);
}

double bench_min(const struct bench_op *op)
{
    double least = op->ns[0];
    int i;

    for (i = 1; i < op->rounds; i++)
        if (op->ns[i] < least)
            least = op->ns[i];
    return least;
}

double bench_ratio(const struct bench_op *a, const struct bench_op *b)
{
    double ratios[BENCH_ROUNDS_MAX];
    int rounds = a->rounds < b->rounds ? a->rounds : b->rounds, i;

    for (i = 0; i < rounds; i++)
        ratios[i] = a->ns[i] / b->ns[i];
    return bench_median(ratios, rounds);
}
