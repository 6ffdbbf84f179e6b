/* doorbell: see the header. */
#include "server/doorbell.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct flagshm_doorbell {
    pthread_t thread;
    sem_t *semaphore;
    int fd;
    bool is_ending; /* atomic */
};

static void tell(struct flagshm_doorbell *bell)
{
    uint64_t one = 1;

    (void)!write(bell->fd, &one, sizeof one); /* full: it is readable already */
}

/* Clients ring once each time the loop arms, so this thread wakes no oftener than the loop wants. Whoever scribbles over the semaphore
 * can make it ring all the time, or never: a pause after each ring bounds the first, the loop's own ticks the second. */
static void *wait_for_rings(void *context)
{
    const struct timespec pause = {0, 500000};
    struct flagshm_doorbell *bell = context;

    while (!__atomic_load_n(&bell->is_ending, __ATOMIC_ACQUIRE)) {
        struct timespec until;

        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        if (sem_clockwait(bell->semaphore, CLOCK_MONOTONIC, &until) == 0) {
            tell(bell);
            (void)nanosleep(&pause, NULL);
        } else if (errno != ETIMEDOUT && errno != EINTR) {
            (void)nanosleep(&(struct timespec){1, 0}, NULL);
        }
    }
    return NULL;
}

int flagshm_doorbell_open(struct flagshm_doorbell **bell, void *semaphore, int event_fd,
                          struct flagshm_error *error)
{
    struct flagshm_doorbell *b = calloc(1, sizeof *b);
    sigset_t all, saved;
    int result;

    *bell = NULL;
    if (b == NULL)
        return flagshm_error_set(error, -ENOMEM, "no memory for the doorbell");
    b->semaphore = semaphore;
    b->fd = event_fd;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* the guard's, should the file be cut short under the semaphore */
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
    (void)sem_post(bell->semaphore);
    (void)pthread_join(bell->thread, NULL);
    free(bell);
}
