/* bench_assign: flagctl assign as it is run: ids on standard input, answers on standard output, on one processor. */
#include "tests/bench_common.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct batch {
    char program[4096], ids[320];
    const struct bench_store *store;
    size_t count;
};

static void write_ids(const struct batch *b, bool is_long)
{
    FILE *out = fopen(b->ids, "we");
    size_t i;

    if (out == NULL)
        bench_die("%s cannot be written", b->ids);
    for (i = 0; i < b->count; i++) {
        unsigned lot = (unsigned)(i * 2654435761u);

        if (is_long)
            fprintf(out, "%08x%08x%08x%08x\n", lot, lot * 69069u + 1, lot * 1664525u + 7, (unsigned)i);
        else
            fprintf(out, "user-%07u\n", lot % 10000000u);
    }
    if (fclose(out) != 0)
        bench_die("%s cannot be written", b->ids);
}

/* Processor time of one whole run in nanoseconds, reading, writing and the start of the process included. */
static double run_once(const struct batch *b)
{
    const char *arguments[] = {b->program, "assign", b->store->names[BENCH_FLAG], NULL};
    posix_spawn_file_actions_t actions;
    struct rusage used;
    int status = -1;
    pid_t pid;

    if (posix_spawn_file_actions_init(&actions) != 0 ||
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, b->ids, O_RDONLY, 0) != 0 ||
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) != 0)
        bench_die("no memory");
    if (posix_spawn(&pid, b->program, &actions, NULL, (char *const *)(uintptr_t)arguments, environ) == 0)
        (void)wait4(pid, &status, 0, &used);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (status != 0)
        bench_die("flagctl assign failed");
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e9 +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e3;
}

static void measure(const struct batch *b, const char *what, int rounds)
{
    double rates[BENCH_ROUNDS_MAX];
    int round;

    (void)run_once(b);
    for (round = 0; round < rounds; round++)
        rates[round] = (double)b->count * 1e9 / run_once(b);
    bench_row_value(what, BENCH_PER_SECOND, bench_median(rates, rounds), bench_quantile(rates, rounds, 0),
                    '>', 8e6);
}

void bench_group_assign(const struct bench_setup *setup)
{
    struct batch b = {.count = setup->is_quick ? 1000000 : 4000000};
    struct bench_store store;
    int rounds = setup->is_quick ? 3 : 7;

    bench_group("flagctl assign, ids decided in a second");
    (void)snprintf(b.program, sizeof b.program, "%s/tools/flagctl", setup->bin != NULL ? setup->bin : "");
    if (setup->bin == NULL || access(b.program, X_OK) != 0) {
        bench_note("not measured: there is no flagctl");
        return;
    }
    bench_progress("flagctl assign");
    bench_store_open(&store, setup, 1000);
    (void)setenv("FLAGSHM_INSTANCE", store.instance, 1);
    (void)snprintf(b.ids, sizeof b.ids, "%s/ids", setup->dir);
    b.store = &store;
    write_ids(&b, false);
    measure(&b, "ids of 12 bytes", rounds);
    write_ids(&b, true);
    measure(&b, "ids of 32 bytes", rounds);
    bench_note("the whole run of the program over %zu ids, one processor, a file in, /dev/null out; median "
               "and worst",
               b.count);
    (void)unsetenv("FLAGSHM_INSTANCE");
    (void)unlink(b.ids);
    bench_store_close(&store);
}
