/* bench_rollouts: what the benchmarks of rollouts share: a server with so many of them, and who books. */
#ifndef FLAGSHM_TESTS_BENCH_ROLLOUTS_H
#define FLAGSHM_TESTS_BENCH_ROLLOUTS_H

#include "tests/bench_common.h"

#include <sys/types.h>

struct bench_rollouts {
    const struct bench_setup *setup;
    const char *instance;
    char file[300], state[300], socket[300], log[300];
    pid_t server;
    struct flagshm fs;
};

/* Flags f0, f1 and so on, each at 50 % by its plan, its slot open. Ends the program where they do not get there. */
void bench_rollouts_open(struct bench_rollouts *r, const struct bench_setup *setup, const char *instance,
                         unsigned flags, const char *hold);
void bench_rollouts_close(struct bench_rollouts *r);
double bench_rollouts_share(struct bench_rollouts *r, unsigned flag);

/* A call of a user, begun and ended; it fails for each n-th of the users, whatever the arm. False: it has no slot. */
bool bench_book(struct flagshm *fs, const char *flag, unsigned user, unsigned fails_every);

void bench_sleep_ms(long ms);
void bench_end_process(pid_t pid, int signal_number);
void *bench_share(size_t bytes); /* memory that forked processes share; zeros */
void bench_unshare(void *memory, size_t bytes);

/* bench_reach.c: from the outcome that proves harm to each of eight processes. */
void bench_reach(const struct bench_setup *setup);

#endif
