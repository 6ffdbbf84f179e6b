/* doorbell: see the header.
 *
 * A bare futex on a word that clients write: whatever they write, its errors are only errors. (A POSIX semaphore would not do: glibc
 * ends the process, on either side, where the words of a semaphore make no sense; and each waiter that is killed leaks.)
 */
#include "server/doorbell.h"

#include "client/flagshm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct flagshm_doorbell {
    pthread_t thread;
    uint32_t *word; /* in shared memory */
    uint32_t seen;  /* what it was when we began: a ring before the thread runs is a ring too */
    int fd;
    bool is_ending; /* atomic */
};

static void tell(struct flagshm_doorbell *bell)
{
    uint64_t one = 1;

    (void)!write(bell->fd, &one, sizeof one); /* full: it is readable already */
}

/* Clients ring once each time the loop arms, so this thread wakes no oftener than the loop wants. Whoever scribbles over the word
 * can make it ring all the time, or never: a pause after each ring bounds the first, the loop's own ticks the second. */
static void *wait_for_rings(void *context)
{
    static const struct timespec second = {1, 0}, pause = {0, 500000};
    struct flagshm_doorbell *bell = context;
    uint32_t seen = bell->seen, now;

    while (!__atomic_load_n(&bell->is_ending, __ATOMIC_ACQUIRE)) {
        long result;

        now = __atomic_load_n(bell->word, __ATOMIC_ACQUIRE);
        if (now != seen) {
            seen = now;
            tell(bell);
            (void)nanosleep(&pause, NULL);
            continue;
        }
        result = syscall(SYS_futex, bell->word, FLAGSHM_FUTEX_WAIT_, seen, &second, NULL, 0);
        if (result != 0 && errno != ETIMEDOUT && errno != EAGAIN && errno != EINTR)
            (void)nanosleep(&second, NULL);
    }
    return NULL;
}

int flagshm_doorbell_open(struct flagshm_doorbell **bell, uint32_t *word, int event_fd,
                          struct flagshm_error *error)
{
    struct flagshm_doorbell *b = calloc(1, sizeof *b);
    sigset_t all, saved;
    int result;

    *bell = NULL;
    if (b == NULL)
        return flagshm_error_set(error, -ENOMEM, "no memory for the doorbell");
    b->word = word;
    b->seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    b->fd = event_fd;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* the guard's, should the file be cut short under the word */
    (void)pthread_sigmask(SIG_SETMASK, &all, &saved);
    result = -pthread_create(&b->thread, NULL, wait_for_rings, b);
    (void)pthread_sigmask(SIG_SETMASK, &saved, NULL);
    if (result != 0) {
        free(b);
        return flagshm_error_set(error, result, "the doorbell's thread: %s", strerror(-result));
    }
    *bell = b;
    return 0;
}

void flagshm_doorbell_close(struct flagshm_doorbell *bell)
{
    if (bell == NULL)
        return;
    __atomic_store_n(&bell->is_ending, true, __ATOMIC_RELEASE);
    (void)__atomic_fetch_add(bell->word, 1, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, bell->word, FLAGSHM_FUTEX_WAKE_, INT32_MAX, NULL, NULL, 0);
    (void)pthread_join(bell->thread, NULL);
    free(bell);
}
