/* bench_process: what a process pays that has just begun: the time from main() to its first decision, and private memory. */
#include "tests/bench_common.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Runs a program and reads the number that it prints; below 0: it did not print one. */
static double number_of(const char *const *arguments)
{
    posix_spawn_file_actions_t actions;
    char text[64] = "";
    ssize_t bytes = 0;
    int fds[2], status = 0, error;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) != 0 || posix_spawn_file_actions_init(&actions) != 0)
        bench_die("no pipe");
    (void)posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
    error = posix_spawn(&pid, arguments[0], &actions, NULL, (char *const *)(uintptr_t)arguments, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(fds[1]);
    if (error == 0) {
        bytes = read(fds[0], text, sizeof text - 1);
        (void)waitpid(pid, &status, 0);
    }
    (void)close(fds[0]);
    return error == 0 && bytes > 0 && status == 0 ? strtod(text, NULL) : -1;
}

static void first_decision(const struct bench_setup *setup, const struct bench_store *store)
{
    static const char *const programs[] = {"bench_child", "bench_child_static"};
    static const char *const names[] = {"main() to the first decision", "the same, linked statically"};
    int rounds = setup->is_quick ? 31 : BENCH_ROUNDS_MAX, round, i;
    struct bench_op ops[2] = {{0}};

    for (round = 0; round < rounds; round++)
        for (i = 0; i < 2; i++) {
            char path[4096];
            const char *arguments[] = {path,           "first", store->instance, store->names[BENCH_FLAG],
                                       "user-0000001", NULL};
            double ns;

            (void)snprintf(path, sizeof path, "%s/tests/%s", setup->bin, programs[i]);
            if (access(path, X_OK) != 0)
                continue;
            if ((ns = number_of(arguments)) < 0)
                bench_die("%s does not answer", path);
            ops[i].what = names[i];
            ops[i].ns[ops[i].rounds++] = ns;
        }
    for (i = 0; i < 2; i++)
        if (ops[i].rounds > 0)
            bench_row_value(names[i], BENCH_NS, bench_median(ops[i].ns, ops[i].rounds), bench_min(&ops[i]),
                            '<', 50e3);
}

static void memory(const struct bench_setup *setup, struct bench_store *store)
{
    const char **arguments = calloc(store->count + 4, sizeof *arguments);
    char path[4096];
    double bytes;
    size_t i;

    if (arguments == NULL)
        bench_die("no memory");
    (void)snprintf(path, sizeof path, "%s/tests/bench_child", setup->bin);
    arguments[0] = path;
    arguments[1] = "memory";
    arguments[2] = store->instance;
    for (i = 0; i < store->count; i++)
        arguments[3 + i] = store->names[i];
    if ((bytes = number_of(arguments)) < 0)
        bench_note("private memory was not measured: no /proc/self/smaps_rollup");
    else
        bench_row_value("private memory added", BENCH_BYTES, bytes, -1, '<', 150 * 1024);
    free(arguments);
}

void bench_group_process(const struct bench_setup *setup)
{
    struct bench_store store;

    bench_group("A process that begins, 1000 flags");
    if (setup->bin == NULL) {
        bench_note("not measured: no --bin");
        return;
    }
    bench_progress("a process that begins");
    bench_store_open(&store, setup, 1000);
    first_decision(setup, &store);
    memory(setup, &store);
    bench_note(
        "memory: Private_Clean + Private_Dirty of smaps_rollup, after 10 decisions on each of the flags less "
        "before attaching");
    bench_store_close(&store);
}
